//! Workers that die, hang or refuse.

use super::support::server::Server;
use super::support::{PATIENCE, SLOW, Tree, config, is_alive, job};
use super::{assert_all_gone, assert_whole, embed, signal};
use hydra_client::ClientError;
use hydra_proto::job::JobSpec;
use nix::sys::signal::Signal;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Waits for the end of a process that is not this one's own child.
async fn assert_dies(pid: u32) {
    let deadline = Instant::now() + PATIENCE;
    while is_alive(pid) {
        assert!(Instant::now() < deadline, "process {pid} lives on");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_killed_worker_is_replaced_and_its_work_done_again() {
    let (config, mut lines) = config(2, "parent");
    let (client, mut connection) = embed(config);
    let mut server = Server::new(1, job(SLOW));
    let (_, grandchild) = tokio::join!(server.finish(&mut connection), async {
        let line = lines.wait("child").await;
        lines.wait("walked").await;
        signal(line.pid, Signal::SIGKILL);
        line.text["child ".len()..].parse::<u32>().unwrap()
    });
    assert_whole(&server, SLOW);
    assert_eq!(server.lost_workers, 1);
    assert!(client.await.unwrap().is_ok());
    assert_all_gone(lines, 3).await;
    assert_dies(grandchild).await;
}

#[test]
fn a_runtime_that_is_dropped_leaves_no_process() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let dropped = runtime();
    let (config, mut lines) = config(1, "parent");
    let (pid, grandchild) = dropped.block_on(async {
        let (_client, mut connection) = embed(config);
        let mut server = Server::new(1, job(SLOW));
        let line = tokio::select! {
            line = lines.wait("child") => line,
            _ = server.talk(&mut connection, |_| false) => panic!("the client left"),
        };
        signal(line.pid, Signal::SIGSTOP);
        (line.pid, line.text["child ".len()..].parse().unwrap())
    });
    drop(dropped);
    runtime().block_on(async {
        assert_dies(pid).await;
        assert_dies(grandchild).await;
    });
}

#[tokio::test]
async fn a_stopped_worker_is_killed_and_its_work_done_again() {
    let (config, mut lines) = config(2, "");
    let (client, mut connection) = embed(config);
    let mut server = Server::new(1, job(SLOW));
    tokio::join!(server.finish(&mut connection), async {
        let line = lines.wait("walked").await;
        signal(line.pid, Signal::SIGSTOP);
    });
    assert_whole(&server, SLOW);
    assert_eq!(server.lost_workers, 1);
    assert!(client.await.unwrap().is_ok());
    assert_all_gone(lines, 3).await;
}

const SMALL: Tree = Tree {
    width: 2,
    depth: 5,
    pause: Duration::ZERO,
};

/// Walks a small tree in which workers of this mood come to grief: they miss a part of it. Says why the first item was
/// set aside.
async fn set_aside(mood: &str, spec: JobSpec) -> String {
    let (config, lines) = config(2, mood);
    let (client, mut connection) = embed(config);
    let mut server = Server::new(1, spec);
    server.finish(&mut connection).await;
    assert!(server.walk.directories < SMALL.directories());
    assert!(client.await.unwrap().is_ok());
    assert_all_gone(lines, 3).await;
    server.parent.aside().next().unwrap().reason.to_string()
}

#[tokio::test]
async fn an_item_that_kills_its_worker_is_set_aside_and_the_rest_is_walked() {
    // 1/1/1, 0/1/1/1, 1/1/1/1 and all that end so down to depth 5: none is walked, nor what is below.
    let reason = set_aside("poison", job(SMALL)).await;
    assert!(reason.contains("exited with status 9"), "{reason}");
}

#[tokio::test]
async fn a_worker_that_hangs_in_a_system_call_and_lives_was_waited_for_for_ever() {
    let mut spec = job(SMALL);
    spec.timing.stall = Duration::from_millis(200);
    // Its silence is not what gives it away.
    spec.timing.dead_after = Duration::from_secs(600);
    let reason = set_aside("stuck", spec).await;
    assert!(reason.contains("hangs: stat of"), "{reason}");
}

#[tokio::test]
async fn nobody_worked_in_the_place_of_one_that_came_no_further() {
    let (config, mut lines) = config(1, "stuck");
    let (client, mut connection) = embed(config);
    let mut spec = job(SMALL);
    // It is not given up.
    spec.timing.stall = Duration::from_secs(600);
    spec.timing.dead_after = Duration::from_secs(600);
    let mut server = Server::new(1, spec);
    let two_start = async {
        let first = lines.wait("started").await.pid;
        (first, lines.wait("started").await.pid)
    };
    tokio::select! {
        _ = server.talk(&mut connection, |_| false) => panic!("it ended"),
        (first, second) = two_start => assert!(first != second && is_alive(first)),
    }
    drop(connection);
    assert!(client.await.unwrap().is_ok());
    assert_all_gone(lines, 2).await;
}

#[tokio::test]
async fn a_first_worker_that_says_nothing_does_not_hold_up_the_others() {
    let (config, lines) = config(2, "first is mute");
    let (client, mut connection) = embed(config);
    let mut server = Server::new(1, job(SLOW));
    server.finish(&mut connection).await;
    assert_whole(&server, SLOW);
    assert!(client.await.unwrap().is_ok());
    assert_all_gone(lines, 2).await;
}

#[tokio::test]
async fn workers_that_end_at_once_end_the_job_with_a_reason() {
    let (config, _lines) = config(2, "exit");
    let (client, mut connection) = embed(config);
    let mut server = Server::new(1, job(SLOW));
    server.talk(&mut connection, |_| false).await;
    let said = server.lost.first().expect("the client did not leave");
    assert!(said.contains("workers do not work here"), "{said}");
    assert!(said.contains("exited with status 7"), "{said}");
    let error = client.await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::GaveUp(_)), "{error}");
}

#[tokio::test]
async fn workers_that_refuse_the_job_end_it_and_are_not_started_for_ever() {
    let (config, lines) = config(2, "unwilling");
    let (client, mut connection) = embed(config);
    let mut server = Server::new(1, job(SLOW));
    server.talk(&mut connection, |_| false).await;
    let said = server.lost.first().expect("the client did not leave");
    assert!(said.contains("no such plugin"), "{said}");
    drop(connection);
    assert!(client.await.unwrap().is_err());
    assert_all_gone(lines, 5).await;
}

#[tokio::test]
async fn a_program_that_is_not_there_ends_the_job_with_its_name() {
    let (mut config, _lines) = config(1, "");
    config.worker.program = "/no/such/program".into();
    let (client, mut connection) = embed(config);
    let mut server = Server::new(1, job(SLOW));
    server.talk(&mut connection, |_| false).await;
    let error = client.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("cannot start /no/such/program"), "{error}");
}
