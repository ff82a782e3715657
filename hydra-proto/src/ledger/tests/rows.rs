//! Rows that come in pieces: who is told of them, and what no honest child sends.

use super::*;
use crate::segment::{PIECE_BYTES, SEGMENT_BYTES_MAX, Segment};

fn piece(at: u64, bytes: usize) -> Rows {
    Rows {
        worker: 7,
        number: 2,
        at,
        bytes: vec![b'\n'; bytes],
    }
}

#[test]
fn a_piece_goes_to_the_shell_with_its_session_and_moves_no_work() {
    let mut parent = server();
    join(&mut parent, 1, 1);
    let child = join(&mut parent, 2, 1);
    drain(&mut parent);
    let counts = parent.counts();
    let rows = piece(300, 5);
    parent.handle(ms(1), ConnId(2), Up::Rows(rows.clone()));
    let expected = Action::Rows {
        conn: ConnId(2),
        epoch: epoch(child),
        rows,
    };
    assert_eq!(drain(&mut parent), [expected]);
    assert_eq!(parent.counts(), counts);
}

#[test]
fn a_piece_beyond_the_limits_ends_the_session() {
    for rows in [
        piece(0, PIECE_BYTES + 1),
        piece(SEGMENT_BYTES_MAX, 1),
        piece(u64::MAX, 1),
    ] {
        let mut parent = server();
        let child = join(&mut parent, 1, 1);
        drain(&mut parent);
        parent.handle(ms(1), ConnId(1), Up::Rows(rows));
        let actions = drain(&mut parent);
        let is_lost =
            |action: &Action| matches!(action, Action::Lost { child: of, .. } if *of == child);
        assert!(actions.iter().any(is_lost), "{actions:?}");
    }
}

#[test]
fn a_stranger_s_rows_are_nobody_s() {
    let mut parent = server();
    parent.handle(ms(1), ConnId(1), Up::Rows(piece(0, 1)));
    let actions = drain(&mut parent);
    assert!(
        matches!(&actions[..], [Action::Close { .. }]),
        "{actions:?}"
    );
}

#[test]
fn a_commit_s_segments_come_with_its_session() {
    let mut parent = server();
    let child = join(&mut parent, 1, 1);
    drain(&mut parent);
    let segment = Segment {
        worker: 7,
        number: 2,
        bytes: 305,
    };
    let mut commit = commit(child, 1);
    commit.result = Some(Delta {
        segments: vec![segment],
        ..Delta::default()
    });
    parent.handle(ms(1), ConnId(1), Up::Commit(Box::new(commit)));
    let named = drain(&mut parent)
        .into_iter()
        .find_map(|action| match action {
            Action::Applied { epoch, result, .. } => Some((epoch, result?.segments)),
            _ => None,
        });
    assert_eq!(named, Some((epoch(child), vec![segment])));
}
