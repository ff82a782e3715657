//! The audit, with ticks: a datagram with the worker's process id every few directories. On request also with a
//! tally, the number of entries that were seen since the last one; and with a row for each directory.

use hydra::plugins::audit::{Audit, AuditOptions, AuditVisit};
use hydra::{Plugin, PluginReport, ReduceError, ReportContext, ShownPath, SummaryOf};
use hydra_worker::{Dir, Enter, Entry, FileType, Listing, Sink, Visit, Wants};
use serde::{Deserialize, Serialize};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::SystemTime;

/// Directories between two ticks.
pub(crate) const STRIDE: u64 = 10;

#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct TickOptions {
    #[command(flatten)]
    audit: AuditOptions,
    /// Where the harness listens for ticks
    #[arg(long)]
    ticks: Option<PathBuf>,
    /// Where the harness adds up the entries that were seen
    #[arg(long)]
    tally: Option<PathBuf>,
    /// Make a row for each directory
    #[arg(long)]
    each: bool,
}

pub(crate) struct TickAudit;

pub(crate) struct TickVisit {
    audit: AuditVisit,
    ticks: Option<UnixDatagram>,
    entered: u64,
    tally: Option<UnixDatagram>,
    seen: u64,
    each: bool,
}

impl TickVisit {
    /// Tells how many entries were seen. Waits for the harness to listen: none may be missing.
    fn tell(&mut self) {
        if let Some(tally) = self.tally.as_ref().filter(|_| self.seen > 0) {
            // Fails where the harness is gone.
            let _ = tally.send(&self.seen.to_le_bytes());
            self.seen = 0;
        }
    }
}

/// A socket to the harness.
pub(crate) fn connected(path: Option<&PathBuf>) -> Result<Option<UnixDatagram>, String> {
    let connect = |path| {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        Ok(socket)
    };
    let socket = path.map(connect).transpose();
    socket.map_err(|error: std::io::Error| error.to_string())
}

impl Plugin for TickAudit {
    const NAME: &'static str = "tick-audit";
    const ABOUT: &'static str = "The audit, telling a harness who is at work";
    type Options = TickOptions;
    type Visit = TickVisit;
    type Total = <Audit as Plugin>::Total;

    fn prepare(options: &mut TickOptions, now: SystemTime) {
        Audit::prepare(&mut options.audit, now);
    }

    fn visit(options: &TickOptions) -> Result<TickVisit, String> {
        Ok(TickVisit {
            audit: Audit::visit(&options.audit)?,
            ticks: connected(options.ticks.as_ref())?,
            entered: 0,
            tally: connected(options.tally.as_ref())?,
            seen: 0,
            each: options.each,
        })
    }

    fn total(options: &TickOptions) -> Result<Self::Total, String> {
        Audit::total(&options.audit)
    }

    fn report(
        options: &TickOptions,
        total: Self::Total,
        context: &ReportContext,
    ) -> Result<PluginReport, ReduceError> {
        Audit::report(&options.audit, total, context)
    }
}

impl Visit for TickVisit {
    type Summary = SummaryOf<Audit>;

    fn wants(&self) -> Wants {
        self.audit.wants()
    }

    fn enter(&mut self, dir: &Dir<'_>, out: &mut Sink<Self::Summary>) -> Enter {
        self.entered += 1;
        if self.entered.is_multiple_of(STRIDE)
            && let Some(ticks) = &self.ticks
        {
            // The harness may have heard enough.
            let _ = ticks.send(&std::process::id().to_le_bytes());
        }
        self.tell();
        self.audit.enter(dir, out)
    }

    fn entry(&mut self, entry: &Entry<'_>, out: &mut Sink<Self::Summary>) {
        self.seen += 1;
        if self.each && entry.file_type == FileType::Directory {
            out.row(&ShownPath::from(entry.shown()));
        }
        self.audit.entry(entry, out);
    }

    fn listed(&mut self, dir: &Dir<'_>, listing: &Listing, out: &mut Sink<Self::Summary>) {
        self.audit.listed(dir, listing, out);
    }

    fn leave(&mut self, dir: &Dir<'_>, out: &mut Sink<Self::Summary>) {
        self.audit.leave(dir, out);
    }

    fn flush(&mut self, out: &mut Sink<Self::Summary>) {
        self.tell();
        self.audit.flush(out);
    }
}
