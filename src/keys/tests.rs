//! Key files made, read back, and refused.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

fn dir() -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join(".config/hydra");
    (parent, dir)
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_generated_key_is_read_back_and_private() {
    let (_parent, dir) = dir();
    let key = generate(&dir).unwrap();
    assert!(load_server(&dir).unwrap() == key);
    assert!(load_client(&dir).unwrap() == key.client_key());
    assert_eq!(entries(&dir), [CLIENT_KEY_FILE, SERVER_KEY_FILE]);
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join(SERVER_KEY_FILE)), 0o600);
    assert_eq!(mode(&dir.join(CLIENT_KEY_FILE)), 0o600);
}

#[test]
fn the_text_of_the_files_is_fixed() {
    let key = ServerKey::new(&[1; 32], &[2; 32]).unwrap();
    assert_eq!(
        server_text(&key).as_str(),
        "hydra-server-key 1\n\
         private AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n\
         psk AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\n"
    );
    assert_eq!(
        client_text(&key.client_key()).as_str(),
        "hydra-client-key 1\n\
         psk AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\n\
         server pOCSkrZRwni5dyxWn1+puxPZBrRqtoyd+dwrRAn4ogk=\n"
    );
}

#[test]
fn a_key_is_never_replaced() {
    let (_parent, dir) = dir();
    let key = generate(&dir).unwrap();
    assert!(matches!(generate(&dir), Err(KeyFileError::Exists { .. })));
    fs::remove_file(dir.join(CLIENT_KEY_FILE)).unwrap();
    assert!(matches!(generate(&dir), Err(KeyFileError::Exists { .. })));
    assert!(load_server(&dir).unwrap() == key);
    let refused = file::create(&dir, SERVER_KEY_FILE, "other");
    assert!(matches!(refused, Err(KeyFileError::Exists { .. })));
    assert!(load_server(&dir).unwrap() == key);
    assert_eq!(entries(&dir), [SERVER_KEY_FILE]);
}

#[test]
fn a_server_without_a_key_makes_one_and_keeps_it() {
    let (_parent, dir) = dir();
    let (made, is_new) = load_or_generate(&dir).unwrap();
    assert!(is_new);
    let (kept, is_new) = load_or_generate(&dir).unwrap();
    assert!(!is_new && kept == made);

    fs::remove_file(dir.join(CLIENT_KEY_FILE)).unwrap();
    load_or_generate(&dir).unwrap();
    assert!(load_client(&dir).unwrap() == made.client_key());
}

#[test]
fn a_mistyped_directory_was_made_with_all_above_it() {
    let parent = tempfile::tempdir().unwrap();
    let typo = parent.path().join("ect/hydra");
    for error in [
        load_or_generate(&typo).unwrap_err(),
        generate(&typo).unwrap_err(),
        load_client(&typo).unwrap_err(),
    ] {
        assert!(error.to_string().contains(typo.to_str().unwrap()));
    }
    assert_eq!(entries(parent.path()), [""; 0]);
    load_or_generate(&parent.path().join("hydra")).unwrap();
    assert_eq!(entries(parent.path()), ["hydra"]);
}

/// What a process left behind when it died does not keep the next one from making its key.
#[test]
fn a_left_over_temporary_file_is_in_nobodys_way() {
    let (_parent, dir) = dir();
    file::create_dir(&dir).unwrap();
    fs::write(dir.join(".server.key.0"), "half").unwrap();
    let key = generate(&dir).unwrap();
    assert!(load_server(&dir).unwrap() == key);
}

#[test]
fn servers_that_start_at_once_agree_on_a_key() {
    let (_parent, dir) = dir();
    let keys: Vec<(ServerKey, bool)> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| load_or_generate(&dir).unwrap()))
            .collect();
        starts.into_iter().map(|s| s.join().unwrap()).collect()
    });
    assert!(keys.iter().all(|(key, _)| *key == keys[0].0));
    assert_eq!(keys.iter().filter(|(_, is_new)| *is_new).count(), 1);
    assert_eq!(entries(&dir), [CLIENT_KEY_FILE, SERVER_KEY_FILE]);
    assert!(load_client(&dir).unwrap() == keys[0].0.client_key());
}

#[test]
fn a_server_leaves_the_key_of_another_server_alone() {
    let (_parent, dir) = dir();
    let key = generate(&dir).unwrap();
    fs::remove_file(dir.join(SERVER_KEY_FILE)).unwrap();
    let refused = load_or_generate(&dir).unwrap_err();
    assert!(matches!(refused, KeyFileError::OtherServers { .. }));
    assert!(load_client(&dir).unwrap() == key.client_key());
    assert_eq!(entries(&dir), [CLIENT_KEY_FILE]);
}

#[test]
fn a_missing_key_is_named_with_what_to_do() {
    let (_parent, dir) = dir();
    let path = dir.join(CLIENT_KEY_FILE).display().to_string();
    assert_eq!(
        load_client(&dir).unwrap_err().to_string(),
        format!(
            "no client key at {path}: copy client.key from the server's key directory \
             (there usually ~/.config/hydra/client.key) to this path"
        )
    );
    let error = load_server(&dir).unwrap_err();
    assert!(matches!(error, KeyFileError::NoServerKey { .. }));
    assert!(!dir.exists(), "looking for a key made a directory");
}

