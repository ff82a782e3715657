//! How large is each project, and how old? Files and bytes by the first directories below the root, and by age.
//!
//! ```sh
//! project_audit --depth 2 --age 30d --age 1y /home     # this machine
//! project_audit client --listen                        # on other hosts, and then
//! project_audit --clients host1,host2 --json /home
//! ```

use hydra::cli::values::duration;
use hydra::plugins::format;
use hydra::{
    Dir, Entry, Facts, FileType, Hydra, Plugin, PluginReport, ReduceError, ReportContext,
    ShownPath, Sink, Summary, Visit, Wants,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn main() -> ExitCode {
    Hydra::new().plugin::<ProjectAudit>().run()
}

/// The options. Their comments are what `--help` says.
#[derive(Clone, clap::Args, Serialize, Deserialize)]
struct Options {
    /// How many directories below the root name a project
    #[arg(long, value_name = "N", default_value_t = 1)]
    depth: usize,
    /// Tell files that changed within this time from older ones (repeatable)
    #[arg(long, value_name = "TIME", default_values = ["30d", "1y"])]
    age: Vec<String>,
    /// The start of the job, in seconds since 1970: the same for all workers.
    #[arg(skip)]
    now: u64,
}

/// What is added up: for each project and age (how many of `--age` a file is older than), files and bytes.
#[derive(Default, Serialize, Deserialize)]
struct Projects(BTreeMap<(Vec<u8>, usize), (u64, u64)>);

impl Summary for Projects {
    fn merge(&mut self, other: Self) {
        for (key, (files, bytes)) in other.0 {
            let sum = self.0.entry(key).or_default();
            *sum = (sum.0 + files, sum.1.saturating_add(bytes));
        }
    }
}

/// The half that runs in workers.
struct ProjectVisit {
    depth: usize,
    ages: Vec<Duration>,
    now: u64,
}

impl ProjectVisit {
    /// The project of the files in `dir`: the first names of its path.
    fn project(&self, dir: &Dir<'_>) -> Vec<u8> {
        let path = dir.relative();
        let names: Vec<_> = path.split(|byte| *byte == b'/').take(self.depth).collect();
        dir.root.show(&names.join(&b'/'))
    }
}

impl Visit for ProjectVisit {
    type Summary = Projects;

    fn wants(&self) -> Wants {
        Wants {
            facts: Facts::SIZE | Facts::MTIME,
            ..Wants::default()
        }
    }

    fn entry(&mut self, entry: &Entry<'_>, out: &mut Sink<Projects>) {
        if entry.file_type == FileType::File {
            let changed = entry.stat.mtime.0.try_into().unwrap_or(0);
            let age = Duration::from_secs(self.now.saturating_sub(changed));
            let older = self.ages.iter().filter(|than| age > **than).count();
            let sum = out.summary.0.entry((self.project(entry.dir), older));
            let sum = sum.or_default();
            *sum = (sum.0 + 1, sum.1.saturating_add(entry.stat.size));
        }
    }
}

struct ProjectAudit;

impl Plugin for ProjectAudit {
    const NAME: &'static str = "project-audit";
    const ABOUT: &'static str = "Files and bytes by project and by age";
    type Options = Options;
    type Visit = ProjectVisit;
    type Total = Projects;

    fn prepare(options: &mut Options, now: SystemTime) {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        options.now = now.as_secs();
    }

    fn visit(options: &Options) -> Result<ProjectVisit, String> {
        let ages = options.age.iter().map(|age| duration(age));
        let ages = ages.collect::<Result<Vec<_>, _>>();
        let ages = ages.map_err(|error| format!("--age: {error}"))?;
        if !ages.is_sorted() {
            return Err("--age: give the shorter time first".to_owned());
        }
        Ok(ProjectVisit {
            depth: options.depth,
            ages,
            now: options.now,
        })
    }

    fn total(_: &Options) -> Result<Projects, String> {
        Ok(Projects::default())
    }

    fn report(
        options: &Options,
        total: Projects,
        _context: &ReportContext,
    ) -> Result<PluginReport, ReduceError> {
        let mut text = "       files      bytes  changed    project\n".to_owned();
        let mut json = Vec::new();
        for ((project, older), (files, bytes)) in &total.0 {
            let older_than = older.checked_sub(1).and_then(|at| options.age.get(at));
            // Names are hostile to terminals, and go through `terminal`.
            text += &format!(
                "{:>12} {:>10}  {:<10} {}\n",
                format::count(*files),
                format::bytes(*bytes),
                older_than.map_or("lately".to_owned(), |age| format!("> {age} ago")),
                format::terminal(project),
            );
            json.push(serde_json::json!({
                "project": ShownPath::from(project.as_slice()), "older_than": older_than,
                "files": files, "bytes": bytes,
            }));
        }
        Ok(PluginReport {
            json: json.into(),
            text,
            bytes: None,
        })
    }
}
