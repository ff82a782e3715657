//! The table of tools: how each is found, what it is started with, and what it counts.
//!
//! Each gets the form of its command that does the work with the least beside it: a tool that prints
//! paths prints to `/dev/null` when it is timed, and stat work is asked for by a test that needs the
//! size or the time of every entry and matches none. Not by `-size -0c`: bfs knows without asking that
//! nothing is smaller than nothing.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::reading::{Find, Reading, What};
use crate::Work;

/// One row of the table.
pub struct Tool {
    /// What it is called in the report.
    pub name: &'static str,
    /// The names under which it may be installed, the first one found is used.
    pub programs: &'static [&'static str],
    /// Another program that starts it, with its arguments: `mpirun`.
    pub through: &'static [&'static str],
    /// What makes it print its version.
    pub version: &'static [&'static str],
    /// What it can do.
    pub jobs: &'static [Job],
}

/// One command of a tool. In arguments `{dir}` is the tree and `{procs}` the number of processes or
/// threads.
pub struct Job {
    /// Which work it does.
    pub work: Work,
    /// The arguments that are timed.
    pub args: &'static [&'static str],
    /// The arguments of the run that is only counted, where they have to be others.
    pub counted: Option<&'static [&'static str]>,
    /// The numbers that the counted run prints.
    pub readings: &'static [Reading],
    /// Exit statuses beside 0 that are no failure.
    pub also_ok: &'static [i32],
    /// Whether it prints JSON with its own `seconds`, without its start and end, and perhaps
    /// `cpu_seconds`.
    pub own_clock: bool,
}

impl Job {
    const fn new(work: Work, args: &'static [&'static str]) -> Job {
        Job {
            work,
            args,
            counted: None,
            readings: &[],
            also_ok: &[],
            own_clock: false,
        }
    }

    const fn reads(mut self, readings: &'static [Reading]) -> Job {
        self.readings = readings;
        self
    }

    const fn counted(mut self, args: &'static [&'static str]) -> Job {
        self.counted = Some(args);
        self
    }

    const fn own_clock(mut self) -> Job {
        self.own_clock = true;
        self
    }

    const fn also_ok(mut self, statuses: &'static [i32]) -> Job {
        self.also_ok = statuses;
        self
    }
}

const fn reading(what: What, find: Find) -> Reading {
    Reading { what, find }
}

const DOTS: &[Reading] = &[reading(What::Entries, Find::Bytes)];
const PATHS: &[Reading] = &[reading(What::EntriesBelowRoot, Find::Nuls)];
const DU: &[Reading] = &[reading(What::UniqueAllocatedBytes, Find::LastLine)];
const MPI: &[&str] = &[
    "mpirun",
    "--allow-run-as-root",
    "--oversubscribe",
    "-np",
    "{procs}",
];

/// Hydra itself: `audit` for stat, `count` for listing.
pub const HYDRA: Tool = Tool {
    name: "hydra",
    programs: &[],
    through: &[],
    version: &["--version"],
    jobs: &[
        count(&["count", "--json", "{dir}"]),
        audit(&["--json", "{dir}"]),
    ],
};

/// The same with a journal, each run a new one in the place of the last.
pub const HYDRA_JOURNAL: Tool = Tool {
    name: "hydra-journal",
    programs: &[],
    through: &[],
    version: &["--version"],
    jobs: &[
        count(&["count", "--json", "--state-dir", "{state}", "{dir}"]),
        audit(&["--json", "--state-dir", "{state}", "{dir}"]),
    ],
};

const fn count(args: &'static [&'static str]) -> Job {
    const READINGS: &[Reading] = &[reading(What::Entries, Find::Json("/totals/entries"))];
    Job::new(Work::List, args).reads(READINGS)
}

const fn audit(args: &'static [&'static str]) -> Job {
    const READINGS: &[Reading] = &[
        reading(What::Entries, Find::Json("/totals/entries")),
        reading(
            What::UniqueAllocatedBytes,
            Find::Json("/totals/unique_allocated_bytes"),
        ),
    ];
    // Status 1: complete, but something could not be read; the counts will show it.
    Job::new(Work::Stat, args).reads(READINGS).also_ok(&[1])
}

/// The Python Hydra, by a script of the user's that starts server and workers and prints JSON.
pub const PYTHON_HYDRA: Tool = Tool {
    name: "python-hydra",
    programs: &[],
    through: &[],
    version: &[],
    jobs: &[
        Job::new(Work::List, &["list", "{dir}", "{procs}"])
            .reads(&[reading(What::Entries, Find::Json("/entries"))])
            .own_clock(),
        Job::new(Work::Stat, &["stat", "{dir}", "{procs}"])
            .reads(&[reading(What::Entries, Find::Json("/entries"))])
            .own_clock(),
    ],
};