#[test]
fn a_mode_that_lets_others_in_is_refused() {
    let (_parent, dir) = dir();
    generate(&dir).unwrap();
    let path = dir.join(CLIENT_KEY_FILE);
    for loose in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601] {
        chmod(&path, loose);
        let error = load_client(&dir).unwrap_err();
        assert!(matches!(error, KeyFileError::Mode { mode, .. } if mode == loose));
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
    for tight in [0o600, 0o400] {
        chmod(&path, tight);
        load_client(&dir).unwrap();
    }
    for loose in [0o770, 0o702, 0o1777] {
        chmod(&dir, loose);
        let error = load_client(&dir).unwrap_err();
        assert!(matches!(error, KeyFileError::Mode { .. }));
        assert!(error.to_string().contains("chmod 700"), "{error}");
    }
    chmod(&dir, 0o755);
    load_client(&dir).unwrap();
}

#[test]
fn somebody_elses_file_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (_parent, dir) = dir();
    generate(&dir).unwrap();
    let path = dir.join(SERVER_KEY_FILE);
    std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
    let error = load_server(&dir).unwrap_err();
    assert!(matches!(error, KeyFileError::Owner { owner: 12_345, .. }));
    std::os::unix::fs::chown(&path, Some(0), None).unwrap();
    load_server(&dir).unwrap();
    std::os::unix::fs::chown(&dir, Some(12_345), None).unwrap();
    let error = load_server(&dir).unwrap_err();
    assert!(matches!(error, KeyFileError::Owner { owner: 12_345, .. }));
}

#[test]
fn what_is_not_a_regular_file_is_refused_at_once() {
    let (_parent, dir) = dir();
    generate(&dir).unwrap();
    let path = dir.join(CLIENT_KEY_FILE);
    let elsewhere = dir.join("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    symlink(&elsewhere, &path).unwrap();
    let error = load_client(&dir).unwrap_err();
    assert!(matches!(error, KeyFileError::Symlink { .. }), "{error}");

    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let error = load_client(&dir).unwrap_err();
    assert!(matches!(error, KeyFileError::NotAFile { .. }), "{error}");

    fs::remove_dir(&path).unwrap();
    let private = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, private).unwrap();
    let error = load_client(&dir).unwrap_err();
    assert!(matches!(error, KeyFileError::NotAFile { .. }), "{error}");

    fs::remove_file(&path).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let error = load_client(&dir).unwrap_err();
    assert!(matches!(error, KeyFileError::NotAFile { .. }), "{error}");
}

#[test]
fn garbage_is_refused_and_said_to_be() {
    let key = ServerKey::new(&[1; 32], &[2; 32]).unwrap();
    let good = client_text(&key.client_key()).to_string();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "its first line is another"),
        (b"hello\n".to_vec(), "its first line is another"),
        (vec![0xff; 100], "it is not text"),
        (
            b"hydra-client-key 2\n".to_vec(),
            "its first line is another",
        ),
        (server_text(&key).as_bytes().to_vec(), "it is a server key"),
        (
            b"hydra-client-key 1\n".to_vec(),
            "a part is missing or damaged",
        ),
        (
            good.replace("psk", "server").into(),
            "a part is missing or damaged",
        ),
        (good.replace('=', "").into(), "a part is missing or damaged"),
        (
            good.replace("I=", "IAAA").into(),
            "a part is missing or damaged",
        ),
        (
            good.replace("AgIC", "****").into(),
            "a part is missing or damaged",
        ),
        (format!("{good}more").into(), "something follows the key"),
    ];
    let (_parent, dir) = dir();
    generate(&dir).unwrap();
    let path = dir.join(CLIENT_KEY_FILE);
    for (bytes, expected) in cases {
        fs::write(&path, &bytes).unwrap();
        match load_client(&dir).unwrap_err() {
            KeyFileError::Garbage { problem, .. } => assert_eq!(problem, expected),
            error => panic!("{error}"),
        }
    }
    fs::write(&path, good.replace('\n', "\r\n") + "\n").unwrap();
    assert!(load_client(&dir).unwrap() == key.client_key());
}

/// A file that is too long is refused even if all that is too much are empty lines.
#[test]
fn an_oversized_file_is_refused() {
    let (_parent, dir) = dir();
    let key = generate(&dir).unwrap();
    let long = client_text(&key.client_key()).to_string() + &"\n".repeat(5000);
    fs::write(dir.join(CLIENT_KEY_FILE), long).unwrap();
    let error = load_client(&dir).unwrap_err();
    assert!(matches!(error, KeyFileError::Oversized { .. }), "{error}");
}

#[test]
fn the_default_directory_follows_the_user() {
    let default = |xdg: Option<&str>, home: Option<&str>| {
        default_key_dir(xdg.map(OsStr::new), home.map(OsStr::new))
    };
    let xdg = Some(PathBuf::from("/xdg/hydra"));
    let home = Some(PathBuf::from("/home/a/.config/hydra"));
    assert_eq!(default(Some("/xdg"), Some("/home/a")), xdg);
    assert_eq!(default(Some("/xdg"), None), xdg);
    assert_eq!(default(None, Some("/home/a")), home);
    assert_eq!(default(Some(""), Some("/home/a")), home);
    assert_eq!(default(Some("relative"), Some("/home/a")), home);
    assert_eq!(default(None, Some("")), None);
    assert_eq!(default(None, None), None);
}
