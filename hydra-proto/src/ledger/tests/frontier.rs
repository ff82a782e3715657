use super::*;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct At(RootId, Vec<u8>);

impl Place for At {
    fn at(root: RootId, path: &[u8]) -> Self {
        Self(root, path.to_vec())
    }

    fn root(&self) -> RootId {
        self.0
    }

    fn write_path(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.1);
    }
}

pub(super) fn at(path: &str) -> At {
    At(RootId(0), path.into())
}

pub(super) fn list(names: &[&str]) -> NameList {
    names.iter().map(|name| name.as_bytes()).collect()
}

pub(super) fn granted(items: Vec<Parcel>, careful: bool) -> Grant {
    Grant {
        epoch: epoch(ChildId(0)),
        seq: 1,
        items,
        ids: IdRange::default(),
        careful,
    }
}

/// A frontier with the directories 1, 2 and 3 in the root.
fn frontier() -> Frontier<At> {
    let mut frontier = Frontier::new(range(100, 200));
    frontier.accept(granted(vec![dirs(1, "", &["a", "b", "c"])], false));
    frontier
}

fn pop(frontier: &mut Frontier<At>) -> (Option<u64>, String) {
    let (key, work) = frontier.pop().expect("work");
    let name = match work {
        Work::Dir { parent, name } => [&parent.1[..], b"/", &name[..]].concat(),
        Work::Names { names, .. } => names.iter().collect::<Vec<_>>().join(&b' '),
        Work::Rest { read, .. } => read.entries.to_string().into_bytes(),
        Work::After { .. } => b"after".to_vec(),
    };
    (
        key.id.map(|id| id.0),
        String::from_utf8(name).expect("plain names"),
    )
}

fn ask(frontier: &mut Frontier<At>, hungry: u32) {
    frontier.ask(Shed { id: 9, hungry });
}

#[test]
fn what_is_found_goes_first_and_has_no_id() {
    let mut frontier = frontier();
    assert_eq!(pop(&mut frontier), (Some(3), "/c".to_owned()));
    frontier.push_dirs(&at("c"), list(&["x", "y"]));
    frontier.finish();
    assert_eq!(pop(&mut frontier), (None, "c/y".to_owned()));
    frontier.finish();
    assert_eq!(pop(&mut frontier), (None, "c/x".to_owned()));
    frontier.finish();
    assert_eq!(pop(&mut frontier), (Some(2), "/b".to_owned()));
}

#[test]
fn what_was_found_and_finished_since_the_last_commit_is_in_no_commit() {
    let mut frontier = frontier();
    pop(&mut frontier);
    frontier.push_dirs(&at("c"), list(&["x", "y"]));
    assert!(!frontier.can_cut(), "something is in hand");
    assert_eq!(frontier.cut(None), None);
    frontier.finish();
    pop(&mut frontier);
    frontier.finish();
    let load = Load {
        held: 3,
        hungry: false,
        busy: 1,
        ids: 99,
    };
    let (done, new) = (vec![range(3, 4)], vec![dirs(100, "c", &["x"])]);
    let expected = Cut {
        done,
        new,
        load,
        ..Cut::default()
    };
    assert_eq!(frontier.cut(None), Some(expected));
    assert!(!frontier.has_news());
    assert_eq!(pop(&mut frontier), (Some(100), "c/x".to_owned()));
}

#[test]
fn what_was_found_and_taken_up_again_counted_until_the_next_commit() {
    let mut frontier = frontier();
    let bytes = |frontier: &Frontier<At>| frontier.unrecorded_bytes(|at| at.1.len());
    let mut place = String::new();
    for _ in 0..100 {
        pop(&mut frontier);
        place.push_str("/d");
        frontier.push_dirs(&at(&place), list(&["d"]));
        frontier.finish();
    }
    let one = bytes(&frontier);
    assert!((200..300).contains(&one), "{one}");
    frontier.push_dirs(&at(""), list(&["e", "f"]));
    assert!(bytes(&frontier) > one);
    frontier.cut(None).expect("ids");
    assert_eq!(bytes(&frontier), 0);
}

#[test]
fn gifts_are_taken_from_every_level() {
    let mut frontier = frontier();
    pop(&mut frontier);
    frontier.push_dirs(&at("c"), list(&["x", "y"]));
    frontier.finish();
    ask(&mut frontier, 1);
    let cut = frontier.cut(None).expect("a cut");
    let give = vec![range(1, 2), range(100, 101)];
    assert_eq!((cut.give, cut.answers), (give, Some(9)));
    assert_eq!(frontier.held(), 2);
}

