use super::*;

const CONN: ConnId = ConnId(1);

fn config(resumable: bool) -> UplinkConfig {
    let (name, release) = ("c".to_owned(), "1.2.3".to_owned());
    UplinkConfig {
        name,
        workers: 2,
        nonce: 5,
        release,
        resumable,
        uncut: false,
    }
}

fn uplink(resumable: bool) -> Uplink {
    Uplink::new(config(resumable))
}

fn welcome() -> Down {
    Down::Welcome(Box::new(Welcome {
        epoch: epoch(ChildId(0)),
        secret: Secret(SECRET),
        ids: range(1000, 2000),
        job: spec(true, 1),
        forward_logs: false,
        journaled: false,
    }))
}

fn sent(uplink: &mut Uplink) -> Vec<Up> {
    std::iter::from_fn(|| uplink.poll_send()).collect()
}

fn events(uplink: &mut Uplink) -> Vec<UplinkEvent> {
    std::iter::from_fn(|| uplink.poll_event()).collect()
}

/// A child whose session is open.
fn open(resumable: bool) -> Uplink {
    let mut uplink = uplink(resumable);
    uplink.connected(ms(0), CONN);
    uplink.handle(ms(0), CONN, welcome());
    sent(&mut uplink);
    events(&mut uplink);
    uplink
}

fn give(id: u64) -> Cut {
    Cut {
        give: vec![range(id, id + 1)],
        ..Cut::default()
    }
}

fn numbered(seq: u64) -> Grant {
    let (items, ids) = (Vec::new(), IdRange::default());
    Grant {
        epoch: epoch(ChildId(0)),
        seq,
        items,
        ids,
        careful: false,
    }
}

fn seqs(messages: &[Up]) -> Vec<u64> {
    let seq = |message: &Up| match message {
        Up::Commit(commit) => Some(commit.seq),
        _ => None,
    };
    messages.iter().filter_map(seq).collect()
}

#[test]
fn a_child_says_hello_and_then_resumes() {
    let mut uplink = uplink(true);
    uplink.connected(ms(0), CONN);
    let hello = Hello {
        header: header(),
        name: "c".to_owned(),
        workers: 2,
        nonce: 5,
    };
    assert_eq!(sent(&mut uplink), [Up::Hello(hello)]);
    uplink.handle(ms(0), CONN, welcome());
    uplink.handle(ms(0), CONN, Down::Grant(numbered(1)));
    uplink.closed(ms(1), CONN);
    assert_eq!(events(&mut uplink).last(), Some(&UplinkEvent::Lost));
    for attempt in 1..3 {
        uplink.connected(ms(2), ConnId(1 + attempt));
        assert_eq!(sent(&mut uplink), [resume(ChildId(0), attempt, 1)]);
    }
}

#[test]
fn a_grant_that_comes_again_is_ignored_and_a_missing_one_is_noticed() {
    let mut uplink = open(true);
    for seq in [1, 1] {
        uplink.handle(ms(1), CONN, Down::Grant(numbered(seq)));
    }
    assert_eq!(events(&mut uplink), [UplinkEvent::Granted(numbered(1))]);
    uplink.handle(ms(1), CONN, Down::Grant(numbered(3)));
    assert_eq!(events(&mut uplink), [UplinkEvent::Drop(CONN)]);
}

#[test]
fn what_is_not_acknowledged_is_sent_again() {
    let mut uplink = open(true);
    (1..=3).for_each(|id| uplink.commit(give(id)));
    assert_eq!(seqs(&sent(&mut uplink)), [1, 2, 3]);
    uplink.handle(ms(1), CONN, Down::Ack { seq: 1 });
    uplink.closed(ms(1), CONN);
    uplink.commit(give(4));
    uplink.connected(ms(2), ConnId(2));
    uplink.handle(ms(2), ConnId(2), Down::Resumed { last_commit: 2 });
    assert_eq!(seqs(&sent(&mut uplink)), [3, 4]);
    assert!(!uplink.is_settled());
}

