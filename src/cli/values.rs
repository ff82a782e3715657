//! Values as people write them on a command line: durations, sizes, addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Units of durations and their lengths in milliseconds.
const DURATIONS: [(&str, u64); 7] = [
    ("ms", 1),
    ("s", 1000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 7 * 86_400_000),
    ("y", 365 * 86_400_000),
];

/// Units of sizes and their powers of two.
const SIZES: [(&str, u32); 8] = [
    ("", 0),
    ("B", 0),
    ("K", 10),
    ("M", 20),
    ("G", 30),
    ("T", 40),
    ("P", 50),
    ("E", 60),
];

/// Why a value cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// No duration.
    #[error(
        "'{0}' is not a duration: write a whole number and a unit, like 500ms, 2s, 5m, 12h or 90d"
    )]
    Duration(String),
    /// No size.
    #[error("'{0}' is not a size: write a whole number and a unit of 1024, like 4K, 10M or 2G")]
    Size(String),
    /// A number that no machine can hold.
    #[error("'{0}' is too large")]
    TooLarge(String),
    /// No address to listen on.
    #[error(
        "'{0}' is not an address: write ADDR:PORT, with the address in numbers and a port up to 65535, like \
         0.0.0.0:{1} or [::]:{1}"
    )]
    Address(String, u16),
    /// No mapping.
    #[error("'{0}' is not a mapping: write /AS/THE/SERVER/SAYS=/AS/IT/IS/HERE, two absolute paths")]
    Map(String),
}

/// Reads a duration: a whole number and one of `ms s m h d w y`.
///
/// # Errors
/// When there is no such number or unit, or it is too large.
pub fn duration(text: &str) -> Result<Duration, ValueError> {
    let (number, unit) = split_number(text);
    let unit = DURATIONS.iter().find(|(name, _)| *name == unit);
    let Some((_, millis)) = unit.filter(|_| !number.is_empty()) else {
        return Err(ValueError::Duration(text.to_owned()));
    };
    let value = number
        .parse()
        .ok()
        .and_then(|n: u64| n.checked_mul(*millis));
    let millis = value.ok_or_else(|| ValueError::TooLarge(text.to_owned()))?;
    Ok(Duration::from_millis(millis))
}

/// Reads a duration that is not zero.
///
/// # Errors
/// As [`duration`], and for zero.
pub fn period(text: &str) -> Result<Duration, String> {
    match duration(text) {
        Ok(Duration::ZERO) => Err("it must be longer than nothing".to_owned()),
        Ok(period) => Ok(period),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads a size in bytes: a whole number and one of `B K M G T P E`, or none.
///
/// # Errors
/// When there is no such number or unit, or it is too large.
pub fn size(text: &str) -> Result<u64, ValueError> {
    let (number, unit) = split_number(text);
    let unit = unit.to_ascii_uppercase();
    let unit = SIZES.iter().find(|(name, _)| *name == unit);
    let Some((_, power)) = unit.filter(|_| !number.is_empty()) else {
        return Err(ValueError::Size(text.to_owned()));
    };
    let value = number
        .parse()
        .ok()
        .and_then(|n: u64| n.checked_mul(1 << power));
    value.ok_or_else(|| ValueError::TooLarge(text.to_owned()))
}

/// Reads an address to listen on: `ADDR:PORT`, `ADDR`, or `:PORT` for all addresses of IPv4.
///
/// # Errors
/// When it is none. Names are not looked up.
pub fn listen_address(text: &str, default_port: u16) -> Result<SocketAddr, ValueError> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if let Ok(ip) = bare.unwrap_or(text).parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, default_port));
    }
    let port = text.strip_prefix(':').and_then(|port| port.parse().ok());
    port.map(|port| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
        .ok_or_else(|| ValueError::Address(text.to_owned(), default_port))
}

fn split_number(text: &str) -> (&str, &str) {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("90d"), Ok(Duration::from_secs(90 * 86_400)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn what_is_no_duration_is_named() {
        for bad in ["", "5", "s", "5 m", "-5s", "5x", "1.5s", "5S", "٣s"] {
            assert_eq!(duration(bad), Err(ValueError::Duration(bad.into())));
        }
        let huge = "99999999999999999999d";
        assert_eq!(duration(huge), Err(ValueError::TooLarge(huge.into())));
        assert!(duration("18446744073709551615d").is_err());
        assert!(period("0ms").is_err());
    }

    #[test]
    fn sizes_count_in_1024() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("4K"), Ok(4096));
        assert_eq!(size("10m"), Ok(10 << 20));
        assert_eq!(size("2G"), Ok(2 << 30));
        assert_eq!(size("15E"), Ok(15 << 60));
        assert_eq!(size("16E"), Err(ValueError::TooLarge("16E".into())));
        for bad in ["", "K", "4KB", "4 K", "-1", "1.5G", "4Ki"] {
            assert_eq!(size(bad), Err(ValueError::Size(bad.into())));
        }
    }

    #[test]
    fn addresses_may_leave_out_a_half() {
        let parse = |text| listen_address(text, 8102).map(|address| address.to_string());
        assert_eq!(parse("127.0.0.1:5").as_deref(), Ok("127.0.0.1:5"));
        assert_eq!(parse("127.0.0.1").as_deref(), Ok("127.0.0.1:8102"));
        assert_eq!(parse("[::1]:5").as_deref(), Ok("[::1]:5"));
        assert_eq!(parse("[::]").as_deref(), Ok("[::]:8102"));
        assert_eq!(parse("::1").as_deref(), Ok("[::1]:8102"));
        assert_eq!(parse(":5").as_deref(), Ok("0.0.0.0:5"));
        for bad in ["", "host:5", "1.2.3.4:99999", ":", "[::1", "/data"] {
            assert_eq!(parse(bad), Err(ValueError::Address(bad.into(), 8102)));
        }
    }
}