#[test]
fn all_that_was_large_went_and_the_giver_was_hungry_at_once() {
    let mut frontier = Frontier::<At>::new(range(100, 200));
    let items = vec![
        dirs(5, "a/b", &["r", "s", "t", "u"]),
        dirs(1, "a", &["x", "y", "z"]),
    ];
    frontier.accept(granted(items, false));
    ask(&mut frontier, 1);
    let cut = frontier.give().expect("something to give");
    assert_eq!(cut.give, [range(1, 3), range(5, 6)]);
    ask(&mut frontier, 3);
    let cut = frontier.give().expect("something to give");
    assert_eq!(cut.give, [range(3, 4), range(6, 8)]);
}

#[test]
fn a_part_of_a_directory_went_and_its_end_stayed() {
    let mut frontier = Frontier::<At>::new(range(100, 200));
    let items = vec![
        names(5, Some(2), &["m"]),
        names(4, Some(2), &["n"]),
        after(2, 2),
        dirs(1, "", &["a"]),
    ];
    frontier.accept(granted(items, false));
    ask(&mut frontier, 1);
    let cut = frontier.give().expect("something to give");
    assert_eq!(cut.give, [range(1, 2), range(2, 3)]);
}

#[test]
fn what_is_on_record_can_be_given_while_something_is_in_hand() {
    let mut frontier = frontier();
    pop(&mut frontier);
    frontier.push_dirs(&at("c"), list(&["x"]));
    ask(&mut frontier, 3);
    let cut = frontier.give().expect("something to give");
    assert_eq!(
        (cut.give, cut.done, cut.new),
        (vec![range(1, 3)], Vec::new(), Vec::new())
    );
    assert_eq!(frontier.give(), None, "what has no id cannot be given");
}

#[test]
fn a_request_is_kept_until_it_can_be_answered() {
    let mut frontier = Frontier::new(range(100, 200));
    frontier.accept(granted(vec![dirs(1, "", &["a"])], false));
    ask(&mut frontier, 1);
    assert!(!frontier.could_give());
    assert_eq!(frontier.cut(None).expect("a cut").answers, None);
    pop(&mut frontier);
    frontier.finish();
    let cut = frontier.cut(None).expect("a cut");
    assert_eq!((cut.answers, cut.load.hungry), (Some(9), true));
}

#[test]
fn the_end_of_a_directory_is_given_before_its_parts() {
    let mut frontier = frontier();
    for _ in 0..2 {
        pop(&mut frontier);
        frontier.finish();
    }
    pop(&mut frontier);
    let visit = frontier.take_id().expect("an id");
    frontier.push(Work::After {
        dir: at("a"),
        visit,
    });
    let names = list(&["x"]);
    frontier.push(Work::Names {
        dir: at("a"),
        visit: Some(visit),
        names,
        types: vec![8],
        begun: false,
    });
    frontier.finish();
    ask(&mut frontier, 1);
    frontier.yield_pieces();
    let cut = frontier.cut(None).expect("a cut");
    assert_eq!(cut.new[0].ids(), range(101, 102));
    assert!(matches!(cut.new[0], Parcel::After(_)));
    assert_eq!(cut.give, [range(101, 102)]);
}

#[test]
fn without_ids_nothing_is_cut_and_nothing_is_lost() {
    let mut frontier = Frontier::new(range(100, 102));
    frontier.accept(granted(vec![dirs(1, "", &["a"])], false));
    pop(&mut frontier);
    frontier.push_dirs(&at("a"), list(&["x", "y", "z"]));
    frontier.finish();
    assert!(!frontier.can_cut());
    let more = Grant {
        ids: range(300, 310),
        ..granted(Vec::new(), false)
    };
    frontier.accept(more);
    let cut = frontier.cut(None).expect("a cut");
    assert_eq!(
        (cut.done, cut.new),
        (vec![range(1, 2)], vec![dirs(300, "a", &["x", "y", "z"])])
    );
}

#[test]
fn pieces_of_a_suspect_are_careful_and_directories_found_in_it_are_not() {
    let mut frontier = Frontier::new(range(100, 200));
    frontier.accept(granted(vec![dirs(1, "", &["a"])], true));
    let (key, _) = frontier.pop().expect("work");
    assert!(key.careful);
    frontier.push(Work::Names {
        dir: at("a"),
        visit: None,
        names: list(&["x"]),
        types: vec![8],
        begun: false,
    });
    frontier.push_dirs(&at("a"), list(&["d"]));
    frontier.finish();
    let (key, _) = frontier.pop().expect("work");
    assert_eq!((key.careful, key.origin), (false, ItemId(1)));
    frontier.finish();
    assert!(frontier.pop().expect("work").0.careful);
}