#[test]
fn a_large_commit_goes_in_parts_and_again_in_parts() {
    let mut uplink = open(true);
    uplink.limit_parts(100);
    let new: Vec<Parcel> = (0..3).map(|n| dirs(1000 + n, "a", &["x"])).collect();
    uplink.commit(Cut {
        done: vec![range(1, 2)],
        new: new.clone(),
        ..Cut::default()
    });
    let messages = sent(&mut uplink);
    let Some((Up::Commit(last), parts)) = messages.split_last() else {
        panic!("{messages:?}");
    };
    assert_eq!(parts.len(), 2);
    let mut whole: Vec<Parcel> = Vec::new();
    for part in parts {
        let Up::Part(part) = part else {
            panic!("{part:?}");
        };
        assert_eq!(part.seq, 1);
        whole.extend(part.new.clone());
    }
    whole.extend(last.new.clone());
    assert_eq!(whole, new);
    uplink.closed(ms(1), CONN);
    uplink.connected(ms(2), ConnId(2));
    uplink.handle(ms(2), ConnId(2), Down::Resumed { last_commit: 0 });
    assert_eq!(sent(&mut uplink)[1..], messages);
}

#[test]
fn the_window_closes_and_opens() {
    let mut uplink = open(true);
    let window = u64::from(Timing::default().commit_window);
    (0..window).for_each(|id| uplink.commit(give(id)));
    assert!(!uplink.has_window());
    uplink.handle(ms(1), CONN, Down::Ack { seq: 1 });
    assert!(uplink.has_window());
}

#[test]
fn a_window_of_commits_had_no_limit_in_bytes() {
    let mut uplink = open(true);
    let large = || Cut {
        result: Some(Delta {
            rows: vec![b'x'; 5 << 20],
            ..Delta::default()
        }),
        ..give(1)
    };
    uplink.commit(large());
    assert!(uplink.has_window());
    uplink.commit(large());
    assert!(!uplink.has_window());
    uplink.handle(ms(1), CONN, Down::Ack { seq: 1 });
    assert!(uplink.has_window());
    uplink.commit(large());
    // What a lost link makes due again counts as long as it is not acknowledged.
    uplink.closed(ms(2), CONN);
    uplink.connected(ms(3), ConnId(2));
    uplink.handle(ms(3), ConnId(2), Down::Resumed { last_commit: 1 });
    assert!(!uplink.has_window());
    uplink.handle(ms(4), ConnId(2), Down::Ack { seq: 3 });
    assert!(uplink.has_window());
}

#[test]
fn a_child_went_on_with_a_parent_that_had_lost_what_it_acknowledged() {
    let mut uplink = open(true);
    uplink.commit(give(1));
    uplink.handle(ms(1), CONN, Down::Ack { seq: 1 });
    uplink.closed(ms(2), CONN);
    uplink.connected(ms(3), ConnId(2));
    events(&mut uplink);
    uplink.handle(ms(3), ConnId(2), Down::Resumed { last_commit: 0 });
    let over = UplinkEvent::Over(Some(Refusal::Fenced));
    assert_eq!(events(&mut uplink), [UplinkEvent::Drop(ConnId(2)), over]);
    assert!(uplink.epoch().is_none());
}

#[test]
fn the_lease_counts_from_when_the_beat_was_sent() {
    let mut uplink = open(true);
    uplink.beat(ms(100), Load::default());
    uplink.beat(ms(200), Load::default());
    let answer = |number| {
        let (epoch, lease) = (epoch(ChildId(0)), ms(8000));
        Down::Beat(DownBeat {
            epoch,
            number,
            lease,
        })
    };
    assert_eq!(uplink.acts_until(), None);
    uplink.handle(ms(900), CONN, answer(1));
    assert_eq!(uplink.acts_until(), Some(ms(8100)));
    uplink.handle(ms(901), CONN, answer(2));
    uplink.handle(ms(902), CONN, answer(1));
    assert_eq!(uplink.acts_until(), Some(ms(8200)));
}

