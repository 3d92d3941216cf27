//! The life of a server process: what it answers while its model is being fetched, what ends it,
//! and that neither its log nor a lack of memory or open files crashes it.
//!
//! Must not know: how models are loaded.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

const PROXIMA: &str = env!("CARGO_BIN_EXE_proxima");

/// A server, killed if the test ends first.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may already have ended, as it should.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port that is free now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// The executable, with the default action for SIGHUP however the tests are run: under `nohup` it
/// is ignored, which children inherit.
fn proxima() -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP", PROXIMA]);
    command
}

fn serve(model: &str, flags: &[&str], log: impl Into<Stdio>, hub: &str) -> Server {
    let port = free_port();
    let cache = std::env::temp_dir().join(format!("proxima-life-{port}"));
    let process = proxima()
        .args(["serve", "--model", model, "--port", &port.to_string(), "--ffmpeg", "off"])
        .args(flags)
        .env("HF_ENDPOINT", hub)
        .env("HF_HOME", cache)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("it starts");
    Server { process, address: SocketAddr::from(([127, 0, 0, 1], port)) }
}

/// A checkpoint with random weights.
fn tiny_model(folder: &Path) -> String {
    model(folder, "tiny-bert")
}

/// A checkpoint of this configuration, with random weights.
fn model(folder: &Path, name: &str) -> String {
    let path = folder.join(name).display().to_string();
    let mut command = Command::new(PROXIMA);
    command.args(["synth", name, "--out", &path]).stdout(Stdio::null());
    assert!(command.status().expect("it starts").success());
    path
}

impl Server {
    /// Sends a request and returns the status and body of the answer. Retries until the port
    /// listens.
    fn ask(&mut self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = loop {
            match TcpStream::connect(self.address) {
                Ok(stream) => break stream,
                Err(error) => {
                    let ended = self.process.try_wait().expect("its status");
                    assert_eq!(ended, None, "it ended before it listened: {error}");
                    thread::yield_now();
                }
            }
        };
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("sent");
        stream.write_all(body.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("a whole answer");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = answer.split_once("\r\n\r\n").expect("a body").1.to_owned();
        (status.expect("a status"), body)
    }

    fn wait_until_ready(&mut self) {
        while self.ask("GET", "/readyz", "").0 != 200 {
            thread::yield_now();
        }
    }

    fn end(mut self, signal: Signal) -> ExitStatus {
        kill_process(Pid::from_child(&self.process), signal).expect("it runs");
        self.process.wait().expect("it ends")
    }
}

#[test]
fn a_server_answers_and_ends_while_its_model_is_fetched() {
    // Connections stay in its backlog: it never accepts one.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let hub = format!("http://{}", silent.local_addr().expect("an address"));
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let flags = ["--shutdown-delay", "3600"];
        let mut server = serve("some/model", &flags, Stdio::null(), &hub);
        assert_eq!(server.ask("GET", "/livez", "").0, 200);
        let (status, body) = server.ask("GET", "/readyz", "");
        assert_eq!(status, 503);
        assert!(body.contains("\"name\":\"some/model\""), "{body}");
        assert_eq!(server.ask("POST", "/embed", "{\"inputs\": \"a\"}").0, 503);
        assert_eq!(server.end(signal).code(), Some(0), "{signal:?}");
    }
}

#[test]
fn a_hangup_lets_a_server_answer_what_it_accepted_unless_it_was_to_be_ignored() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = tiny_model(folder.path());
    let mut server = serve(&model, &[], Stdio::null(), "");
    server.wait_until_ready();
    assert_eq!(server.end(Signal::HUP).code(), Some(0));
    // As `nohup` starts it.
    let port = free_port();
    let arguments = ["serve", "--model", &model, "--ffmpeg", "off", "--port", &port.to_string()];
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "trap '' HUP; exec \"$@\"", "sh", PROXIMA]).args(arguments);
    let process = command.stderr(Stdio::null()).spawn().expect("it starts");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut server = Server { process, address };
    server.wait_until_ready();
    kill_process(Pid::from_child(&server.process), Signal::HUP).expect("it runs");
    assert_eq!(server.ask("GET", "/readyz", "").0, 200);
    assert_eq!(server.end(Signal::TERM).code(), Some(0));
}

