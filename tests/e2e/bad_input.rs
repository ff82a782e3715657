//! What users and strangers get wrong: one sentence that names the thing and what to do, and the right status.

use super::common::{Gate, Lab, Process, Ran, forest, lab::listening, without_run};
use hydra_link::address::HostPort;
use hydra_link::{Timeouts, dial};
use hydra_proto::codec;
use hydra_proto::handshake::Key;
use hydra_proto::message::{Hello, HelloHeader, PROTOCOL_VERSION, Up};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;

/// One sentence on standard error, and nothing else anywhere.
fn assert_complains(ran: &Ran, status: i32, parts: &[&str]) {
    ran.assert_status(status);
    for part in parts {
        ran.assert_says(part);
    }
    assert_eq!(ran.stdout, "");
    assert_eq!(ran.stderr.trim().lines().count(), 1, "{}", ran.stderr);
}

fn dialling(lab: &Lab, clients: &str) -> Ran {
    let mut server = lab.audit();
    server.args(["--connect-timeout", "300ms", "--handshake-timeout", "300ms"]);
    server.args(["--clients", clients, "./tree"]);
    lab.run(server)
}

#[test]
fn clients_that_cannot_be_reached_are_named_with_what_to_do() {
    let lab = Lab::new();
    fs::create_dir(lab.path("tree")).unwrap();
    let ran = dialling(&lab, "no-such-host.invalid");
    assert_complains(
        &ran,
        4,
        &["no-such-host.invalid", "does not resolve", "check"],
    );
    let ran = dialling(&lab, "127.0.0.1:1");
    assert_complains(&ran, 4, &["127.0.0.1:1", "hydra-client --listen"]);

    // Something else listens there: it says nothing, or talks, or hangs up.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let ran = dialling(&lab, &address);
    assert_complains(&ran, 4, &[&address, "wrong key, or not Hydra"]);
    let talks = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = talks.local_addr().unwrap().to_string();
    let talker = std::thread::spawn(move || {
        let (mut stream, _) = talks.accept().unwrap();
        stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let ran = dialling(&lab, &address);
    assert_complains(&ran, 4, &[&address, "not as Hydra", "port"]);
    talker.join().unwrap();

    // Beside a client that can be used they are a warning.
    let (_client, good) = lab.listen(&[]);
    let ran = dialling(&lab, &format!("127.0.0.1:1,{good}"));
    ran.assert_status(0)
        .assert_says("going on without client 127.0.0.1:1");
}

#[test]
fn a_wrong_key_is_told_on_both_sides_and_the_client_serves_on() {
    let (lab, other) = (Lab::new(), Lab::new());
    fs::create_dir(lab.path("tree")).unwrap();
    let (_client, address) = lab.listen(&[]);
    let mut stranger = other.audit();
    stranger.args(["--connect-timeout", "300ms", "--handshake-timeout", "300ms"]);
    stranger.args(["--clients", &address, "/"]);
    let ran = other.run(stranger);
    assert_complains(&ran, 4, &[&address, "wrong key", "client.key"]);
    dialling(&lab, &address).assert_status(0);

    let mut server = lab.audit();
    server.args(["-v", "--listen=127.0.0.1:0", "./tree"]);
    let mut server = Process::start(server);
    let line = server.line("listening for clients");
    let address = line.rsplit('=').next().unwrap();
    let mut client = other.client();
    client.args(["-q", "--handshake-timeout", "300ms", "--connect", address]);
    // -v is there already, and the two do not go together.
    let ran = other.run(without(client, "-v"));
    assert_complains(&ran, 4, &[address, "wrong key", "client.key"]);
    let mut client = lab.client();
    client.args(["--once", "--connect", address]);
    let client = Process::start(client);
    server.finish().assert_status(0);
    client.finish().assert_status(0);
}

/// The same command without one of its arguments.
fn without(command: std::process::Command, argument: &str) -> std::process::Command {
    let mut other = std::process::Command::new(command.get_program());
    other.args(command.get_args().filter(|one| *one != argument));
    let variables = command.get_envs();
    other.envs(variables.filter_map(|(name, value)| Some((name, value?))));
    other.stdin(std::process::Stdio::null());
    other
}

#[test]
fn keys_that_cannot_be_used_are_named() {
    let lab = Lab::new();
    fs::create_dir(lab.path("tree")).unwrap();
    let key = lab.keys().join("server.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let ran = dialling(&lab, "127.0.0.1:1");
    assert_complains(&ran, 4, &[key.to_str().unwrap(), "chmod"]);
    fs::write(&key, "nonsense").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let ran = dialling(&lab, "127.0.0.1:1");
    assert_complains(&ran, 4, &[key.to_str().unwrap()]);

    let empty = lab.path("empty");
    let mut client = lab.command(env!("CARGO_BIN_EXE_hydra-client"));
    client
        .args(["--listen", "127.0.0.1:0", "--key-dir"])
        .arg(&empty);
    let ran = lab.run(client);
    assert_complains(&ran, 4, &[empty.to_str().unwrap(), "client.key", "copy"]);

    let mut server = lab.command(env!("CARGO_BIN_EXE_hydra-server"));
    server.args([
        "--clients",
        "127.0.0.1:1",
        "--connect-timeout",
        "10ms",
        "--key-dir",
    ]);
    server.arg(&empty).arg("./tree");
    lab.run(server)
        .assert_status(4)
        .assert_says("made new keys");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let lab = Lab::new();
    fs::create_dir(lab.path("tree")).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut client = lab.client();
    client.args(["--listen", &address]);
    assert_complains(&lab.run(client), 4, &[&address]);
    let mut server = lab.audit();
    server.arg(format!("--listen={address}")).arg("./tree");
    assert_complains(&lab.run(server), 4, &[&address]);
}

#[test]
fn wrong_usage_is_named() {
    let lab = Lab::new();
    fs::write(lab.path("hosts"), "good\nbad host name\n").unwrap();
    let server: [(&[&str], &[&str]); 8] = [
        (&["nonsense", "/"], &["nonsense", "audit, count"]),
        (
            &["--clients", "node[6-3]", "/"],
            &["--clients", "node[6-3]"],
        ),
        (&["--clients", "node[1-", "/"], &["--clients", "node[1-"]),
        (&["--clients", "a:99999", "/"], &["--clients", "99999"]),
        (
            &["--hostfile", "hosts", "/"],
            &["--hostfile", "bad host name"],
        ),
        (&["--hostfile", "nowhere", "/"], &["--hostfile", "nowhere"]),
        (&["-E", "a{b", "/"], &["a{b"]),
        (&["--listen=nonsense", "/"], &["nonsense"]),
    ];
    for (arguments, parts) in server {
        let mut server = lab.server();
        server.args(arguments);
        let ran = lab.run(server);
        ran.assert_status(2);
        parts.iter().for_each(|part| {
            ran.assert_says(part);
        });
        assert_eq!(ran.stdout, "");
    }
    for arguments in [
        &["--connect", "a:99999"][..],
        &["--connect", "a:0"],
        &["--map", "nonsense"],
        &["--allow", "nonsense"],
    ] {
        let mut client = lab.client();
        client.args(arguments);
        if arguments[0] != "--connect" {
            client.args(["--listen", "127.0.0.1:0"]);
        }
        lab.run(client).assert_status(2).assert_says(arguments[1]);
    }
}

#[test]
fn missing_roots_show_in_the_status() {
    let lab = Lab::new();
    forest(&lab.path("tree"), 20);
    let (_clients, list) = lab.listen_all(2, &[]);
    for more in [&["--workers", "2"][..], &["--clients", &list]] {
        let run = |roots: &[&str]| {
            let mut server = lab.audit();
            server.args(more).args(roots);
            lab.run(server)
        };
        let alone = run(&["./missing"]);
        let report = alone.assert_status(4).report();
        assert_eq!(report["complete"], false);
        let path = lab.path("missing");
        let first = &report["errors"]["first"][0];
        assert_eq!(first["path"], path.to_str().unwrap());
        assert_eq!(first["error"], "ENOENT");
        let beside = run(&["./missing", "./tree"]);
        let report = beside.assert_status(1).report();
        assert_eq!(report["complete"], true);
        assert_eq!(report["errors"]["count"], 1);
        let tree = lab.serial(&[], &[&lab.path("tree")]);
        assert_eq!(report["totals"], tree["totals"]);
        let both = lab.serial(&[], &[&path, &lab.path("tree")]);
        assert_eq!(without_run(report), both);
    }
}

#[test]
fn rows_that_cannot_be_written_are_named_before_the_walk() {
    let lab = Lab::new();
    fs::create_dir(lab.path("tree")).unwrap();
    let mut check = lab.example("check", &["--rows", "/no/such/dir/rows"]);
    check.arg("./tree");
    assert_complains(
        &lab.run(check),
        2,
        &["--rows: cannot write /no/such/dir/rows"],
    );
}

#[test]
fn an_allowed_root_that_is_not_there_was_not_mentioned() {
    let lab = Lab::new();
    let mut client = lab.command(env!("CARGO_BIN_EXE_hydra-client"));
    client.arg("--key-dir").arg(lab.keys());
    client.args(["--listen", "127.0.0.1:0", "--allow-root", "./nowhere"]);
    let mut client = Process::start(client);
    let line = client.line("--allow-root");
    let path = lab.path("nowhere");
    let named = format!("hydra-client: warning: --allow-root {}", path.display());
    assert!(line.starts_with(&named), "{line}");
}

#[test]
fn a_client_repeated_itself_while_it_waited_for_the_next_job() {
    let lab = Lab::new();
    fs::create_dir(lab.path("tree")).unwrap();
    let start = |once: bool| {
        let mut server = lab.audit();
        server.args(["-v", "--listen=127.0.0.1:0", "./tree"]);
        let mut server = Process::start(server);
        let line = server.line("listening for clients");
        let address = line.rsplit('=').next().unwrap().to_owned();
        let mut client = lab.command(env!("CARGO_BIN_EXE_hydra-client"));
        client.arg("--key-dir").arg(lab.keys());
        client.args(["--connect", &address]);
        client.args(once.then_some("--once"));
        (server, Process::start(client), address)
    };
    let (server, mut client, address) = start(false);
    client.line("hydra-client: waiting for the next job at ");
    server.finish().assert_status(0);
    // It is dialling in vain all the while; when it has found the next server, it has said nothing of that.
    let mut next = lab.audit();
    next.args([&format!("--listen={address}"), "./tree"]);
    lab.run(next).assert_status(0);
    client.line("waiting for the next job");
    client.signal(rustix::process::Signal::TERM);
    let ran = client.finish();
    ran.assert_status(0);
    let lines: Vec<_> = ran.stderr.lines().collect();
    assert!(!ran.stderr.contains("still trying"), "{lines:?}");
    // Whom it dials, and the begin, the end and the waiting of two jobs.
    assert_eq!(lines.len(), 7, "{lines:?}");

    let (server, client, _) = start(true);
    server.finish().assert_status(0);
    client.finish().assert_status(0);
}

/// What strangers send: nothing, garbage, half a frame, too long a frame.
const RUBBISH: [&[u8]; 4] = [
    b"",
    b"GET / HTTP/1.1\r\nHost: hydra\r\n\r\n",
    b"\x30\x00\x00\x00half",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
];

#[test]
fn strangers_disturb_no_job() {
    let lab = Lab::new();
    fs::create_dir(lab.path("tree")).unwrap();
    for number in 0..6 {
        fs::write(lab.path(format!("tree/{number}")), "").unwrap();
    }
    let gate = Gate::new(&lab);
    let mut client = lab.example("exec", &["client", "-v", "--listen", "127.0.0.1:0"]);
    client.args(["--allow", "exec", "--workers", "1"]);
    let (client, address) = listening(client);
    let mut server = lab.example("exec", &["-v", "--json", "--listen=127.0.0.1:0"]);
    server.args(["--clients", &address, "--min-clients", "0"]);
    let server = {
        // At least one client is waited for with --listen; it is the one that is dialled.
        let mut server = without(server, "0");
        server = without(server, "--min-clients");
        server.current_dir(lab.path(""));
        server.args(["--connect-timeout", "10s", "--min-clients", "1"]);
        server.args(gate.arguments()).arg("./tree");
        server
    };
    let mut server = Process::start(server);
    let line = server.line("listening for clients");
    let port = line.rsplit('=').next().unwrap();
    let mut second = lab.example("exec", &["client", "--workers", "1", "--allow", "exec"]);
    second.args(["--connect", port, "--once", "--name", "second"]);
    let _second = Process::start(second);
    gate.reached();
    let mut strangers = Vec::new();
    for number in 0..200 {
        for target in [address.as_str(), port] {
            let mut stranger = TcpStream::connect(target).unwrap();
            // Whoever is over the limit may be cut off already.
            let _ = stranger.write_all(RUBBISH[number % RUBBISH.len()]);
            strangers.push(stranger);
        }
    }
    gate.open(6);
    let ran = server.finish();
    assert_eq!(ran.assert_status(0).report()["totals"]["files"], 6);
    let status = format!("/proc/{}/status", client.pid().as_raw_nonzero());
    let status = fs::read_to_string(status).unwrap();
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    let kib: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < 64 << 10, "{peak}");
    // No stranger hears anything.
    drop(client);
    for mut stranger in strangers {
        let mut heard = Vec::new();
        let _ = stranger.read_to_end(&mut heard);
        assert_eq!(heard, b"");
    }
}

#[test]
fn a_client_of_another_version_is_refused_with_a_sentence() {
    let lab = Lab::new();
    fs::create_dir(lab.path("tree")).unwrap();
    for (protocol, age) in [(PROTOCOL_VERSION + 1, "newer"), (0, "older")] {
        let mut server = lab.audit();
        server.args(["-v", "--listen=127.0.0.1:0", "./tree"]);
        let mut server = Process::start(server);
        let line = server.line("listening for clients");
        let address = line.rsplit('=').next().unwrap();
        let key = hydra::keys::load_client(&lab.keys()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let answer = runtime.block_on(async {
            let address = HostPort::parse(address, 1).unwrap();
            let connection = dial(&address, &Key::Client(key), &Timeouts::default())
                .await
                .unwrap();
            let (mut reader, mut writer) = connection.split();
            let hello = Up::Hello(Hello {
                header: HelloHeader {
                    protocol,
                    release: "9.9.9".to_owned(),
                },
                name: "stranger".to_owned(),
                workers: 1,
                nonce: 1,
            });
            writer.send(&codec::encode(&hello).unwrap()).await.unwrap();
            reader.next().await
        });
        let line = server.line("9.9.9");
        assert!(line.contains(age), "{line}");
        assert!(answer.is_ok_and(|frame| frame.is_some()), "it is told why");
        // The job goes on with a client of its own version.
        let mut client = lab.client();
        client.args(["--once", "--connect", address]);
        let _client = Process::start(client);
        server.finish().assert_status(0);
    }
}
