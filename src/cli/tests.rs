use super::parse::{Program, Request, Roles};
use super::*;
use crate::test_plugin::{ActingProbe, Probe, ProbeOptions};
use hydra_link::address::HostPort;
use hydra_proto::job::Timing;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

mod refused;

fn environment() -> Environment {
    Environment {
        cwd: Some(PathBuf::from("/home/me")),
        key_dir: Some(PathBuf::from("/home/me/.config/hydra")),
        rust_log: None,
        no_color: false,
        host_name: "here".into(),
        cpus: 3,
        now: UNIX_EPOCH,
    }
}

fn parse(roles: Roles, line: &str) -> Result<Request, UsageError> {
    let registry = Registry::new().with::<Probe>().with::<ActingProbe>();
    let program = Program {
        name: "hydra-server",
        roles,
        registry: &registry,
    };
    let args = line.split_whitespace().map(OsString::from).collect();
    program.parse(args, &environment())
}

fn server(line: &str) -> ServerConfig {
    match parse(Roles::Server, line) {
        Ok(Request::Serve(config)) => *config,
        Ok(_) => panic!("{line}: another role"),
        Err(error) => panic!("{line}: {error}"),
    }
}

fn clients(line: &str) -> Clients {
    match server(line).mode {
        Mode::Clients(clients) => clients,
        Mode::Serial => panic!("{line}: serial"),
    }
}

fn client(line: &str) -> ClientConfig {
    match parse(Roles::Client, line) {
        Ok(Request::Client(config)) => config,
        Ok(_) => panic!("{line}: another role"),
        Err(error) => panic!("{line}: {error}"),
    }
}

fn refusal(roles: Roles, line: &str) -> String {
    match parse(roles, line) {
        Ok(_) => panic!("{line} is accepted"),
        Err(error) => error.to_string(),
    }
}

fn host(name: &str, port: u16) -> HostPort {
    HostPort {
        host: name.to_owned(),
        port,
    }
}

fn roots(config: &ServerConfig) -> Vec<String> {
    let roots = config.job.roots.iter();
    roots
        .map(|root| String::from_utf8_lossy(root.path()).into_owned())
        .collect()
}

fn options(config: &ServerConfig) -> ProbeOptions {
    serde_json::from_slice(&config.job.options).unwrap()
}

#[test]
fn every_option_of_the_server_reaches_the_configuration() {
    let config = server(
        "-x -E *.o -E build/ --enter-snapshots --enter-pseudo --lazy-stat --trust-roots --clients a,b \
         --clients node[3-4] --clients a --listen=127.0.0.1 --min-clients 2 --workers 7 --frontier-memory 2G --wait --key-dir /k \
         --forward-logs --connect-timeout 11s --handshake-timeout 4s --client-timeout 2m --beat 2s \
         --dead-after 6s --grace 16s --lease 9s --commit-interval 300ms --stall-timeout 7m --json --rows out \
         --log-level debug probe --older 5d data",
    );
    let walk = &config.job.walk;
    assert_eq!(walk.excludes, ["*.o", "build"]);
    assert!(walk.one_file_system && walk.snapshots && walk.pseudo);
    assert!(walk.lazy_stat && walk.trust_roots);
    let seconds = Duration::from_secs;
    assert_eq!(
        config.job.timing,
        Timing {
            beat: seconds(2),
            dead_after: seconds(6),
            grace: seconds(16),
            lease: seconds(9),
            commit_interval: Duration::from_millis(300),
            stall: seconds(420),
            ..Timing::default()
        }
    );
    assert_eq!(
        config.mode,
        Mode::Clients(Clients {
            embedded_workers: Some(7),
            hosts: ["a", "b", "node3", "node4"]
                .map(|name| host(name, 8101))
                .to_vec(),
            listen: Some(host("127.0.0.1", 8102)),
            min_clients: 2,
            connect_timeout: seconds(11),
            handshake_timeout: seconds(4),
            client_timeout: seconds(120),
            frontier_memory: 2 << 30,
            wait: true,
            key_dir: Some("/k".into()),
            forward_logs: true,
        })
    );
    assert_eq!(
        config.output,
        Output {
            report: ReportShape::Json,
            rows: Some(RowsTo::File("out".into())),
            color: true,
        }
    );
    assert_eq!(config.log.filter, "debug");
    assert_eq!(options(&config).older, seconds(5 * 86_400));
    assert_eq!(roots(&config), ["/home/me/data"]);
}

#[test]
fn the_defaults_are_the_design_s() {
    let config = server("/data");
    assert_eq!(config.job.timing, Timing::default());
    assert_eq!(config.job.walk, Default::default());
    assert_eq!(
        (config.job.plugin.as_str(), config.job.acts),
        ("probe", false)
    );
    let clients = clients("/data");
    assert_eq!(clients.embedded_workers, Some(3));
    assert_eq!((clients.listen, clients.min_clients), (None, 0));
    assert_eq!(clients.connect_timeout, Duration::from_secs(10));
    assert_eq!(clients.handshake_timeout, Duration::from_secs(3));
    assert_eq!(clients.key_dir, Some("/home/me/.config/hydra".into()));
    assert_eq!(config.output.report, ReportShape::Text);
}

#[test]
fn options_stand_before_or_after_the_paths() {
    for line in [
        "--facts --json /a /b",
        "/a --facts /b --json",
        "probe /a /b --facts --json",
        "--json probe --facts /a /b",
        "--facts probe /a --json /b",
    ] {
        let config = server(line);
        assert_eq!(roots(&config), ["/a", "/b"], "{line}");
        assert!(options(&config).facts, "{line}");
        assert_eq!(config.output.report, ReportShape::Json, "{line}");
    }
}

