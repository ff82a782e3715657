//! What a client serves, and where it has that.

use super::support::server::Server;
use super::support::{SLOW, config, job, root};
use super::{assert_all_gone, assert_whole, embed};
use hydra_client::{Allow, PathMap};
use hydra_proto::message::RootView;
use std::time::Duration;

#[tokio::test]
async fn workers_get_the_roots_where_this_host_has_them() {
    let (mut config, mut lines) = config(1, "");
    config.maps = vec![PathMap {
        server: b"/data".to_vec(),
        local: b"/mnt/a".to_vec(),
    }];
    let (client, mut connection) = embed(config);
    let mut server = Server::new(1, job(SLOW));
    let (_, line) = tokio::join!(server.finish(&mut connection), lines.wait("root"));
    assert_eq!(line.text, "root /mnt/a");
    assert!(client.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_root_outside_the_allowed_ones_is_refused() {
    let (mut config, lines) = config(1, "");
    let here = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/usr", here.path().join("way-out")).unwrap();
    config.allow_roots = vec![here.path().to_owned()];
    let (client, mut connection) = embed(config);
    let mut spec = job(SLOW);
    let here = here.path().to_str().unwrap();
    spec.roots = [
        here,
        "/usr",
        &format!("{here}/way-out"),
        &format!("{here}/../{}", "x"),
        &format!("{here}/nothing"),
    ]
    .map(root)
    .to_vec();
    let mut server = Server::new(1, spec);
    server
        .talk(&mut connection, |server| !server.views.is_empty())
        .await;
    let kinds: Vec<&str> = server
        .views
        .iter()
        .map(|view| match view {
            RootView::Seen(_) => "seen",
            RootView::Missing { kind, .. } => kind,
            RootView::Refused(_) => "refused",
            RootView::Silent(_) => "silent",
        })
        .collect();
    assert_eq!(kinds, ["seen", "refused", "refused", "refused", "ENOENT"]);
    drop(connection);
    assert!(client.await.unwrap().is_ok());
    assert_all_gone(lines, 0).await;
}

#[tokio::test]
async fn a_plugin_that_acts_must_be_allowed() {
    let mut spec = job(SLOW);
    spec.plugin = "purge".to_owned();
    spec.acts = true;
    let (mut allowing, _lines) = config(1, "");
    allowing.allow_plugins = Allow::Only(vec!["purge".to_owned()]);
    let (client, mut connection) = embed(allowing);
    let mut server = Server::new(1, spec.clone());
    server.finish(&mut connection).await;
    assert_whole(&server, SLOW);
    assert!(client.await.unwrap().is_ok());

    let (refusing, lines) = config(1, "");
    let (client, mut connection) = embed(refusing);
    let mut server = Server::new(1, spec);
    server
        .talk(&mut connection, |server| !server.views.is_empty())
        .await;
    let [RootView::Refused(reason)] = &server.views[..] else {
        panic!("not refused: {:?}", server.views);
    };
    assert!(reason.contains("--allow purge"), "{reason}");
    drop(connection);
    assert!(client.await.unwrap().is_ok());
    assert!(lines.pids().await.is_empty());
}

#[tokio::test]
async fn a_mount_that_does_not_answer_holds_up_nothing_else() {
    let (mut config, _lines) = config(1, "");
    config.timings.root_look = Duration::from_millis(100);
    let (client, mut connection) = embed(config);
    let mut spec = job(SLOW);
    spec.roots = ["/data", "/dead", "/more"].map(root).to_vec();
    let mut server = Server::new(1, spec);
    server
        .talk(&mut connection, |server| !server.views.is_empty())
        .await;
    assert!(matches!(server.views[0], RootView::Seen(_)));
    let RootView::Silent(why) = &server.views[1] else {
        panic!("{:?}", server.views[1]);
    };
    assert_eq!(why, "the file system does not answer within 100ms");
    assert!(matches!(server.views[2], RootView::Seen(_)));
    drop(connection);
    assert!(client.await.unwrap().is_ok());
}

#[tokio::test]
async fn roots_that_nobody_looked_at_were_said_not_to_answer() {
    let (mut config, _lines) = config(1, "");
    config.timings.root_look = Duration::from_millis(100);
    let (client, mut connection) = embed(config);
    let mut spec = job(SLOW);
    // More than are looked at beside one another.
    spec.roots = (0..70).map(|n| root(&format!("/dead{n}"))).collect();
    let mut server = Server::new(1, spec);
    server
        .talk(&mut connection, |server| !server.views.is_empty())
        .await;
    let why = |view: &RootView| match view {
        RootView::Silent(why) => why.clone(),
        view => panic!("{view:?}"),
    };
    assert_eq!(
        why(&server.views[63]),
        "the file system does not answer within 100ms"
    );
    assert_eq!(
        why(&server.views[64]),
        "it was not looked at: 64 others do not answer within 100ms"
    );
    drop(connection);
    assert!(client.await.unwrap().is_ok());
}

#[tokio::test]
async fn without_a_process_that_looks_no_root_is_taken_for_missing() {
    let (mut config, _lines) = config(1, "");
    config.looker.program = "/nowhere/at/all".into();
    let (client, mut connection) = embed(config);
    let mut server = Server::new(1, job(SLOW));
    server
        .talk(&mut connection, |server| !server.views.is_empty())
        .await;
    assert!(matches!(&server.views[0], RootView::Silent(why) if why.contains("not be looked at")));
    drop(connection);
    assert!(client.await.unwrap().is_ok());
}
