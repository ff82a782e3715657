use super::*;

#[test]
fn hello_opens_a_session() {
    let mut parent = server();
    parent.handle(ms(0), ConnId(4), hello(9, 2));
    let child = ChildId(0);
    let welcome = Welcome {
        epoch: epoch(child),
        secret: Secret(SECRET),
        ids: range(1000, 2000),
        job: spec(false, 2),
        forward_logs: false,
        journaled: false,
    };
    let joined = Action::Joined {
        child,
        conn: ConnId(4),
        name: "c9".to_owned(),
        workers: 2,
    };
    assert_eq!(
        drain(&mut parent),
        [joined, send(4, Down::Welcome(Box::new(welcome)))]
    );
}

#[test]
fn a_name_of_any_length_was_kept_for_ever() {
    let mut parent = server();
    let Up::Hello(mut hello) = hello(9, 2) else {
        panic!("it is a Hello");
    };
    hello.name = "x".repeat(256);
    parent.handle(ms(0), ConnId(4), Up::Hello(hello));
    let text = "unexpected message: a name that is too long";
    assert_eq!(
        drain(&mut parent)[0],
        refused(4, Refusal::Protocol(text.to_owned()))
    );
    assert_eq!(parent.children().count(), 0);
}

#[test]
fn another_version_is_refused_with_ours() {
    let mut parent = server();
    let header = HelloHeader {
        protocol: 99,
        release: "9".to_owned(),
    };
    let hello = Hello {
        header,
        name: String::new(),
        workers: 1,
        nonce: 1,
    };
    parent.handle(ms(0), ConnId(1), Up::Hello(hello));
    let refusal = Refusal::Version(super::header());
    assert_eq!(drain(&mut parent), [refused(1, refusal), close(1)]);
}

#[test]
fn a_second_hello_on_one_connection_ends_the_session() {
    let mut parent = server();
    let child = join(&mut parent, 1, 1);
    parent.handle(ms(1), ConnId(1), hello(2, 1));
    let reason = "unexpected message: a second Hello on one connection";
    let refusal = Refusal::Protocol(reason.to_owned());
    assert_eq!(
        drain(&mut parent),
        [refused(1, refusal), close(1), lost(child, reason)]
    );
}

#[test]
fn a_process_that_starts_anew_loses_its_old_session() {
    let mut parent = server();
    let child = join(&mut parent, 1, 1);
    parent.handle(ms(1), ConnId(2), hello(1, 1));
    let actions = drain(&mut parent);
    let expected = [
        refused(1, Refusal::Fenced),
        close(1),
        lost(child, "it started anew"),
    ];
    assert_eq!(actions[..3], expected);
    assert!(matches!(
        actions[3],
        Action::Joined {
            child: ChildId(1),
            conn: ConnId(2),
            ..
        }
    ));
}

#[test]
fn a_session_goes_on_with_what_was_not_seen() {
    let mut parent = server();
    let child = join(&mut parent, 1, 1);
    parent.add(vec![dirs(1, "", &["a"])], true);
    assert_eq!(
        drain(&mut parent),
        [grant(1, child, 1, vec![dirs(1, "", &["a"])])]
    );
    parent.closed(ms(5), ConnId(1));
    parent.handle(ms(6), ConnId(2), resume(child, 1, 0));
    let back = Action::Back {
        child,
        conn: ConnId(2),
    };
    let resumed = send(2, Down::Resumed { last_commit: 0 });
    let again = grant(2, child, 1, vec![dirs(1, "", &["a"])]);
    assert_eq!(drain(&mut parent), [back, resumed, again]);
}

#[test]
fn an_older_attempt_does_not_take_the_session_over() {
    let mut parent = server();
    let child = join(&mut parent, 1, 1);
    parent.handle(ms(1), ConnId(3), resume(child, 2, 0));
    drain(&mut parent);
    parent.handle(ms(1), ConnId(2), resume(child, 1, 0));
    assert_eq!(drain(&mut parent), [close(2)]);
    assert!(!beat(&mut parent, ms(2), 3, child, load(0, false)).is_empty());
}

