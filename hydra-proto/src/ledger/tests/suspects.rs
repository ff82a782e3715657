use super::*;

/// A ledger over workers that owns one item, and how often a worker died with it.
struct Deaths {
    parent: Parent,
    conn: u64,
}

impl Deaths {
    fn new(item: Parcel) -> Self {
        let mut parent = over_workers();
        parent.add(vec![item], true);
        Self { parent, conn: 0 }
    }

    /// A worker joins; what it is granted, and whether carefully.
    fn join(&mut self) -> Option<(ChildId, Vec<Parcel>, bool)> {
        self.conn += 1;
        let child = join(&mut self.parent, self.conn, 1);
        let granted = drain(&mut self.parent)
            .into_iter()
            .find_map(|action| match action {
                Action::Send {
                    message: Down::Grant(grant),
                    ..
                } => Some(grant),
                _ => None,
            })?;
        Some((child, granted.items, granted.careful))
    }

    fn die_with(&mut self, id: u64) {
        self.parent
            .died(ms(1), ConnId(self.conn), Some(ItemId(id)), "killed");
        drain(&mut self.parent);
    }
}

#[test]
fn the_third_try_runs_alone_and_carefully() {
    let mut deaths = Deaths::new(dirs(1, "", &["a", "b"]));
    let (_, items, careful) = deaths.join().expect("a grant");
    assert_eq!((items[0].ids(), careful), (range(1, 3), false));
    deaths.die_with(2);
    // The other item goes first, to a worker of its own.
    assert_eq!(deaths.join().expect("a grant").1, [dirs(1, "", &["a"])]);
    for expected in [false, true] {
        let (_, items, careful) = deaths.join().expect("a grant");
        assert_eq!(items, [dirs(2, "", &["b"])]);
        assert_eq!(careful, expected);
        if !careful {
            deaths.die_with(2);
        }
    }
    deaths.die_with(2);
    assert_eq!(
        deaths
            .parent
            .aside()
            .map(|aside| aside.id)
            .collect::<Vec<_>>(),
        [ItemId(2)]
    );
}

#[test]
fn pieces_of_a_suspect_run_alone_and_directories_in_it_do_not() {
    let mut deaths = Deaths::new(dirs(1, "", &["d"]));
    for _ in 0..2 {
        deaths.join();
        deaths.die_with(1);
    }
    let (child, _, careful) = deaths.join().expect("a grant");
    assert!(careful);
    let mut step = commit(child, 1);
    step.done = vec![range(1, 2)];
    let piece = |id, file| names(id, None, &[file]);
    let first = 3000;
    step.new = vec![
        piece(first, "x"),
        piece(first + 1, "y"),
        dirs(first + 2, "d", &["z"]),
    ];
    say(&mut deaths.parent, deaths.conn, step);
    deaths.die_with(first);
    // The directory is granted as usual, the pieces one by one.
    let (_, items, careful) = deaths.join().expect("a grant");
    assert_eq!(
        (&items[..], careful),
        (&[dirs(first + 2, "d", &["z"])][..], false)
    );
    let (_, items, careful) = deaths.join().expect("a grant");
    assert_eq!((&items[..], careful), (&[piece(first + 1, "y")][..], true));
    let aside = deaths.parent.aside();
    assert_eq!(
        aside.map(|aside| aside.id).collect::<Vec<_>>(),
        [ItemId(first)],
        "a single name dies alone"
    );
}

#[test]
fn a_commit_on_an_item_clears_it() {
    let mut deaths = Deaths::new(names(1, None, &["x", "y"]));
    deaths.join();
    deaths.die_with(1);
    let (child, _, _) = deaths.join().expect("a grant");
    let mut step = commit(child, 1);
    step.done = vec![range(1, 2)];
    step.new = vec![names(2000, None, &["y"])];
    say(&mut deaths.parent, deaths.conn, step);
    for _ in 0..2 {
        deaths.die_with(2000);
        assert!(deaths.parent.aside().next().is_none());
        assert!(deaths.join().is_some());
    }
}

#[test]
fn a_death_with_something_of_others_in_hand_accuses_nobody() {
    let mut deaths = Deaths::new(names(1, None, &["x"]));
    for _ in 0..5 {
        let (_, _, careful) = deaths.join().expect("a grant");
        assert!(!careful);
        deaths.die_with(99);
    }
    assert!(deaths.parent.aside().next().is_none());
}

#[test]
fn what_somebody_died_of_was_tried_again_before_all_else() {
    let mut deaths = Deaths::new(dirs(1, "", &["a", "b", "c"]));
    deaths.join();
    deaths.die_with(1);
    let (_, granted, _) = deaths.join().expect("a grant");
    assert_eq!(granted, [dirs(2, "", &["b", "c"])]);
}
