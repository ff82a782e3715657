//! Tests of who may log.

use super::*;
use hydra_proto::logs::{LogBuffer, LogProof};

struct Fixture {
    desk: LogDesk,
    lines: mpsc::Receiver<LogLine>,
    task: tokio::task::JoinHandle<()>,
}

impl Fixture {
    fn open() -> Self {
        let (forward, lines) = mpsc::channel(5000);
        let socket = LogSocket::open(Arc::new(|_: &LogLine| {}), forward).unwrap();
        Self {
            desk: socket.desk(),
            lines,
            task: tokio::spawn(socket.serve()),
        }
    }

    async fn connect(&self) -> UnixStream {
        let address = SocketAddr::from_abstract_name(&*self.desk.socket).unwrap();
        let stream = std::os::unix::net::UnixStream::connect_addr(&address).unwrap();
        stream.set_nonblocking(true).unwrap();
        UnixStream::from_std(stream).unwrap()
    }

    /// No line will ever come.
    async fn assert_silent(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
        assert_eq!(self.lines.recv().await, None);
    }
}

/// Whether the proof succeeded, on the worker's side.
async fn prove(stream: &mut UnixStream, secret: &[u8; 32]) -> bool {
    let (proof, opening) = LogProof::open(secret).unwrap();
    let mut answer = [0; LOG_PROOF_BYTES];
    let said = stream.write_all(&opening).await.is_ok();
    said && stream.read_exact(&mut answer).await.is_ok() && proof.check(&answer).is_ok()
}

fn line(text: &str) -> LogLine {
    LogLine {
        worker: 99,
        pid: 99,
        level: 3,
        target: "walk".to_owned(),
        text: text.to_owned(),
    }
}

#[tokio::test]
async fn a_worker_logs_under_its_own_number_and_pid() {
    let mut fixture = Fixture::open();
    let pid = std::process::id();
    let access = fixture.desk.expect(pid, 4).unwrap();
    let mut stream = fixture.connect().await;
    assert!(prove(&mut stream, &access.secret).await);
    let mut buffer = LogBuffer::new(1 << 16);
    buffer.push(line("hello"));
    stream.write_all(buffer.pending()).await.unwrap();
    let expected = LogLine {
        worker: 4,
        pid,
        ..line("hello")
    };
    assert_eq!(fixture.lines.recv().await, Some(expected));
}

#[tokio::test]
async fn a_process_that_is_no_worker_is_turned_away() {
    let fixture = Fixture::open();
    let mut stream = fixture.connect().await;
    assert!(!prove(&mut stream, &[1; 32]).await);
    fixture.assert_silent().await;
}

#[tokio::test]
async fn a_wrong_secret_is_turned_away_and_uses_the_right_one_up() {
    let fixture = Fixture::open();
    let access = fixture.desk.expect(std::process::id(), 1).unwrap();
    let mut stream = fixture.connect().await;
    assert!(!prove(&mut stream, &[1; 32]).await);
    let mut again = fixture.connect().await;
    assert!(!prove(&mut again, &access.secret).await);
    fixture.assert_silent().await;
}

#[tokio::test]
async fn a_flood_is_cut_and_counted() {
    let mut fixture = Fixture::open();
    let access = fixture.desk.expect(std::process::id(), 1).unwrap();
    let mut stream = fixture.connect().await;
    assert!(prove(&mut stream, &access.secret).await);
    let sent = 2 * BURST_LINES;
    for _ in 0..sent {
        let mut buffer = LogBuffer::new(1 << 16);
        buffer.push(line("x"));
        stream.write_all(buffer.pending()).await.unwrap();
    }
    drop(stream);
    let (mut taken, mut dropped) = (0, 0);
    while taken + dropped < sent {
        let line = fixture.lines.recv().await.unwrap();
        match line.text.split_once(" lines of this worker's log") {
            Some((count, _)) => dropped += count.parse::<u32>().unwrap(),
            None => taken += 1,
        }
    }
    assert!(dropped > 0 && taken >= BURST_LINES, "{taken} {dropped}");
}

#[test]
fn names_of_files_cannot_reach_the_terminal() {
    let hostile = Escaped("a\u{1b}[2J\n\"b\" \u{202e}ä").to_string();
    assert_eq!(hostile, "a\\u{1b}[2J\\n\"b\" \\u{202e}ä");
}
