//! What workers do with what they find.

use super::PATIENCE;
use hydra_proto::walk::FileType;
use hydra_worker::{Dir, Enter, Entry, Facts, Listing, Sink, Visit, Wants};
use std::io::Write;
use std::time::Duration;

/// Reports each call as a row: `e` entry, `i` enter, `l` listed, `o` leave, and the path in hexadecimal.
#[derive(Default)]
pub struct Paths {
    pub wants: Wants,
    pub calls: bool,
    /// Waits for so long at each entry.
    pub slow: Duration,
    /// Panics at entries of this name.
    pub panic_at: Option<&'static [u8]>,
    pub skip: Option<&'static [u8]>,
    pub stop_at: Option<(Vec<u8>, std::sync::mpsc::Sender<()>)>,
}

impl Paths {
    fn row(out: &mut Sink<()>, kind: u8, path: &[u8]) {
        out.rows.push(kind);
        for byte in path {
            write!(out.rows, "{byte:02x}").unwrap();
        }
        out.rows.push(b'\n');
    }
}

pub fn unhex(text: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(text).unwrap();
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}

impl Visit for Paths {
    type Summary = ();

    fn wants(&self) -> Wants {
        self.wants
    }

    fn enter(&mut self, dir: &Dir<'_>, out: &mut Sink<()>) -> Enter {
        if self.calls {
            Self::row(out, b'i', &dir.shown());
        }
        match self.skip {
            Some(name) if dir.shown().ends_with(name) => Enter::Skip,
            _ => Enter::Walk,
        }
    }

    fn entry(&mut self, entry: &Entry<'_>, out: &mut Sink<()>) {
        assert_ne!(entry.file_type, FileType::Unknown);
        if let Some((path, told)) = &self.stop_at
            && entry.shown() == *path
        {
            let _ = told.send(());
            std::thread::sleep(PATIENCE);
        }
        if self.panic_at == Some(entry.name) {
            panic!("as asked");
        }
        if !self.slow.is_zero() {
            std::thread::sleep(self.slow);
        }
        Self::row(out, b'e', &entry.shown());
    }

    fn listed(&mut self, dir: &Dir<'_>, _: &Listing, out: &mut Sink<()>) {
        if self.calls {
            Self::row(out, b'l', &dir.shown());
        }
    }

    fn leave(&mut self, dir: &Dir<'_>, out: &mut Sink<()>) {
        if self.calls {
            Self::row(out, b'o', &dir.shown());
        }
    }
}

/// Shows nothing.
pub struct Count;

impl Visit for Count {
    type Summary = ();

    fn wants(&self) -> Wants {
        Wants::default()
    }

    fn entry(&mut self, _: &Entry<'_>, _: &mut Sink<()>) {}
}

/// Wants every fact.
pub fn with_stat() -> Paths {
    Paths {
        wants: Wants {
            facts: Facts::ALL,
            ..Wants::default()
        },
        ..Paths::default()
    }
}