#[test]
fn an_older_connection_is_not_listened_to() {
    let mut uplink = open(true);
    uplink.connected(ms(1), ConnId(2));
    uplink.handle(ms(1), CONN, Down::Stop);
    uplink.handle(ms(1), CONN, Down::Grant(numbered(1)));
    uplink.closed(ms(1), CONN);
    assert_eq!(events(&mut uplink), []);
}

#[test]
fn silence_loses_the_link_and_then_the_session() {
    let mut uplink = open(true);
    let Timing {
        dead_after, grace, ..
    } = Timing::default();
    uplink.tick(dead_after, Load::default());
    assert_eq!(
        events(&mut uplink),
        [UplinkEvent::Drop(CONN), UplinkEvent::Lost]
    );
    assert_eq!(uplink.poll_timeout(), Some(dead_after + grace));
    uplink.tick(dead_after + grace, Load::default());
    assert_eq!(events(&mut uplink), [UplinkEvent::Over(None)]);
    assert_eq!(uplink.poll_timeout(), None);
}

#[test]
fn a_server_in_the_same_process_that_was_held_up_was_taken_for_dead() {
    let mut uplink = Uplink::new(UplinkConfig {
        uncut: true,
        ..config(false)
    });
    uplink.connected(ms(0), CONN);
    assert_eq!(uplink.poll_timeout(), None);
    uplink.handle(ms(0), CONN, welcome());
    events(&mut uplink);
    let late = Timing::default().dead_after * 2;
    uplink.tick(late, Load::default());
    assert_eq!(events(&mut uplink), []);
    assert!(uplink.poll_timeout() > Some(late));
}

#[test]
fn a_worker_ends_with_its_channel() {
    let mut uplink = open(false);
    uplink.closed(ms(1), CONN);
    assert_eq!(events(&mut uplink), [UplinkEvent::Over(None)]);
}

#[test]
fn periods_that_no_clock_can_reach_made_a_child_panic() {
    let mut uplink = uplink(true);
    uplink.connected(ms(1), CONN);
    let Down::Welcome(mut endless) = welcome() else {
        unreachable!()
    };
    let timing = &mut endless.job.timing;
    (timing.beat, timing.dead_after, timing.grace) = (Time::MAX, Time::MAX, Time::MAX);
    uplink.handle(ms(1), CONN, Down::Welcome(endless));
    uplink.tick(ms(1), Load::default());
    let lease = DownBeat {
        epoch: epoch(ChildId(0)),
        number: 1,
        lease: Time::MAX,
    };
    uplink.handle(ms(2), CONN, Down::Beat(lease));
    assert_eq!(uplink.acts_until(), Some(Time::MAX));
    assert!(uplink.poll_timeout() > Some(ms(2)));
}

#[test]
fn what_the_parent_keeps_of_a_segment_is_told() {
    let mut uplink = open(true);
    let segment = crate::segment::Segment {
        worker: 7,
        number: 2,
        bytes: 305,
    };
    uplink.handle(ms(1), ConnId(1), Down::Kept(segment));
    assert_eq!(events(&mut uplink), [UplinkEvent::Kept(segment)]);
}

#[test]
fn a_child_that_was_stopped_lost_its_link_for_its_own_silence() {
    let mut uplink = open(true);
    events(&mut uplink);
    let dead_after = Timing::default().dead_after;
    uplink.held_up(dead_after);
    uplink.tick(dead_after, Load::default());
    assert_eq!(events(&mut uplink), []);
    assert!(uplink.is_open());
    assert!(matches!(sent(&mut uplink).last(), Some(Up::Beat(_))));
    uplink.tick(dead_after * 2, Load::default());
    assert!(!uplink.is_open());
}
