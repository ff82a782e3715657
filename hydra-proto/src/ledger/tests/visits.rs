use super::*;

/// A worker that has split a directory into two lists of names and its end, and given all of it back.
fn split() -> (Parent, ChildId) {
    let mut parent = over_workers();
    let child = join(&mut parent, 1, 1);
    parent.add(vec![dirs(1, "", &["d"])], true);
    let mut step = commit(child, 1);
    step.done = vec![range(1, 2)];
    step.new = vec![after(1000, 7), names(1001, Some(7), &["x"]), rest(1002, 7)];
    step.give = vec![range(1000, 1001)];
    step.load = load(2, false);
    say(&mut parent, 1, step);
    (parent, child)
}

#[test]
fn the_end_of_a_directory_waits_for_its_parts() {
    let (mut parent, child) = split();
    let other = join(&mut parent, 2, 1);
    assert!(drain(&mut parent).iter().all(|action| !matches!(
        action,
        Action::Send {
            message: Down::Grant(_),
            ..
        }
    )));
    let mut step = commit(child, 2);
    step.done = vec![range(1001, 1002)];
    say(&mut parent, 1, step);
    let mut step = commit(child, 3);
    step.done = vec![range(1002, 1003)];
    let actions = say(&mut parent, 1, step);
    assert_eq!(
        actions.last(),
        Some(&grant(2, other, 1, vec![after(1000, 7)]))
    );
}

#[test]
fn a_directory_of_which_a_part_is_set_aside_has_no_end() {
    let (mut parent, child) = split();
    let mut step = commit(child, 2);
    step.failed = vec![Failure {
        id: ItemId(1001),
        reason: "no".to_owned(),
    }];
    step.done = vec![range(1002, 1003)];
    say(&mut parent, 1, step);
    let aside: Vec<_> = parent.aside().map(|aside| aside.id).collect();
    assert_eq!(aside, [ItemId(1000), ItemId(1001)]);
    assert!(parent.is_done() && parent.counts().balanced());
}

#[test]
fn parts_come_back_to_where_their_end_waits() {
    let (mut parent, child) = split();
    parent.fence(ms(2), child, "test");
    drain(&mut parent);
    let other = join(&mut parent, 2, 1);
    let parts = vec![names(1001, Some(7), &["x"]), rest(1002, 7)];
    assert_eq!(drain(&mut parent), [grant(2, other, 1, parts)]);
}
