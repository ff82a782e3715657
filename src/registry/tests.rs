use super::*;
use crate::test_plugin::{ActingOptions, ActingProbe, Calls, Probe, ProbeOptions};
use hydra_worker::{Entry, Sink, Visit, Wants};
use std::time::{Duration, UNIX_EPOCH};

fn read(line: &str) -> Result<Vec<u8>, PluginError> {
    let registry = Registry::new().with::<Probe>();
    let plugin = registry.default_plugin().unwrap();
    let command = plugin
        .add_options(Command::new("test"))
        .no_binary_name(true);
    let matches = command.try_get_matches_from(line.split_whitespace())?;
    plugin.read_options(&matches, UNIX_EPOCH + Duration::from_secs(42))
}

#[test]
fn options_travel_whole() {
    let options: ProbeOptions =
        serde_json::from_slice(&read("--older 90d --facts").unwrap()).unwrap();
    assert_eq!(options.older, Duration::from_secs(90 * 86_400));
    assert!(options.facts);
    assert_eq!(options.now, 42, "prepared before they are sent");
}

#[test]
fn options_that_make_no_sense_are_refused_before_anything_is_walked() {
    let error = read("--older 2y").unwrap_err();
    assert_eq!(
        error.to_string(),
        "probe: nothing is older than a year here"
    );
    assert!(matches!(
        read("--older soon"),
        Err(PluginError::Arguments(_))
    ));
}

#[test]
fn the_first_plugin_is_the_default() {
    let registry = Registry::new().with::<Probe>().with::<ActingProbe>();
    assert_eq!(registry.check(), Ok(()));
    assert_eq!(registry.default_plugin().unwrap().name(), "probe");
    assert!(registry.get("act").unwrap().acts());
    assert!(registry.get("other").is_none());
}

#[test]
fn plugins_that_cannot_be_told_apart_are_an_error() {
    assert_eq!(Registry::new().check(), Err(RegistryError::Empty));
    let twice = Registry::new().with::<Probe>().with::<Probe>();
    assert_eq!(twice.check(), Err(RegistryError::Twice("probe")));
}

#[test]
fn deltas_reach_the_report_through_both_levels() {
    let registry = Registry::new().with::<Probe>();
    let plugin = registry.default_plugin().unwrap();
    let delta = |text: &str| codec::encode(&Calls(vec![text.to_owned()])).unwrap();
    let mut client = plugin.merger(&job(plugin, false)).unwrap();
    client.merge(&delta("a")).unwrap();
    client.merge(&delta("b")).unwrap();
    let (mut server, lent) = lend(plugin.reducer(&read("").unwrap()).unwrap());
    server.merge(&client.take().unwrap()).unwrap();
    server.merge(&client.take().unwrap()).unwrap();
    server.merge(&delta("c")).unwrap();
    assert!(server.merge(b"\xff\xff\xff").is_err());
    let context = ReportContext {
        width: 80,
        color: false,
        walk: Default::default(),
    };
    let report = lent.report(&context).unwrap();
    assert_eq!(report.json, serde_json::json!(["a", "b", "c"]));
}

#[test]
fn options_of_another_build_are_an_error_and_no_panic() {
    let registry = Registry::new().with::<Probe>();
    let plugin = registry.default_plugin().unwrap();
    assert!(matches!(
        plugin.reducer(b"{}"),
        Err(PluginError::Encoding { .. })
    ));
}

fn job(plugin: &Arc<dyn AnyPlugin>, acts: bool) -> JobSpec {
    JobSpec {
        plugin: plugin.name().to_owned(),
        acts,
        ..JobSpec::default()
    }
}

#[test]
fn a_server_that_denied_that_a_plugin_acts_needed_no_permission() {
    let registry = Registry::new().with::<ActingProbe>();
    let plugin = registry.default_plugin().unwrap();
    assert!(plugin.merger(&job(plugin, false)).is_err());
    assert!(plugin.merger(&job(plugin, true)).is_ok());
}

/// Wants to act, and does not say so.
struct Sly;

impl Visit for Sly {
    type Summary = Calls;

    fn wants(&self) -> Wants {
        Wants {
            acts: true,
            ..Wants::default()
        }
    }

    fn entry(&mut self, _: &Entry<'_>, _: &mut Sink<Calls>) {}
}

impl Plugin for Sly {
    const NAME: &'static str = "sly";
    const ABOUT: &'static str = "Acts unasked";
    type Options = ActingOptions;
    type Visit = Self;
    type Total = Calls;

    fn visit(_: &ActingOptions) -> Result<Self, String> {
        Ok(Self)
    }

    fn total(_: &ActingOptions) -> Result<Calls, String> {
        Ok(Calls::default())
    }

    fn report(_: &ActingOptions, _: Calls, _: &ReportContext) -> Result<PluginReport, ReduceError> {
        Ok(PluginReport::default())
    }
}

#[test]
fn a_plugin_could_act_without_being_one_that_acts() {
    let registry = Registry::new().with::<Sly>();
    let plugin = registry.default_plugin().unwrap();
    let command = plugin.add_options(Command::new("test"));
    let matches = command.get_matches_from(["test"]);
    assert!(matches!(
        plugin.read_options(&matches, UNIX_EPOCH),
        Err(PluginError::Refused { .. })
    ));
}
