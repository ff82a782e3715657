use super::*;

/// A worker that owns directory 1, and a second one that has nothing.
fn two_workers(acts: bool) -> (Parent, ChildId, ChildId) {
    let mut parent = Parent::new(config(false, acts));
    let first = join(&mut parent, 1, 1);
    parent.add(vec![dirs(1, "", &["a"])], true);
    let second = join(&mut parent, 2, 1);
    drain(&mut parent);
    beat(&mut parent, ms(100), 1, first, load(1, false));
    (parent, first, second)
}

fn regrant(second: ChildId) -> Action {
    grant(2, second, 1, vec![dirs(1, "", &["a"])])
}

#[test]
fn what_a_lost_worker_owned_is_granted_again() {
    let (mut parent, first, second) = two_workers(false);
    parent.closed(ms(200), ConnId(1));
    let actions = drain(&mut parent);
    let lost = lost(first, "its connection is closed");
    assert_eq!(
        actions,
        [refused(1, Refusal::Fenced), close(1), lost, regrant(second)]
    );
}

/// How long the child's lease may last if its clock is slow.
fn lease_at_most() -> Time {
    let lease = Timing::default().lease;
    lease + lease / 100
}

#[test]
fn what_is_acted_upon_waits_for_the_lease_of_a_worker_that_may_live() {
    let (mut parent, first, second) = two_workers(true);
    parent.fence(ms(200), first, "hangs");
    assert_eq!(drain(&mut parent).last(), Some(&lost(first, "hangs")));
    let lease = lease_at_most();
    assert_eq!(parent.poll_timeout(), Some(ms(5000)));
    beat(&mut parent, ms(4900), 2, second, load(0, true));
    parent.tick(ms(100) + lease - ms(1));
    assert_eq!(drain(&mut parent), []);
    beat(
        &mut parent,
        ms(100) + lease - ms(1),
        2,
        second,
        load(0, true),
    );
    parent.tick(ms(100) + lease);
    assert_eq!(drain(&mut parent), [regrant(second)]);
}

#[test]
fn the_lease_of_a_child_with_a_slow_clock_was_over_too_early() {
    let (mut parent, first, second) = two_workers(true);
    parent.fence(ms(4900), first, "hangs");
    drain(&mut parent);
    for now in [ms(100) + Timing::default().lease, ms(100) + lease_at_most()] {
        assert_eq!(drain(&mut parent), []);
        beat(&mut parent, now, 2, second, load(0, true));
        parent.tick(now);
    }
    assert_eq!(drain(&mut parent), [regrant(second)]);
}

#[test]
fn what_a_dead_worker_acted_upon_is_granted_at_once() {
    let (mut parent, first, second) = two_workers(true);
    parent.died(ms(200), ConnId(1), None, "killed");
    let actions = drain(&mut parent);
    assert_eq!(actions[2..], [lost(first, "killed"), regrant(second)]);
}

#[test]
fn a_client_has_its_grace_time_to_come_back() {
    let mut parent = server();
    let child = join(&mut parent, 1, 1);
    parent.add(vec![dirs(1, "", &["a"])], true);
    drain(&mut parent);
    let Timing {
        dead_after, grace, ..
    } = Timing::default();
    assert_eq!(parent.poll_timeout(), Some(dead_after));
    parent.tick(dead_after);
    assert_eq!(drain(&mut parent), [close(1)]);
    assert_eq!(parent.poll_timeout(), Some(dead_after + grace));
    parent.tick(dead_after + grace - ms(1));
    assert_eq!(drain(&mut parent), []);
    assert_eq!(parent.counts().owned, 1);
    parent.tick(dead_after + grace);
    assert_eq!(
        drain(&mut parent),
        [lost(child, "it did not come back within the grace time")]
    );
    assert_eq!((parent.counts().owned, parent.counts().pool), (0, 1));
}

#[test]
fn the_end_of_an_older_connection_means_nothing() {
    let mut parent = server();
    let child = join(&mut parent, 1, 1);
    parent.handle(ms(1), ConnId(2), resume(child, 1, 0));
    assert_eq!(drain(&mut parent)[0], close(1));
    parent.closed(ms(2), ConnId(1));
    assert!(parent.children().all(|view| view.connected));
}

#[test]
fn a_child_that_leaves_is_told_once_that_it_is_fenced() {
    let mut parent = server();
    let child = join(&mut parent, 1, 1);
    parent.handle(ms(1), ConnId(1), Up::Leave("full".to_owned()));
    assert_eq!(
        drain(&mut parent),
        [refused(1, Refusal::Fenced), close(1), lost(child, "full")]
    );
}

#[test]
fn work_for_a_client_that_may_come_back_is_not_stuck() {
    let mut parent = server();
    let child = join_serving(&mut parent, 1, 1, &[true, false]);
    parent.closed(ms(1), ConnId(1));
    parent.add(vec![dirs(1, "", &["a"])], true);
    assert!(!parent.is_stuck());
    parent.fence(ms(2), child, "test");
    assert!(parent.is_stuck());
    parent.set_aside_unserved(&|_| "nobody".to_owned());
    assert!(parent.is_done() && parent.aside().count() == 1);
}

#[test]
fn a_server_that_was_stopped_gave_its_clients_up_for_its_own_silence() {
    let Timing {
        dead_after, grace, ..
    } = Timing::default();
    let mut parent = server();
    join(&mut parent, 1, 1);
    join(&mut parent, 2, 1);
    parent.closed(ms(100), ConnId(2));
    drain(&mut parent);
    let later = dead_after + grace + ms(200);
    parent.held_up(later);
    parent.tick(later);
    assert_eq!(drain(&mut parent), []);
    // From then on silence and absence count as ever.
    assert_eq!(parent.poll_timeout(), Some(later + dead_after));
    parent.tick(later + dead_after);
    assert_eq!(drain(&mut parent), [close(1)]);
    parent.tick(later + grace);
    assert_eq!(parent.children().count(), 1);
}