/// The floor; its time is the one that it prints.
pub const FLOOR: Tool = Tool {
    name: "floor",
    programs: &[],
    through: &[],
    version: &["--version"],
    jobs: &[
        Job::new(Work::List, &["list", "{dir}", "--plan", "{plan}"])
            .reads(&[reading(What::Entries, Find::Json("/entries"))])
            .own_clock(),
        Job::new(Work::Stat, &["stat", "{dir}", "--plan", "{plan}"])
            .reads(&[
                reading(What::Entries, Find::Json("/entries")),
                reading(What::AllocatedBytes, Find::Json("/allocated_bytes")),
            ])
            .own_clock(),
    ],
};

/// All others that are looked for.
pub const PEERS: &[Tool] = &[
    Tool {
        name: "find",
        programs: &["find"],
        through: &[],
        version: &["--version"],
        jobs: &[
            Job::new(Work::List, &["{dir}", "-printf", "."]).reads(DOTS),
            Job::new(Work::Stat, &["{dir}", "-size", "+9007199254740992c"])
                .counted(&["{dir}", "-size", "-9007199254740992c", "-printf", "."])
                .reads(DOTS),
        ],
    },
    Tool {
        name: "du",
        programs: &["du"],
        through: &[],
        version: &["--version"],
        jobs: &[Job::new(Work::Stat, &["-s", "-B1", "{dir}"]).reads(DU)],
    },
    Tool {
        name: "bfs",
        programs: &["bfs"],
        through: &[],
        version: &["--version"],
        jobs: &[
            Job::new(Work::List, &["{dir}", "-printf", "."]).reads(DOTS),
            Job::new(Work::Stat, &["{dir}", "-size", "+9007199254740992c"])
                .counted(&["{dir}", "-size", "-9007199254740992c", "-printf", "."])
                .reads(DOTS),
        ],
    },
    Tool {
        name: "fd",
        programs: &["fd", "fdfind"],
        through: &[],
        version: &["--version"],
        jobs: &[
            Job::new(Work::List, &["-uu", "-0", "-j", "{procs}", ".", "{dir}"]).reads(PATHS),
            // A date after every time in the trees: all are asked about, none is printed.
            Job::new(
                Work::Stat,
                &[
                    "-uu",
                    "-0",
                    "-j",
                    "{procs}",
                    "--changed-after",
                    "2500-01-01",
                    ".",
                    "{dir}",
                ],
            )
            .counted(&[
                "-uu",
                "-0",
                "-j",
                "{procs}",
                "--changed-before",
                "2500-01-01",
                ".",
                "{dir}",
            ])
            .reads(PATHS),
        ],
    },
    Tool {
        name: "rg",
        programs: &["rg"],
        through: &[],
        version: &["--version"],
        jobs: &[Job::new(
            Work::List,
            &["--files", "-uuu", "-0", "-j", "{procs}", "{dir}"],
        )
        .reads(&[reading(What::Files, Find::Nuls)])
        // No file at all is "nothing found".
        .also_ok(&[1])],
    },
    Tool {
        name: "pdu",
        programs: &["pdu"],
        through: &[],
        version: &["--version"],
        jobs: &[Job::new(
            Work::Stat,
            &[
                "--threads={procs}",
                "--quantity=block-size",
                "--bytes-format=plain",
                "--max-depth=1",
                "{dir}",
            ],
        )
        .reads(&[reading(What::AllocatedBytes, Find::LastLine)])],
    },
    Tool {
        name: "dua",
        programs: &["dua"],
        through: &[],
        version: &["--version"],
        // It leaves out the blocks of directories, so there is no number to compare.
        jobs: &[Job::new(
            Work::Stat,
            &["-t", "{procs}", "-f", "bytes", "aggregate", "{dir}"],
        )],
    },
    Tool {
        name: "dust",
        programs: &["dust"],
        through: &[],
        version: &["--version"],
        jobs: &[Job::new(Work::Stat, &["-P", "-d", "0", "{dir}"])],
    },
    Tool {
        name: "gdu",
        programs: &["gdu", "gdu-go"],
        through: &[],
        version: &["--version"],
        // It takes every directory for 4,096 bytes, so there is no number to compare.
        jobs: &[Job::new(Work::Stat, &["-nps", "-m", "{procs}", "{dir}"])],
    },
    Tool {
        name: "ncdu",
        programs: &["ncdu"],
        through: &[],
        version: &["--version"],
        jobs: &[Job::new(Work::Stat, &["-0", "-o", "/dev/null", "{dir}"])],
    },
    Tool {
        name: "dwalk",
        programs: &["dwalk"],
        through: MPI,
        version: &[],
        jobs: &[
            Job::new(Work::List, &["-q", "-l", "{dir}"]),
            Job::new(Work::Stat, &["-q", "{dir}"]),
        ],
    },
    Tool {
        name: "pfind",
        programs: &["pfind"],
        through: MPI,
        version: &[],
        jobs: &[
            Job::new(Work::List, &["{dir}", "-name", "no such name"]),
            Job::new(Work::Stat, &["{dir}", "-size", "999999999999c"]),
        ],
    },
];