#[test]
fn only_the_first_operand_can_name_a_plugin() {
    assert_eq!(
        roots(&server("probe probe act")),
        ["/home/me/probe", "/home/me/act"]
    );
    assert_eq!(
        roots(&server("./act keygen")),
        ["/home/me/act", "/home/me/keygen"]
    );
    assert_eq!(roots(&server("-- probe -x")), ["/home/me/-x"]);
}

#[test]
fn an_unknown_first_operand_is_wrong_usage_that_names_the_others() {
    let text = refusal(Roles::Server, "data /x");
    for part in ["'data'", "probe, act, keygen", "./data"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(refusal(Roles::Server, "-").contains("'-'"));
}

#[test]
fn listen_on_the_server_takes_no_path_for_an_address() {
    let config = server("--listen probe /data");
    assert_eq!(roots(&config), ["/data"]);
    let clients = clients("--listen /data");
    assert_eq!(clients.listen, Some(host("0.0.0.0", 8102)));
    assert_eq!(clients.embedded_workers, None, "only others walk");
}

#[test]
fn every_option_of_the_client_reaches_the_configuration() {
    let config = client(
        "--connect host:9 --once --workers 5 --frontier-memory 64M --name me --map /data=/mnt/a/ --map /b=/c --allow-root /mnt \
         --allow-root rel --allow-rows-dir rows --allow act --key-dir /k --connect-timeout 2s --handshake-timeout 1s -v",
    );
    assert_eq!(
        config,
        ClientConfig {
            direction: Direction::Connect(host("host", 9)),
            once: true,
            workers: 5,
            frontier_memory: 64 << 20,
            name: "me".into(),
            maps: vec![
                (b"/data".to_vec(), b"/mnt/a".to_vec()),
                (b"/b".to_vec(), b"/c".to_vec())
            ],
            allow_roots: vec![b"/mnt".to_vec(), b"/home/me/rel".to_vec()],
            allow_rows_dirs: vec![b"/home/me/rows".to_vec()],
            allow_plugins: vec!["act".into()],
            key_dir: Some("/k".into()),
            connect_timeout: Duration::from_secs(2),
            handshake_timeout: Duration::from_secs(1),
            log: LogConfig {
                filter: "debug".into(),
                quiet: false,
                detailed: true,
            },
        }
    );
}

#[test]
fn the_client_takes_an_address_in_both_forms() {
    for (line, address) in [
        ("--listen", "0.0.0.0:8101"),
        ("--listen 127.0.0.1:7", "127.0.0.1:7"),
        ("--listen=[::1]", "[::1]:8101"),
        ("--listen --once", "0.0.0.0:8101"),
    ] {
        let expected = Direction::Listen(HostPort::parse(address, 1).unwrap());
        assert_eq!(client(line).direction, expected, "{line}");
    }
    assert_eq!(
        (client("--listen").name.as_str(), client("--listen").workers),
        ("here", 3)
    );
}

#[test]
fn one_program_plays_all_roles() {
    assert!(matches!(
        parse(Roles::All, "client --listen"),
        Ok(Request::Client(_))
    ));
    assert!(matches!(
        parse(Roles::All, "server /data"),
        Ok(Request::Serve(_))
    ));
    assert!(matches!(
        parse(Roles::All, "--clients a act /d"),
        Err(UsageError::Plugin(_))
    ));
    assert!(matches!(
        parse(Roles::All, "keygen --key-dir /k"),
        Ok(Request::Keygen(_))
    ));
    assert!(matches!(
        parse(Roles::Server, "client --listen"),
        Err(UsageError::UnknownName { .. })
    ));
}

#[test]
fn help_names_the_plugins_and_a_plugin_s_help_its_options() {
    let help = |line: &str| match parse(Roles::Server, line) {
        Err(UsageError::Clap(error)) => error.to_string(),
        _ => panic!("{line} is no help"),
    };
    let general = help("--help");
    assert!(
        general.contains("probe") && general.contains("--clients"),
        "{general}"
    );
    assert!(!general.contains("--older"), "{general}");
    let own = help("probe --help");
    assert!(
        own.contains("--older") && !own.contains("--clients"),
        "{own}"
    );
}

#[test]
fn the_help_of_a_program_with_one_plugin_left_out_its_options_and_the_client() {
    let registry = Registry::new().with::<Probe>();
    let help = |roles| {
        let program = Program {
            name: "prober",
            roles,
            registry: &registry,
        };
        match program.parse(vec!["--help".into()], &environment()) {
            Err(UsageError::Clap(error)) => error.to_string(),
            _ => panic!("no help"),
        }
    };
    let all = help(Roles::All);
    for part in [
        "prober [OPTIONS] PATH",
        "prober client --listen | --connect HOST",
        "prober client --help",
        "--older",
        "--clients",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
    assert!(!help(Roles::Server).contains("prober client"));
}

#[test]
fn a_plugin_s_option_cannot_hide_one_of_hydra_s() {
    #[derive(Clone, clap::Args, serde::Serialize, serde::Deserialize)]
    struct Clashing {
        #[arg(long)]
        json: bool,
    }
    let command = <Clashing as clap::Args>::augment_args(clap::Command::new("x"));
    let general =
        <super::server_args::ServerArgs as clap::Args>::augment_args(clap::Command::new("y"));
    let clash = super::parse::clash(&general, &command);
    assert_eq!(clash.as_deref(), Some("--json"));
}

#[test]
fn a_server_that_dials_waited_for_somebody_to_dial_in_too() {
    for (line, least) in [
        ("--listen /x", 1),
        ("--listen --clients a /x", 0),
        ("--listen --workers 2 /x", 0),
        ("--listen --clients a --min-clients 3 /x", 3),
    ] {
        assert_eq!(clients(line).min_clients, least, "{line}");
    }
}
