//! Addresses, ranges and lists, right and wrong.

use super::*;

fn hosts(text: &str) -> Vec<String> {
    match parse_hosts(text, 8101) {
        Ok(hosts) => hosts.iter().map(HostPort::to_string).collect(),
        Err(error) => panic!("{error}"),
    }
}

fn problem(text: &str) -> AddressProblem {
    parse_hosts(text, 8101).unwrap_err().problem
}

#[test]
fn a_host_may_have_a_port_of_its_own() {
    let cases = [
        ("node1", "node1:8101"),
        ("node1:8200", "node1:8200"),
        (" node1 ", "node1:8101"),
        ("10.0.0.1:1", "10.0.0.1:1"),
        ("[::1]", "[::1]:8101"),
        ("[::1]:8200", "[::1]:8200"),
        ("[fe80::1%eth0]:8200", "[fe80::1%eth0]:8200"),
    ];
    for (text, shown) in cases {
        let parsed = HostPort::parse(text, 8101).unwrap();
        assert_eq!(parsed.to_string(), shown);
        assert_eq!(HostPort::parse(shown, 1), Ok(parsed));
    }
    assert_eq!(HostPort::parse("[::1]:0", 1).unwrap().host, "::1");
}

#[test]
fn ranges_expand_in_order() {
    assert_eq!(
        hosts("host1,host2:8200,node[3-6]"),
        [
            "host1:8101",
            "host2:8200",
            "node3:8101",
            "node4:8101",
            "node5:8101",
            "node6:8101"
        ]
    );
    assert_eq!(
        hosts("n[08-11]"),
        ["n08:8101", "n09:8101", "n10:8101", "n11:8101"]
    );
    assert_eq!(hosts("n[9-10]"), ["n9:8101", "n10:8101"]);
    assert_eq!(hosts("n[0-1]"), ["n0:8101", "n1:8101"]);
    assert_eq!(
        hosts("r[1-2]n[1,3-4].x:82"),
        [
            "r1n1.x:82",
            "r1n3.x:82",
            "r1n4.x:82",
            "r2n1.x:82",
            "r2n3.x:82",
            "r2n4.x:82"
        ]
    );
    assert_eq!(
        hosts("[1-2]a, [::1]:[8101-8102]"),
        ["1a:8101", "2a:8101", "[::1]:8101", "[::1]:8102"]
    );
}

#[test]
fn port_0_was_accepted_where_a_peer_is_dialled() {
    for text in ["a:0", "[::1]:0"] {
        assert!(HostPort::parse(text, 8101).is_ok());
        let error = HostPort::parse_peer(text, 8101).unwrap_err();
        assert_eq!(error.problem, AddressProblem::Port, "{text}");
    }
    let peer = HostPort::parse_peer("a", 8101).unwrap();
    assert_eq!(peer.to_string(), "a:8101");
}

#[test]
fn a_host_named_twice_counts_once() {
    assert_eq!(
        hosts("b,a,b:8101,[::1],n[1,1]"),
        ["b:8101", "a:8101", "[::1]:8101", "n1:8101"]
    );
}

#[test]
fn a_hostfile_has_comments_and_line_numbers() {
    let text = "# cluster\n\nnode1\nnode[2-3]:8200  # two more\r\n";
    let shown: Vec<String> = parse_hostfile(text, 8101)
        .unwrap()
        .iter()
        .map(HostPort::to_string)
        .collect();
    assert_eq!(shown, ["node1:8101", "node2:8200", "node3:8200"]);

    let error = parse_hostfile("node1\n\nnode[3-\n", 8101).unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 3: \"node[3-\": a bracket is not closed, or was never opened"
    );
    let error = parse_hostfile("# nobody\n", 8101).unwrap_err();
    assert_eq!(error.to_string(), "it names no host");
}

#[test]
fn each_mistake_is_named() {
    use AddressProblem as P;
    let cases = [
        ("", P::Empty),
        ("a,,b", P::Empty),
        ("a,", P::Empty),
        (":8101", P::Empty),
        ("a b", P::Character(' ')),
        ("http://a", P::Port),
        ("a/b", P::Character('/')),
        ("user@a", P::Character('@')),
        ("a:", P::Port),
        ("a:x", P::Port),
        ("a:+1", P::Port),
        ("a:0", P::Port),
        ("a:65536", P::Port),
        ("[::1]8101", P::Port),
        ("::1", P::Bare("::1".into())),
        ("[::g]", P::Ipv6("::g".into())),
        ("n[1-3", P::Bracket),
        ("n1-3]", P::Bracket),
        ("n[1-[2-3]]", P::Nested),
        ("n[]", P::Range(String::new())),
        ("n[1,]", P::Range(String::new())),
        ("n[a-b]", P::Range("a-b".into())),
        ("n[1-2-3]", P::Range("1-2-3".into())),
        ("n[-3]", P::Range("-3".into())),
        ("n[6-3]", P::Backwards("6-3".into())),
        ("n[01-5]", P::Digits("01-5".into())),
        ("n[1-05]", P::Digits("1-05".into())),
        ("n[1-100001]", P::TooMany),
        ("n[0-999999999999999999]", P::TooMany),
        ("n[1-1000][1-1000]", P::TooMany),
        (
            "n[1-99999999999999999999]",
            P::Range("1-99999999999999999999".into()),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(problem(text), expected, "{text}");
    }
    assert_eq!(problem(&"x".repeat(254)), P::LongName);
    assert_eq!(problem(&"x[1]".repeat(1000)), P::LongName);
    let long = "x".repeat(1 << 20);
    assert_eq!(problem(&format!("{long}[1-100000]")), P::LongName);
    assert_eq!(problem(&format!("n[1-100000]{long}")), P::LongName);
}

#[test]
fn the_limit_on_hosts_is_exact_and_holds_over_the_whole_list() {
    assert_eq!(hosts("n[1-100000]").len(), HOSTS_MAX);
    assert_eq!(problem("n[1-100000],m"), AddressProblem::TooMany);
}

#[test]
fn a_long_text_is_cut_short_in_the_message() {
    let error = parse_hosts(&"x".repeat(5000), 8101).unwrap_err();
    assert!(error.to_string().len() < 200);
}