#[test]
fn a_log_that_nobody_takes_costs_nothing_but_its_lines() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = tiny_model(folder.path());
    let full = File::options().write(true).open("/dev/full").expect("a full disk");
    let (closed_reader, closed) = std::io::pipe().expect("a pipe");
    drop(closed_reader);
    let (stopped_reader, stopped) = std::io::pipe().expect("a pipe");
    for (name, log) in [
        ("a full disk", Stdio::from(full)),
        ("a closed pipe", Stdio::from(closed)),
        ("a reader that stopped", Stdio::from(stopped)),
    ] {
        let mut server = serve(&model, &["--log-level", "trace"], log, "");
        server.wait_until_ready();
        // More lines than a pipe holds.
        for _ in 0..300 {
            let answer = server.ask("POST", "/embed", "{\"inputs\": [\"a\", \"b\"]}");
            assert_eq!(answer.0, 200, "{name}: {}", answer.1);
        }
        assert_eq!(server.end(Signal::TERM).code(), Some(0), "{name}");
    }
    drop(stopped_reader);
    // A command that fails without a reader for its error still returns its exit code.
    let (reader, closed) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = Command::new(PROXIMA);
    command.args(["serve", "--model", "./missing"]).stderr(closed);
    assert_eq!(command.status().expect("it starts").code(), Some(64));
}

#[test]
fn too_little_memory_to_load_is_an_error_with_a_sentence() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // About 90 MB on disk.
    let model = model(folder.path(), "minilm-l6");
    let mut refused = 0;
    for megabytes in [60, 80, 100, 130, 160, 200, 300, 400] {
        let limit = format!("ulimit -v {}; exec \"$@\"", megabytes * 1024);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &limit, "sh", PROXIMA, "serve", "--model", &model, "--port", "0"]);
        command.args(["--ffmpeg", "off", "--threads", "1", "--tokenization-threads", "1"]);
        let mut process = command.stderr(Stdio::piped()).spawn().expect("it starts");
        let log = BufReader::new(process.stderr.take().expect("a pipe"));
        let mut lines = Vec::new();
        for line in log.lines() {
            lines.push(line.expect("text"));
            if lines.last().is_some_and(|line| line.contains("ready on")) {
                process.kill().expect("it runs");
                break;
            }
        }
        let status = process.wait().expect("it ends");
        let log = lines.join("\n");
        if log.contains("ready on") {
            continue;
        }
        refused += 1;
        assert_eq!(status.code(), Some(1), "{megabytes} MB: {log}");
        assert!(log.contains("proxima: "), "{megabytes} MB: {log}");
        assert!(!log.contains("backtrace"), "{megabytes} MB: {log}");
    }
    assert!(refused > 0, "no limit was too small");
}

#[test]
fn a_limit_of_open_files_that_leaves_no_room_is_named() {
    let limited = format!("ulimit -n 40; exec {PROXIMA} serve --model nowhere --port 0");
    let output = Command::new("sh").args(["-c", &limited]).output().expect("it starts");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("the open-file limit is 40"), "{log}");
}

#[test]
fn connections_that_say_nothing_lock_nobody_out_where_files_are_few() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let port = free_port();
    let limited = format!(
        "ulimit -n 100; exec {PROXIMA} serve --model {} --port {port} --ffmpeg off",
        tiny_model(folder.path())
    );
    let process = Command::new("sh")
        .args(["-c", &limited])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut server = Server { process, address: SocketAddr::from(([127, 0, 0, 1], port)) };
    server.wait_until_ready();
    let idle: Vec<TcpStream> = (0..300)
        .map(|index| {
            let mut stream = TcpStream::connect(server.address).expect("connected");
            let head = if index % 2 == 0 { "" } else { "GET /livez HTTP/1.1\r\nhost" };
            // The server may have closed it by now.
            let _ = stream.write_all(head.as_bytes());
            stream
        })
        .collect();
    assert_eq!(server.ask("GET", "/livez", "").0, 200);
    let embedded = server.ask("POST", "/embed", r#"{"inputs": "a"}"#);
    assert_eq!(embedded.0, 200, "{}", embedded.1);
    let mut log = server.process.stderr.take().expect("it is piped");
    assert!(server.end(Signal::TERM).success(), "it waits for none of them");
    let mut text = String::new();
    log.read_to_string(&mut text).expect("text");
    assert!(text.contains("`ulimit -n"), "{text}");
    assert_eq!(text.matches("the limit of 50 connections is reached (").count(), 1, "{text}");
    drop(idle);
}