#[test]
fn a_session_is_not_resumed_without_its_secret() {
    let mut parent = server();
    let child = join(&mut parent, 1, 1);
    let (epoch, secret) = (epoch(child), Secret([0; 16]));
    let resume = Resume {
        header: header(),
        epoch,
        secret,
        attempt: 1,
        last_grant: 0,
        journaled: false,
    };
    parent.handle(ms(1), ConnId(2), Up::Resume(resume));
    assert_eq!(drain(&mut parent), [refused(2, Refusal::Unknown), close(2)]);
}

#[test]
fn a_session_that_was_given_up_is_told_so() {
    let mut parent = server();
    let child = join(&mut parent, 1, 1);
    parent.fence(ms(1), child, "test");
    drain(&mut parent);
    parent.handle(ms(2), ConnId(2), resume(child, 1, 0));
    assert_eq!(drain(&mut parent), [refused(2, Refusal::Fenced), close(2)]);
    let actions = beat(&mut parent, ms(2), 3, child, load(0, false));
    assert_eq!(actions, [refused(3, Refusal::Fenced), close(3)]);
    let actions = say(&mut parent, 4, commit(child, 1));
    assert_eq!(actions, [refused(4, Refusal::Fenced), close(4)]);
}

#[test]
fn a_session_of_another_job_is_not_known() {
    let mut parent = server();
    let actions = beat(&mut parent, ms(2), 3, ChildId(5), load(0, false));
    assert_eq!(actions, [refused(3, Refusal::Unknown), close(3)]);
}

#[test]
fn late_messages_of_a_closed_connection_do_not_end_a_session_that_may_resume() {
    let mut parent = server();
    let child = join(&mut parent, 1, 1);
    parent.closed(ms(1), ConnId(1));
    assert_eq!(
        beat(&mut parent, ms(2), 1, child, load(0, false)),
        [close(1)]
    );
    assert_eq!(say(&mut parent, 1, commit(child, 1)), [close(1)]);
    parent.handle(ms(2), ConnId(1), Up::Log(Vec::new()));
    assert_eq!(drain(&mut parent), [close(1)]);
    parent.handle(ms(3), ConnId(2), resume(child, 1, 0));
    assert_eq!(
        drain(&mut parent)[0],
        Action::Back {
            child,
            conn: ConnId(2)
        }
    );
}

#[test]
fn what_a_child_sees_is_reported_once_however_often_it_says_so() {
    let mut parent = server();
    let child = join(&mut parent, 1, 1);
    let view = RootView::Refused("no".to_owned());
    let ready = Ready {
        epoch: Some(epoch(child)),
        roots: vec![view; 2],
    };
    parent.handle(ms(1), ConnId(1), Up::Ready(ready.clone()));
    let sees = Action::Sees {
        child,
        roots: ready.roots.clone(),
    };
    assert_eq!(drain(&mut parent), [sees]);
    parent.handle(ms(1), ConnId(1), Up::Ready(ready));
    assert_eq!(drain(&mut parent), []);
}

#[test]
fn a_child_that_joins_a_paused_job_is_paused() {
    let mut parent = server();
    let child = join(&mut parent, 1, 1);
    parent.pause(true);
    assert_eq!(drain(&mut parent), [send(1, Down::Pause(true))]);
    parent.handle(ms(1), ConnId(2), hello(2, 1));
    assert_eq!(drain(&mut parent)[2..], [send(2, Down::Pause(true))]);
    parent.handle(ms(2), ConnId(3), resume(child, 1, 0));
    assert_eq!(drain(&mut parent)[3..], [send(3, Down::Pause(true))]);
    parent.pause(false);
    drain(&mut parent);
    parent.handle(ms(3), ConnId(4), hello(4, 1));
    assert_eq!(drain(&mut parent).len(), 2);
}
