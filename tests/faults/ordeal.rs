//! One job under all that its seed decides, and whether it came out as it must.

use crate::cluster::Cluster;
use crate::fuse::Faulty;
use crate::lab::{Lab, Outcome};
use crate::plan::{Kind, Plan};
use crate::purge::Files;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a run that came out well tells.
pub(crate) struct Told {
    /// How often what hit somebody who owned work, and what came of that.
    pub(crate) hits: BTreeMap<String, u64>,
    pub(crate) took: Duration,
}

/// A tree to walk, and what has to come of it.
struct Task {
    paths: Vec<PathBuf>,
    expected: Outcome,
    /// The path that gives no answer.
    hung: Option<PathBuf>,
    faulty: Option<Faulty>,
    /// What is deleted.
    files: Option<Files>,
}

/// Runs what this seed decides. The log is kept where it went wrong, or if `keep` says so.
pub(crate) fn run(lab: &Lab, plan: &Plan, keep: bool) -> Result<Told, String> {
    let task = Task::new(lab, plan).map_err(|error| format!("no tree: {error}"))?;
    let mut cluster = Cluster::start(lab, plan, task.paths.clone())
        .map_err(|error| format!("could not be started: {error}"))?;
    let outcome = suffer(&mut cluster, plan, task.ticks())
        .and_then(|()| cluster.finish())
        .and_then(|outcome| task.check(lab, &outcome))
        .and_then(|()| cluster.check_gone());
    match outcome {
        Ok(()) => {
            let (hits, took) = cluster.hits();
            if keep {
                println!("{}", keep_log(plan.seed, &cluster.log()));
            }
            Ok(Told { hits, took })
        }
        Err(error) => Err(format!("{error}; {}", keep_log(plan.seed, &cluster.log()))),
    }
}

/// Lets everything befall the cluster until its job is over.
fn suffer(cluster: &mut Cluster<'_>, plan: &Plan, ticks: u64) -> Result<(), String> {
    let mut faults = plan.faults.iter().peekable();
    let mut tick = 0;
    while let Some(worker) = cluster.next_tick()? {
        tick += 1;
        while let Some((_, fault)) = faults.next_if(|(at, _)| at * ticks <= tick * 1000) {
            cluster.inflict(*fault, worker)?;
        }
    }
    Ok(())
}

impl Task {
    fn new(lab: &Lab, plan: &Plan) -> std::io::Result<Self> {
        let mut task = Self {
            paths: vec![lab.tree().to_owned()],
            expected: lab.reference().clone(),
            hung: None,
            faulty: None,
            files: None,
        };
        if plan.purge {
            let files = Files::new(lab, plan.seed)?;
            task.paths = vec![files.root().to_owned()];
            task.files = Some(files);
        }
        if !plan.kind.has_fuse() {
            return Ok(task);
        }
        let mut rng = SmallRng::seed_from_u64(!plan.seed);
        let faulty = Faulty::new(lab.path(&format!("fuse-{}", plan.seed)), plan.seed)?;
        match plan.kind {
            Kind::Hang => task.paths.push(faulty.at().to_owned()),
            _ => {
                faulty.fail(&mut rng);
                task.paths = vec![faulty.at().to_owned()];
            }
        }
        let paths: Vec<&Path> = task.paths.iter().map(PathBuf::as_path).collect();
        task.expected = lab.oracle(&paths)?;
        if plan.kind == Kind::Hang {
            task.hung = Some(faulty.hang(&mut rng));
        }
        // What fails or hangs already does so still.
        faulty.dawdle(&mut rng);
        task.faulty = Some(faulty);
        Ok(task)
    }

    /// Ticks of an undisturbed run.
    fn ticks(&self) -> u64 {
        let counted = || Lab::ticks(&self.expected);
        self.files.as_ref().map_or_else(counted, Files::ticks)
    }

    /// What hangs must be named; with all that is named taken away, one thread must say the same.
    fn check(&self, lab: &Lab, outcome: &Outcome) -> Result<(), String> {
        if let Some(files) = &self.files {
            return files.check(outcome);
        }
        let (Some(hung), Some(faulty)) = (&self.hung, &self.faulty) else {
            return different(outcome, &self.expected);
        };
        let aside = set_aside(&outcome.report);
        if !aside.contains(hung) {
            return Err(format!("{} is not named: {aside:?}", hung.display()));
        }
        if !faulty.deny_only(&aside) {
            return Err(format!("named, and no directories there: {aside:?}"));
        }
        let paths: Vec<&Path> = self.paths.iter().map(PathBuf::as_path).collect();
        let mut expected = lab.oracle(&paths).map_err(|error| error.to_string())?;
        let mut outcome = outcome.clone();
        if outcome.status != Some(3) || outcome.report["complete"] != json!(false) {
            return Err(format!("status {:?}, and a path hangs", outcome.status));
        }
        // What is named was not read; to one thread that is an error.
        expected.status = outcome.status;
        for report in [&mut expected.report, &mut outcome.report] {
            report["complete"] = Value::Null;
            report["errors"] = Value::Null;
        }
        different(&outcome, &expected)
    }
}

/// Where they differ both reports are kept.
fn different(outcome: &Outcome, expected: &Outcome) -> Result<(), String> {
    outcome.check(expected).map_err(|error| {
        let ours = Lab::keep("ours", &outcome.report);
        let theirs = Lab::keep("theirs", &expected.report);
        format!("{error}: compare {ours} with {theirs}")
    })
}

fn set_aside(report: &Value) -> Vec<PathBuf> {
    let lines = report["errors"]["set_aside"].as_array();
    let paths = lines.into_iter().flatten();
    let paths = paths.filter_map(|line| line["path"].as_str());
    paths.map(PathBuf::from).collect()
}

fn keep_log(seed: u64, log: &str) -> String {
    let path = std::env::temp_dir().join(format!("hydra-fault-{seed}.log"));
    match std::fs::write(&path, log) {
        Ok(()) => format!("see {}", path.display()),
        Err(error) => error.to_string(),
    }
}
