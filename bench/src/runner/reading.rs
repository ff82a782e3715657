//! Gets the counts that a command prints out of its output, and says what they should be.

use std::io::{BufRead, BufReader, Read};

use anyhow::Context;
use serde::Serialize;

use crate::totals::Totals;

/// How a number is found in the output.
#[derive(Clone, Copy, Debug)]
pub enum Find {
    /// How many bytes there are.
    Bytes,
    /// How many NUL bytes there are.
    Nuls,
    /// The first whole number of the last line that has one.
    LastLine,
    /// The number at this JSON pointer.
    Json(&'static str),
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Every entry, the root included.
    Entries,
    /// Every entry below the root.
    EntriesBelowRoot,
    /// Regular files.
    Files,
    /// Blocks of all entries in bytes, each inode once.
    UniqueAllocatedBytes,
    /// Blocks of all entries in bytes.
    AllocatedBytes,
}

impl What {
    /// The true number.
    #[must_use]
    pub fn of(self, totals: &Totals) -> u64 {
        match self {
            What::Entries => totals.entries,
            What::EntriesBelowRoot => totals.entries - 1,
            What::Files => totals.files,
            What::UniqueAllocatedBytes => totals.unique_allocated_bytes,
            What::AllocatedBytes => totals.allocated_bytes,
        }
    }
}

/// One number that a command prints.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// What it counts.
    pub what: What,
    /// Where it stands.
    pub find: Find,
}

/// A number beside the one that it should be.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What was counted.
    pub what: What,
    /// What the command says; none if its output has no such number.
    pub got: Option<u64>,
    /// What the oracle says.
    pub expected: u64,
}

impl Check {
    /// Whether the two are the same.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.got == Some(self.expected)
    }
}

/// What is kept of an output: paths are counted and forgotten, the rest is small.
#[derive(Debug, Default)]
pub struct Output {
    bytes: u64,
    nuls: u64,
    kept: Vec<u8>,
}

/// More than any report of a command; lists of paths are cut here.
const KEPT: usize = 16 << 20;

impl Output {
    /// Reads to the end.
    ///
    /// # Errors
    ///
    /// When reading fails.
    pub fn read(from: impl Read) -> std::io::Result<Output> {
        let mut from = BufReader::with_capacity(1 << 20, from);
        let mut output = Output::default();
        loop {
            let chunk = from.fill_buf()?;
            if chunk.is_empty() {
                return Ok(output);
            }
            let len = chunk.len();
            output.bytes += len as u64;
            output.nuls += chunk.iter().filter(|&&byte| byte == 0).count() as u64;
            let room = KEPT - output.kept.len();
            output.kept.extend_from_slice(&chunk[..len.min(room)]);
            from.consume(len);
        }
    }

    /// The number that `find` describes, if it is there.
    #[must_use]
    pub fn number(&self, find: Find) -> Option<u64> {
        match find {
            Find::Bytes => Some(self.bytes),
            Find::Nuls => Some(self.nuls),
            Find::LastLine => {
                let text = String::from_utf8_lossy(&self.kept);
                text.lines().rev().find_map(first_number)
            }
            Find::Json(pointer) => self.json().ok()?.pointer(pointer)?.as_u64(),
        }
    }

    /// The first line that is not empty, as text.
    #[must_use]
    pub fn first_line(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.kept);
        let line = text.lines().find(|line| !line.trim().is_empty())?;
        Some(line.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// The output as a JSON document.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_slice(&self.kept).context("the output is not JSON")
    }

    /// Compares all numbers with the true ones.
    #[must_use]
    pub fn check(&self, readings: &[Reading], totals: &Totals) -> Vec<Check> {
        readings
            .iter()
            .map(|reading| Check {
                what: reading.what,
                got: self.number(reading.find),
                expected: reading.what.of(totals),
            })
            .collect()
    }
}

fn first_number(line: &str) -> Option<u64> {
    line.split(|c: char| !c.is_ascii_digit())
        .find(|part| !part.is_empty())?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str, find: Find) -> Option<u64> {
        Output::read(text.as_bytes()).unwrap().number(find)
    }

    #[test]
    fn numbers_are_found() {
        assert_eq!(number("a\0b\n\0", Find::Nuls), Some(2));
        assert_eq!(number("....", Find::Bytes), Some(4));
        assert_eq!(number("12\t/a/7\n34\t/a\n\n", Find::LastLine), Some(34));
        assert_eq!(number(r#"{"a":{"b":9}}"#, Find::Json("/a/b")), Some(9));
    }

    #[test]
    fn missing_numbers_are_none() {
        assert_eq!(number("", Find::LastLine), None);
        assert_eq!(number(r#"{"a":null}"#, Find::Json("/a")), None);
        assert_eq!(number("{", Find::Json("/a")), None);
    }
}
