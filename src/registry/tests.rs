use super::*;
use crate::test_plugin::{ActingProbe, Calls, Probe, ProbeOptions};
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
    let mut client = plugin.merger();
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
