//! What a reader has to know of the machine to judge the figures.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// The machine and its state.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Kernel name and release.
    pub kernel: String,
    /// Name of the processor.
    pub processor: String,
    /// Processors that may be used.
    pub processors: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Load average over one minute when the session began: anything near 1 spoils the figures.
    pub load: String,
}

impl Machine {
    /// Looks at this one.
    #[must_use]
    pub fn here() -> Machine {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let behind = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(':'));
            value.map(|(_, value)| value.trim().to_owned())
        };
        let memory = behind(&read("/proc/meminfo"), "MemTotal");
        let kib = memory.and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        let load = read("/proc/loadavg");
        Machine {
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            processor: behind(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: kib.unwrap_or(0) * 1024,
            load: load.split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

/// Type of the file system that holds `path`, from the longest mount point above it.
#[must_use]
pub fn file_system(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((fields.next()?, fields.next()?))
        })
        .filter(|(point, _)| path.starts_with(point))
        .max_by_key(|(point, _)| point.len())
        .map_or_else(String::new, |(_, kind)| kind.to_owned())
}
