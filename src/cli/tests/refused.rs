//! What is refused, and what is said of it.

use super::*;

#[test]
fn another_plugin_s_options_are_unknown() {
    assert!(refusal(Roles::Server, "act --facts /a").contains("--facts"));
    assert!(refusal(Roles::Server, "--really act /a").contains("--really"));
}

#[test]
fn a_plugin_that_acts_sees_the_tree_as_it_is() {
    let text = refusal(Roles::Server, "act --lazy-stat /a");
    assert!(
        text.contains("--lazy-stat cannot be used with act"),
        "{text}"
    );
}

#[test]
fn only_a_plugin_that_acts_has_intents() {
    let text = refusal(Roles::Server, "act --intent /a");
    assert!(text.contains("only there to be named"), "{text}");
    let text = refusal(Roles::Server, "probe --intent /a");
    assert!(
        text.contains("--intent cannot be used with probe"),
        "{text}"
    );
    let text = refusal(Roles::Server, "act --intent --serial /a");
    assert!(text.contains("--intent"), "{text}");
}

#[test]
fn wrong_usage_is_told_in_one_sentence() {
    for (line, part) in [
        ("", "no path"),
        ("--json", "no path"),
        ("-E a[ /x", "the glob 'a['"),
        ("-E /x/y /x", "cannot begin with '/'"),
        (
            "--beat 9s /x",
            "--dead-after (5s) must be longer than --beat (9s)",
        ),
        ("--lease 20s /x", "--lease (20s) must be shorter"),
        ("--json --rows - /x", "both want standard output"),
        ("--rows out act /x", "--rows cannot be used with act"),
        ("--rows - act /x", "it has no rows"),
        ("--min-clients 2 /x", "add --listen"),
        ("--clients a --min-clients 2 /x", "add --listen"),
        ("--wait /x", "add --clients"),
        ("--listen --wait /x", "add --clients"),
        ("--clients= /x", "--clients: "),
        ("--clients a[3-1] /x", "--clients: "),
        ("--clients a:99999 /x", "port"),
        ("--clients a:0 /x", "port must be a number from 1"),
        ("--listen=host:1 /x", "'host:1' is not an address"),
        ("--listen 1.2.3.4:5 /x", "behind a '=': --listen=1.2.3.4:5"),
        (
            "--hostfile /dev/null /x",
            "--hostfile /dev/null: it names no host",
        ),
        ("--clients , /x", "--clients: a host is missing"),
        ("--listen=127.0.0.1:99999 /x", "a port up to 65535"),
        ("--log-level hydra=loud /x", "the log level 'hydra=loud'"),
        ("--older 2y /x", "probe: nothing is older"),
        ("--paths-from /no/such/file", "cannot read /no/such/file"),
        ("--hostfile /no/such/file /x", "cannot read /no/such/file"),
        ("--serial --workers 2 /x", "cannot be used with"),
        ("--serial --min-clients 2 /x", "cannot be used with"),
        ("--serial --wait /x", "cannot be used with"),
        ("--serial --connect-timeout 2s /x", "cannot be used with"),
        ("--serial --commit-interval 2s /x", "cannot be used with"),
        ("--serial --forward-logs /x", "cannot be used with"),
        ("--serial --durability os /x", "cannot be used with"),
        ("--exclude-from= /x", "--exclude-from needs the name"),
        ("--hostfile= /x", "--hostfile needs the name"),
        ("--paths-from=", "--paths-from needs the name"),
        (
            "--older 3d act /x",
            "act has no option --older: it is one of probe",
        ),
        ("--log-level hydra=loud /x", "--log-level: "),
        ("--serial --rows-dir d /x", "cannot be used with"),
        ("--rows f --rows-dir d /x", "cannot be used with"),
        ("--workers 0 /x", "0 is not in"),
        ("--grace soon /x", "'soon' is not a duration"),
        ("-0 /x", "--paths-from"),
    ] {
        let text = refusal(Roles::Server, line);
        assert!(text.contains(part), "{line}: {text}");
    }
}

#[test]
fn globs_that_no_path_matches_are_refused() {
    for glob in [
        ".", "./", "..", "../", "a//b", "x/../a", "a/./b", "./.", "a/..", "/", "''",
    ] {
        let text = refusal(Roles::Server, &format!("-E {glob} /x").replace("''", ""));
        assert!(!text.is_empty(), "{glob}");
    }
    for glob in [
        "a/{./x,b}",
        "[.]",
        "..a",
        "a...",
        "./a/",
        "{,a}b",
        "core{,.*}",
    ] {
        assert_eq!(server(&format!("-E {glob} /x")).job.walk.excludes.len(), 1);
    }
}

#[test]
fn more_roots_than_a_message_holds_were_found_out_by_a_client() {
    let list = tempfile::NamedTempFile::new().unwrap();
    let line = |paths: Vec<String>| {
        std::fs::write(list.path(), paths.join("\n")).unwrap();
        format!("--paths-from {}", list.path().display())
    };
    let long = |index| format!("/{}/{index:0120}", "x".repeat(9));
    let text = refusal(Roles::Server, &line((0..60_000).map(long).collect()));
    assert!(text.contains("60000 roots") && text.len() < 200, "{text}");
    let short = |index| format!("/{index}");
    let text = refusal(Roles::Server, &line((0..100_001).map(short).collect()));
    assert!(text.contains("100001 roots"), "{text}");
    assert_eq!(
        server(&line((0..50_000).map(short).collect()))
            .job
            .roots
            .len(),
        50_000
    );
    // In one thread nobody is told.
    let line = line((0..100_001).map(short).collect());
    assert_eq!(server(&format!("--serial {line}")).job.roots.len(), 100_001);
}

#[test]
fn too_many_globs_were_told_with_all_of_them() {
    let list = tempfile::NamedTempFile::new().unwrap();
    let globs: Vec<_> = (0..20_000).map(|i| format!("{i:0200}/*")).collect();
    std::fs::write(list.path(), globs.join("\n")).unwrap();
    let line = format!("--exclude-from {} /x", list.path().display());
    for way in ["", "--serial "] {
        let text = refusal(Roles::Server, &format!("{way}{line}"));
        assert!(text.contains("20000 globs") && text.len() < 300, "{text}");
    }
}

#[test]
fn wrong_usage_of_the_client_is_told_too() {
    for (line, part) in [
        ("", "--listen"),
        ("--connect a:b:c", "--connect: "),
        ("--connect host:0", "port must be a number from 1"),
        ("--connect h[1-2]", "one host is asked for here"),
        ("--connect h[1-2", "a bracket is not closed"),
        ("--listen 127.0.0.1:99999", "a port up to 65535"),
        ("--listen --connect x", "cannot be used with"),
        ("--listen --map /a", "'/a' is not a mapping"),
        ("--listen --map a=/b", "'a=/b' is not a mapping"),
        ("--listen --allow purge", "there is no plugin 'purge'"),
        ("--listen --name=", "--name must be"),
    ] {
        let text = refusal(Roles::Client, line);
        assert!(text.contains(part), "{line}: {text}");
    }
}
