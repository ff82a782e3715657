//! The tree that the harness walks: uneven, with links, the same for every run.

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Builds about `directories` directories below `root`, and one directory with many files.
pub(crate) fn build(root: &Path, directories: usize) -> io::Result<()> {
    let mut rng = SmallRng::seed_from_u64(7);
    fs::create_dir(root)?;
    let mut made: Vec<PathBuf> = vec![root.to_path_buf()];
    for number in 0..directories {
        // Mostly near the newest ones: some chains grow deep, some directories wide.
        let from = made.len().saturating_sub(rng.random_range(1..400));
        let parent = &made[rng.random_range(from..made.len())];
        let dir = parent.join(format!("d{number}"));
        fs::create_dir(&dir)?;
        for file in 0..rng.random_range(0..4u32) {
            let path = dir.join(format!(
                "f{file}.{}",
                ["txt", "h5", "rs"][file as usize % 3]
            ));
            File::create(&path)?.set_len(rng.random_range(0..100_000))?;
            if file == 1 && number % 50 == 0 {
                fs::hard_link(&path, root.join(format!("link{number}")))?;
            }
        }
        if number % 37 == 0 {
            symlink("f0.txt", dir.join("pointer"))?;
        }
        made.push(dir);
    }
    let crowd = root.join("crowd");
    fs::create_dir(&crowd)?;
    for number in 0..10_000 {
        File::create(crowd.join(format!("member-{number}")))?;
    }
    Ok(())
}