#[test]
fn a_failure_is_told_with_its_reason() {
    let mut frontier = frontier();
    pop(&mut frontier);
    frontier.fail("stale".to_owned());
    let cut = frontier.cut(None).expect("a cut");
    assert_eq!(
        cut.failed,
        [Failure {
            id: ItemId(3),
            reason: "stale".to_owned()
        }]
    );
}

#[test]
fn more_names_than_a_parcel_holds_go_into_several() {
    let mut frontier = Frontier::new(range(100, 1_000_000));
    frontier.accept(granted(vec![dirs(1, "", &["a"])], false));
    pop(&mut frontier);
    let names: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
    frontier.push_dirs(&at("a"), names.iter().map(|name| name.as_bytes()).collect());
    frontier.finish();
    let cut = frontier.cut(None).expect("a cut");
    assert_eq!(cut.new.len(), 3);
    assert!(cut.new.iter().all(|parcel| parcel.check().is_ok()));
    assert_eq!(frontier.held(), 10_000);
}

#[test]
fn the_rest_of_a_listing_was_given_away_and_read_twice_while_there_was_other_work() {
    let mut frontier = Frontier::<At>::new(range(100, 200));
    let items = vec![
        dirs(3, "", &["a", "b"]),
        rest(2, 7),
        names(1, Some(7), &["n"]),
    ];
    frontier.accept(granted(items, false));
    assert_eq!(frontier.held(), 4);
    ask(&mut frontier, 3);
    let cut = frontier.give().expect("something to give");
    assert_eq!(cut.give, [range(1, 2), range(3, 5)]);
    ask(&mut frontier, 1);
    assert_eq!(frontier.give(), None, "the last is kept");
    assert_eq!(pop(&mut frontier), (Some(2), "2".to_owned()));
}

#[test]
fn the_last_pieces_of_a_listing_went_to_and_fro_instead_of_being_finished() {
    let mut frontier = Frontier::<At>::new(range(100, 200));
    let pieces = (1..5).map(|id| names(id, Some(7), &["n"]));
    frontier.accept(granted(pieces.collect(), false));
    ask(&mut frontier, 1);
    assert!(!frontier.could_give());
    assert_eq!(frontier.give(), None, "they are finished sooner here");
    assert_eq!(pop(&mut frontier).1, "n");
    frontier.finish();
    let cut = frontier.cut(None).expect("a cut");
    assert_eq!((cut.give, cut.answers), (Vec::new(), None));
    frontier.yield_pieces();
    let cut = frontier.give().expect("two of three");
    assert_eq!(cut.answers, Some(9));
    ask(&mut frontier, 1);
    assert_eq!(frontier.give(), None, "the next request waits anew");
}

#[test]
fn the_last_of_a_small_tree_went_to_and_fro_instead_of_being_finished() {
    let mut frontier = frontier();
    ask(&mut frontier, 1);
    assert!(
        frontier.give().is_some(),
        "the first request waits for nothing"
    );
    ask(&mut frontier, 1);
    frontier.keep_little();
    assert!(!frontier.could_give());
    assert_eq!(frontier.give(), None, "they are finished sooner here");
    frontier.yield_little();
    assert!(frontier.give().is_some());
}

#[test]
fn much_is_shared_however_often_it_is_asked_for() {
    let mut frontier = Frontier::<At>::new(range(100, 200));
    let names: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    frontier.accept(granted(vec![dirs(1, "", &names)], false));
    ask(&mut frontier, 1);
    frontier.keep_little();
    assert!(frontier.give().is_some());
}

#[test]
fn whoever_waits_behind_a_long_call_gets_the_rest_of_a_listing_in_the_end() {
    let mut frontier = Frontier::<At>::new(range(100, 200));
    let items = vec![names(1, Some(7), &["n"]), rest(2, 7)];
    frontier.accept(granted(items, false));
    assert_eq!(pop(&mut frontier), (Some(1), "n".to_owned()));
    ask(&mut frontier, 1);
    assert_eq!(frontier.give(), None);
    frontier.yield_rest();
    let cut = frontier.give().expect("the rest");
    assert_eq!(cut.give, [range(2, 3)]);
}

#[test]
fn what_lay_deep_in_the_walk_was_given_too() {
    let mut frontier = Frontier::new(range(100, 1000));
    let batches = (0..12).map(|n| dirs(1 + 2 * n, &"x/".repeat(12 - n as usize), &["a", "b"]));
    frontier.accept(granted(batches.collect(), false));
    ask(&mut frontier, 1);
    let cut = frontier.cut(None).expect("a cut");
    // One of two in each of the three topmost batches: the last that were granted lie in front.
    assert_eq!(cut.give, [range(23, 24), range(21, 22), range(19, 20)]);
    assert_eq!(frontier.held(), 21);
}