/// A tool that is there.
#[derive(Clone)]
pub struct Installed {
    /// Its row.
    pub tool: &'static Tool,
    /// Where it is.
    pub program: PathBuf,
    /// Another number of processes or threads than the session's.
    pub procs: Option<usize>,
}

impl Installed {
    /// What it is called in the report.
    #[must_use]
    pub fn name(&self) -> String {
        match self.procs {
            Some(procs) => format!("{}-{procs}", self.tool.name),
            None => self.tool.name.to_owned(),
        }
    }

    /// The same with another number of processes or threads, if it can be told.
    #[must_use]
    pub fn with_procs(&self, procs: usize) -> Option<Self> {
        let args = self.tool.jobs.iter().flat_map(|job| job.args);
        let can_be_told = self.tool.name == HYDRA.name
            || args
                .chain(self.tool.through)
                .any(|arg| arg.contains("{procs}"));
        can_be_told.then(|| Self {
            procs: Some(procs),
            ..self.clone()
        })
    }

    /// Its command line for `args`, the program first.
    #[must_use]
    pub fn command(&self, args: &[&str], places: &Places) -> Vec<OsString> {
        let procs = self.procs.unwrap_or(places.procs);
        let through = self.tool.through.iter().map(|arg| places.fill(arg, procs));
        let is_ours = [&HYDRA, &HYDRA_JOURNAL]
            .map(|ours| ours.name)
            .contains(&self.tool.name);
        let told = is_ours.then(|| OsString::from(format!("--workers={procs}")));
        let args = args.iter().map(|arg| places.fill(arg, procs));
        let program = std::iter::once(self.program.clone().into_os_string());
        through.chain(program).chain(told).chain(args).collect()
    }

    /// The job for `work`, if it can do that.
    #[must_use]
    pub fn job(&self, work: Work) -> Option<&'static Job> {
        self.tool.jobs.iter().find(|job| job.work == work)
    }
}

/// What stands for `{dir}`, `{procs}`, `{plan}` and, beside that, `{state}`.
pub struct Places {
    /// The tree.
    pub dir: PathBuf,
    /// Processes or threads.
    pub procs: usize,
    /// The floor's plan for this tree and work.
    pub plan: PathBuf,
}

impl Places {
    fn fill(&self, arg: &str, procs: usize) -> OsString {
        match arg {
            "{dir}" => self.dir.clone().into(),
            "{plan}" => self.plan.clone().into(),
            "{state}" => self.plan.with_extension("state").into(),
            _ => arg.replace("{procs}", &procs.to_string()).into(),
        }
    }
}

/// Looks for the peers in the directories of `path`; the second list says what is missing.
#[must_use]
pub fn installed(path: &OsStr) -> (Vec<Installed>, Vec<String>) {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for tool in PEERS {
        let program = tool.programs.iter().find_map(|name| search(name, path));
        let starter = tool.through.first();
        match program {
            None => missing.push(format!("{} is not installed", tool.name)),
            Some(_) if starter.is_some_and(|name| search(name, path).is_none()) => {
                missing.push(format!("{} needs {}", tool.name, MPI[0]));
            }
            Some(program) => found.push(Installed {
                tool,
                program,
                procs: None,
            }),
        }
    }
    (found, missing)
}

fn search(name: &str, path: &OsStr) -> Option<PathBuf> {
    use rustix::fs::{Access, access};
    std::env::split_paths(path)
        .map(|dir| Path::new(&dir).join(name))
        .find(|file| file.is_file() && access(file, Access::EXEC_OK).is_ok())
}
