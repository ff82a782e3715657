//! Keys, and programs that look for one another.

use super::{server, stderr, stdout};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

#[test]
fn keygen_makes_keys_once() {
    let tmp = tempfile::tempdir().unwrap();
    let keys = tmp.path().join("keys");
    let keygen = || {
        server()
            .args(["keygen", "--key-dir"])
            .arg(&keys)
            .output()
            .unwrap()
    };
    let first = keygen();
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    assert!(stdout(&first).contains("client.key"));
    let mode = fs::metadata(keys.join("server.key")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = keygen();
    assert_ne!(second.status.code(), Some(0));
    assert!(
        stderr(&second).contains("server.key"),
        "{}",
        stderr(&second)
    );
}

#[test]
fn a_mistyped_key_directory_was_made_with_keys_in_it() {
    let tmp = tempfile::tempdir().unwrap();
    let typo = tmp.path().join("no-such/keys");
    let client = Command::new(env!("CARGO_BIN_EXE_hydra-client"))
        .args(["--connect", "127.0.0.1:1", "--key-dir"])
        .arg(&typo)
        .output()
        .unwrap();
    let listening = ["--listen=127.0.0.1:0", "--client-timeout", "100ms"];
    let server = server()
        .args(listening)
        .arg("--key-dir")
        .arg(&typo)
        .arg(tmp.path())
        .output()
        .unwrap();
    for (output, part) in [(client, "keys/client.key"), (server, "correct --key-dir")] {
        assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
        assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    }
    assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 0);
}

#[test]
fn a_client_that_cannot_be_reached_is_named() {
    let tmp = tempfile::tempdir().unwrap();
    let mut command = server();
    command.args([
        "--clients",
        "127.0.0.1:1",
        "--connect-timeout",
        "100ms",
        "--key-dir",
    ]);
    let output = command
        .arg(tmp.path().join("keys"))
        .arg(tmp.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("127.0.0.1:1"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_client_that_dials_said_nothing_at_start_or_nothing_more_while_it_tried() {
    let tmp = tempfile::tempdir().unwrap();
    let keys = tmp.path().join("keys");
    let made = server().args(["keygen", "--key-dir"]).arg(&keys).output();
    assert!(made.unwrap().status.success());
    for patience in ["20ms", "1h"] {
        let mut client = Command::new(env!("CARGO_BIN_EXE_hydra-client"))
            .args(["--connect", "127.0.0.1:1", "--connect-timeout", patience])
            .arg("--key-dir")
            .arg(&keys)
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(client.stderr.take().unwrap()).lines();
        let (sender, said) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            for line in lines.take(2).map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let limit = std::time::Duration::from_secs(60);
        let said: Vec<String> = (0..2)
            .map_while(|_| said.recv_timeout(limit).ok())
            .collect();
        client.kill().unwrap();
        client.wait().unwrap();
        reader.join().unwrap();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(
            said[0].contains("dialling the server at 127.0.0.1:1"),
            "{said:?}"
        );
        assert!(
            said[1].contains("nothing listens on 127.0.0.1:1"),
            "{said:?}"
        );
    }
}

#[test]
fn clients_whose_server_was_killed_serve_the_next_one_at_once() {
    let tmp = tempfile::tempdir().unwrap();
    let keys = tmp.path().join("keys");
    let made = server().args(["keygen", "--key-dir"]).arg(&keys).output();
    assert!(made.unwrap().status.success());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap().to_string();
    drop(port);
    let client = Command::new(env!("CARGO_BIN_EXE_hydra-client"))
        .args(["-v", "--listen", &address, "--key-dir"])
        .arg(&keys)
        .stderr(Stdio::piped())
        .spawn();
    let mut client = client.unwrap();
    let mut lines = BufReader::new(client.stderr.take().unwrap()).lines();
    let serve = || {
        let mut command = server();
        command.args(["-vv", "--clients", &address, "--key-dir"]);
        command.arg(&keys);
        command
    };
    // Begins only when another client has come, so it is killed with a job that its client has taken.
    let mut first = serve();
    first.args(["--listen=127.0.0.1:0", "--min-clients", "1"]);
    let mut first = first.arg(tmp.path()).spawn().unwrap();
    let has_begun = lines.any(|line| line.is_ok_and(|line| line.contains("job begins")));
    let rest = std::thread::spawn(move || lines.count());
    first.kill().unwrap();
    first.wait().unwrap();
    let second = serve().arg(tmp.path()).output();
    client.kill().unwrap();
    client.wait().unwrap();
    rest.join().unwrap();
    let second = second.unwrap();
    assert!(has_begun);
    assert_eq!(second.status.code(), Some(0), "{}", stderr(&second));
}
