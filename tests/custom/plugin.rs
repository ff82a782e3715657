//! A plugin that does what the name of a file tells: `rows-N` N rows, `panic` a panic, `exit` and `abort` the end of its
//! process.

use hydra::{
    Entry, FileType, Plugin, PluginReport, ReduceError, ReportContext, Sink, Visit, Wants,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct DoOptions {
    /// Bytes of each row, about
    #[arg(long, default_value_t = 200)]
    bytes: usize,
}

pub(crate) struct Do;

pub(crate) struct DoVisit {
    filler: String,
}

#[derive(Serialize)]
struct Row<'a> {
    file: &'a str,
    number: u64,
    filler: &'a str,
}

/// One row, as it is written.
pub(crate) fn row(file: &str, number: u64, bytes: usize) -> String {
    let filler = "x".repeat(bytes);
    let row = Row {
        file,
        number,
        filler: &filler,
    };
    serde_json::to_string(&row).unwrap()
}

impl Plugin for Do {
    const NAME: &'static str = "do";
    const ABOUT: &'static str = "Do what names tell";
    type Options = DoOptions;
    type Visit = DoVisit;
    type Total = ();

    fn visit(options: &DoOptions) -> Result<DoVisit, String> {
        let filler = "x".repeat(options.bytes);
        Ok(DoVisit { filler })
    }

    fn total(_: &DoOptions) -> Result<(), String> {
        Ok(())
    }

    fn report(_: &DoOptions, (): (), _: &ReportContext) -> Result<PluginReport, ReduceError> {
        Ok(PluginReport::default())
    }
}

impl Visit for DoVisit {
    type Summary = ();

    fn wants(&self) -> Wants {
        Wants::default()
    }

    fn entry(&mut self, entry: &Entry<'_>, out: &mut Sink<()>) {
        if entry.file_type != FileType::File {
            return;
        }
        let name = String::from_utf8_lossy(entry.name).into_owned();
        match name.split_once('-') {
            Some(("rows", number)) => {
                let shown = entry.shown();
                let file = String::from_utf8_lossy(&shown);
                for number in 0..number.parse().unwrap() {
                    out.row(&Row {
                        file: &file,
                        number,
                        filler: &self.filler,
                    });
                }
            }
            _ if name == "panic" => panic!("it was told to"),
            _ if name == "exit" => std::process::exit(7),
            _ if name == "abort" => std::process::abort(),
            _ => {}
        }
    }
}
