//! A directory for rows without room. Needs root, for a file system of its own.

use super::*;
use std::process::Command;

/// The lab's directory on a small file system in memory.
struct Small {
    lab: Lab,
    at: PathBuf,
}

impl Small {
    /// None where nothing can be mounted.
    fn new() -> Option<(Self, Keeper)> {
        let tmp = tempfile::tempdir().unwrap();
        let at = tmp.path().join("rows");
        fs::create_dir(&at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k", "none"]);
        let mounted = mount.arg(&at).output();
        if !mounted.is_ok_and(|mounted| mounted.status.success()) {
            println!("skipped: it needs root");
            return None;
        }
        let (lab, keeper) = Lab::at(tmp);
        Some((Self { lab, at }, keeper))
    }

    /// Leaves no room for anything new.
    fn fill(&self) {
        let mut filler = File::create(self.lab.path("filler")).unwrap();
        while filler.write_all(&[0; 4096]).is_ok() {}
    }

    fn empty(&self) {
        fs::remove_file(self.lab.path("filler")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

#[test]
fn a_full_disk_at_the_end_lost_the_report() {
    let Some((mut small, mut keeper)) = Small::new() else {
        return;
    };
    small.lab.write(&id(1).file_name(), 70);
    small.fill();
    keeper.end(&counts(&[(1, 70)]), true, true);
    assert!(matches!(small.lab.wait(), Done::Full));
    small.empty();
    assert!(matches!(small.lab.wait(), Done::RoomAgain));
    let ended = small.lab.wait();
    let Done::Ended { is_done, lost } = ended else {
        panic!("{ended:?}");
    };
    assert!(is_done && lost == 0);
    keeper.done(&ended);
    assert!(!keeper.is_ending() && keeper.is_settled());
    let expected = BTreeMap::from([(id(1).file_name(), 70)]);
    assert_eq!(small.lab.read(), (expected, true));
}

#[test]
fn rows_that_found_no_room_before_the_job_was_stopped_were_an_error_at_its_end() {
    let Some((mut small, mut keeper)) = Small::new() else {
        return;
    };
    keeper.append(b"one\n".to_vec());
    assert!(matches!(small.lab.wait(), Done::Appended));
    small.fill();
    keeper.came(0, 4);
    keeper.append(vec![b'x'; 8 << 10]);
    keeper.came(0, 8 << 10);
    assert!(matches!(small.lab.wait(), Done::Full));
    keeper.publish(|_| true);
    keeper.stop();
    keeper.end(&Counts::new(), false, true);
    assert!(matches!(small.lab.wait(), Done::Appended));
    assert!(matches!(small.lab.wait(), Done::Published));
    let ended = small.lab.wait();
    let Done::Ended { is_done, lost } = ended else {
        panic!("{ended:?}");
    };
    assert!(!is_done && lost == 8 << 10);
    // A reader finds what is there.
    let (said, has_ended) = small.lab.read();
    assert!(said.is_empty() && !has_ended, "{said:?}");
}
