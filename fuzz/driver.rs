//! Drives a fuzz target without a fuzzer: seeded changes of its seed files, the same everywhere and every time.
//!
//! Included by the tests of each crate that has targets. `HYDRA_FUZZ_CASES` says how many cases,
//! `HYDRA_FUZZ_SEED` where they begin; a case that fails prints how to repeat it, and its bytes.

use std::fs;
use std::path::{Path, PathBuf};

/// Cases that a plain `cargo test` runs.
const CASES: u64 = 3000;
/// No case is longer.
const BYTES_MAX: usize = 8 << 10;
/// Bytes at which formats turn: limits of integers, and what announces longer ones.
const TURNS: [u8; 10] = [0, 1, 0x7f, 0x80, 250, 251, 252, 253, 254, 255];

/// Where the seed files of `target` are.
pub(crate) fn seed_dir(target: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds")).join(target)
}

/// The seed files of `target`, by name.
pub(crate) fn seeds(target: &str) -> Vec<Vec<u8>> {
    let dir = seed_dir(target);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let seeds: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(!seeds.is_empty(), "{} is empty", dir.display());
    seeds
}

/// Runs `target` on its seeds, and on what becomes of them.
pub(crate) fn drive(target: &'static str, run: fn(&[u8])) {
    let number = |name: &str, default| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}: {text:?}")),
        Err(_) => default,
    };
    let (first, cases) = (
        number("HYDRA_FUZZ_SEED", 1),
        number("HYDRA_FUZZ_CASES", CASES),
    );
    let seeds = seeds(target);
    seeds.iter().for_each(|seed| run(seed));
    for seed in first..first.saturating_add(cases) {
        let bytes = changed(&seeds, &mut Dice(seed));
        let _told = Told {
            target,
            seed,
            bytes: &bytes,
        };
        run(&bytes);
    }
}

/// Tells which case it was, should it fail.
struct Told<'a> {
    target: &'static str,
    seed: u64,
    bytes: &'a [u8],
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let hex: String = self.bytes.iter().map(|b| format!("{b:02x}")).collect();
            println!("bytes: {hex}");
            println!(
                "repeat: HYDRA_FUZZ_SEED={} HYDRA_FUZZ_CASES=1 cargo test -p {} --lib fuzz::tests::{}",
                self.seed,
                env!("CARGO_PKG_NAME"),
                self.target
            );
        }
    }
}

/// Pseudo-random numbers (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`; 0 if that is 0.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % (end.max(1) as u64)) as usize
    }

    fn byte(&mut self) -> u8 {
        match self.below(2) {
            0 => TURNS[self.below(TURNS.len())],
            _ => self.next() as u8,
        }
    }
}

fn changed(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    // The seed's number and the case's are mixed, or neighbours would be alike.
    dice.next();
    let mut bytes = seeds[dice.below(seeds.len())].clone();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len());
        let end = at + dice.below((bytes.len() - at).min(64) + 1);
        match dice.below(9) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            2 | 3 if at < bytes.len() => bytes[at] = dice.byte(),
            4 => bytes.insert(at, dice.byte()),
            5 => drop(bytes.drain(at..end)),
            6 => {
                let other = &seeds[dice.below(seeds.len())];
                let from = dice.below(other.len());
                bytes.splice(at..end, other[from..].iter().copied());
            }
            7 => {
                let mut number = vec![[251, 252, 253][dice.below(3)]];
                number.extend((0..8).map(|_| dice.byte()));
                bytes.splice(at..end, number);
            }
            _ => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(end..end, copy);
            }
        }
        bytes.truncate(BYTES_MAX);
    }
    if dice.below(8) == 0 {
        bytes.truncate(dice.below(bytes.len()));
    }
    bytes
}
