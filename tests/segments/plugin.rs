//! A plugin that writes many rows: as many for each file as its name says. Before each file it tells a harness who is at
//! work, and waits until the harness has heard it.

use hydra::{Plugin, PluginReport, ReduceError, ReportContext};
use hydra_worker::{Entry, FileType, Sink, Visit, Wants};
use serde::{Deserialize, Serialize};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct PourOptions {
    /// Where the harness listens
    #[arg(long)]
    ticks: PathBuf,
    /// Bytes of each row, about
    #[arg(long, default_value_t = 200)]
    bytes: usize,
}

pub(crate) struct Pour;

pub(crate) struct PourVisit {
    ticks: UnixDatagram,
    filler: String,
}

#[derive(Serialize)]
struct Row<'a> {
    file: &'a str,
    number: u64,
    filler: &'a str,
}

/// The rows of a file: its name ends with their number.
pub(crate) fn rows_of(name: &str) -> u64 {
    let number = name.rsplit('-').next();
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// What one row says.
pub(crate) fn row(file: &str, number: u64, bytes: usize) -> Vec<u8> {
    let filler = "x".repeat(bytes);
    let mut line = serde_json::to_vec(&Row {
        file,
        number,
        filler: &filler,
    })
    .unwrap_or_default();
    line.push(b'\n');
    line
}

impl Plugin for Pour {
    const NAME: &'static str = "pour";
    const ABOUT: &'static str = "Write many rows";
    type Options = PourOptions;
    type Visit = PourVisit;
    type Total = ();

    fn visit(options: &PourOptions) -> Result<PourVisit, String> {
        let connect = || {
            let socket = UnixDatagram::unbound()?;
            socket.connect(&options.ticks)?;
            Ok(socket)
        };
        let ticks = connect().map_err(|error: std::io::Error| error.to_string())?;
        let filler = "x".repeat(options.bytes);
        Ok(PourVisit { ticks, filler })
    }

    fn total(_: &PourOptions) -> Result<(), String> {
        Ok(())
    }

    fn report(_: &PourOptions, (): (), _: &ReportContext) -> Result<PluginReport, ReduceError> {
        Ok(PluginReport::default())
    }
}

impl Visit for PourVisit {
    type Summary = ();

    fn wants(&self) -> Wants {
        Wants::default()
    }

    fn entry(&mut self, entry: &Entry<'_>, out: &mut Sink<()>) {
        if entry.file_type != FileType::File {
            return;
        }
        // Fails where the harness is gone.
        let _ = self.ticks.send(&std::process::id().to_le_bytes());
        let shown = entry.shown();
        let file = String::from_utf8_lossy(&shown);
        for number in 0..rows_of(&file) {
            out.row(&Row {
                file: &file,
                number,
                filler: &self.filler,
            });
        }
    }
}
