//! Tests of the executable's commands: run as users run them, and checked by what they print.
//!
//! Must not know: how any command does its work.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

const PROXIMA: &str = env!("CARGO_BIN_EXE_proxima");

fn proxima(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROXIMA);
    command.args(arguments).env_remove("PROXIMA_PORT").env_remove("PROXIMA_MODEL");
    command
}

fn output(command: &mut Command) -> Output {
    command.output().expect("it starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// The output of a command that succeeds.
fn printed(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn tiny_model(folder: &Path) -> String {
    let path = folder.join("tiny-bert").display().to_string();
    printed(&mut proxima(&["synth", "tiny-bert", "--out", &path]));
    path
}

/// A server on a free port, killed if the test ends first.
struct Server {
    process: Child,
    log: BufReader<std::process::ChildStderr>,
    /// Log lines up to the one that was waited for.
    first: String,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may already have ended, as it should.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    /// Starts a server and waits until its log contains `until`.
    fn start(command: &mut Command, until: &str) -> Self {
        let mut process = command
            .args(["--port", "0", "--ffmpeg", "off"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut log = BufReader::new(process.stderr.take().expect("a pipe"));
        let mut first = String::new();
        while !first.contains(until) {
            assert!(log.read_line(&mut first).expect("text") > 0, "it ended: {first}");
        }
        let port = first.split("listening on http://127.0.0.1:").nth(1).expect("its address");
        let digits: String = port.chars().take_while(char::is_ascii_digit).collect();
        Self { process, log, first, port: digits.parse().expect("a port") }
    }

    fn ask(&self, head: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connected");
        let length = body.len();
        let request = format!(
            "{head}\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("a whole answer");
        answer
    }

    /// Terminates it and returns what it logged after `start`.
    fn end(mut self) -> String {
        kill_process(Pid::from_child(&self.process), Signal::TERM).expect("it runs");
        let mut text = String::new();
        self.log.read_to_string(&mut text).expect("text");
        assert!(self.process.wait().expect("it ends").success(), "{text}");
        text
    }
}

#[test]
fn requests_are_logged_as_text_or_objects_or_not_at_all() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = tiny_model(folder.path());
    let head = "POST /embed?a=apricot HTTP/1.1\r\nx-request-id: id-1";
    let logged = |flags: &[&str]| {
        // The model as a positional argument, and its precision by a name that other tools use.
        let command = &mut proxima(&["serve", &model, "--dtype", "f32"]);
        let server = Server::start(command.args(flags), "ready on");
        let answer = server.ask(head, r#"{"inputs": ["apricot", "b"]}"#);
        assert!(answer.contains("x-request-id: id-1"), "{answer}");
        server.ask("GET /livez HTTP/1.1", "");
        server.end()
    };
    let lines = logged(&[]);
    let line = lines.lines().find(|line| line.contains("request_id=id-1")).expect("a line");
    for part in [
        " INFO request method=POST path=/embed dialect=tei model=\"tiny-bert\" status=200 inputs=2",
        " client=127.0.0.1 ",
    ] {
        assert!(line.contains(part), "{line}");
    }
    assert!(!lines.contains("apricot") && !lines.contains("/livez"), "{lines}");
    let lines = logged(&["--log-format", "json"]);
    let line = lines.lines().find(|line| line.contains("\"request_id\":\"id-1\"")).expect("one");
    let line: serde_json::Value = serde_json::from_str(line).expect("an object");
    assert_eq!(
        (line["level"].as_str(), line["fields"]["status"].as_u64()),
        (Some("INFO"), Some(200))
    );
    assert!(!logged(&["--log-requests", "off"]).contains("path="));
}

#[test]
fn health_is_the_exit_code_of_a_command() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = tiny_model(folder.path());
    // A model on the command line overrides one in the environment.
    let mut command = proxima(&["serve", &model]);
    let server = Server::start(command.env("PROXIMA_MODEL", "some/model"), "ready on");
    assert!(!server.first.contains("some/model"), "{}", server.first);
    let port = server.port.to_string();
    let url = format!("http://127.0.0.1:{port}/");
    assert_eq!(printed(&mut proxima(&["health", "--port", &port])), "ready\n");
    assert_eq!(printed(&mut proxima(&["health", "--url", &url])), "ready\n");
    assert_eq!(printed(proxima(&["health"]).env("PROXIMA_PORT", &port)), "ready\n");
    let listens_anywhere = ["health", "--host", "0.0.0.0", "--port", &port, "--model", "tiny-bert"];
    assert_eq!(printed(&mut proxima(&listens_anywhere)), "ready\n");
    let config = folder.path().join("proxima.toml");
    fs::write(&config, format!("port = {port}\n")).expect("written");
    assert_eq!(printed(proxima(&["health"]).env("PROXIMA_CONFIG", &config)), "ready\n");
    let other = output(&mut proxima(&["health", "--port", &port, "--model", "other"]));
    assert_eq!(other.status.code(), Some(1), "{}", text(&other.stderr));
    server.end();
    let gone = output(&mut proxima(&["health", "--port", &port]));
    assert_eq!(gone.status.code(), Some(1), "{}", text(&gone.stderr));
    assert_eq!(output(&mut proxima(&["health", "--port", "0"])).status.code(), Some(64));
    // A server that is alive but has no model yet, as the Hub never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let hub = format!("http://{}", silent.local_addr().expect("an address"));
    let mut command = proxima(&["serve", "some/model"]);
    command.env("HF_ENDPOINT", hub).env("HF_HOME", folder.path());
    let server = Server::start(&mut command, "listening on");
    let waits = output(&mut proxima(&["health", "--port", &server.port.to_string()]));
    assert_eq!(waits.status.code(), Some(1));
    assert!(text(&waits.stderr).contains("some/model"), "{}", text(&waits.stderr));
}

#[test]
fn models_of_the_cache_are_listed_and_removed() {
    let cache = tempfile::tempdir().expect("a temporary folder");
    let repo = cache.path().join("models--some--model");
    let commit = "0123456789012345678901234567890123456789";
    for (path, bytes) in [
        ("blobs/aa", "x".repeat(2_500_000)),
        ("blobs/bb", "{}".to_owned()),
        ("refs/main", commit.to_owned()),
    ] {
        let path = repo.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, bytes).expect("written");
    }
    let snapshot = repo.join("snapshots").join(commit);
    fs::create_dir_all(&snapshot).expect("made");
    std::os::unix::fs::symlink("../../blobs/bb", snapshot.join("config.json")).expect("linked");
    let models = |arguments: &[&str]| {
        let mut command = proxima(&["models"]);
        command.args(arguments).env("HF_HUB_CACHE", cache.path());
        command
    };
    let list = printed(&mut models(&[]));
    let line = list.lines().find(|line| line.starts_with("some/model ")).expect("it is there");
    assert!(line.contains("2.5 MB") && line.contains("main (incomplete: 1 files"), "{list}");
    std::os::unix::fs::symlink("../../blobs/aa", snapshot.join("model.safetensors"))
        .expect("linked");
    // A link's bytes are counted only where its target is stored.
    let list = printed(&mut models(&["list"]));
    assert!(list.contains("2.5 MB  main\n") && list.contains("1 models, 2.5 MB, in "), "{list}");
    assert!(printed(&mut models(&["remove", "some/model"])).contains("2.5 MB freed"));
    assert!(!repo.exists());
    assert_eq!(output(&mut models(&["remove", "some/model"])).status.code(), Some(1));
    for wrong in ["..", "../x", "a/b/c", ""] {
        assert_eq!(output(&mut models(&["remove", wrong])).status.code(), Some(64), "{wrong:?}");
    }
    assert!(printed(&mut models(&[])).starts_with("0 models"));
}

#[test]
fn a_model_or_a_server_is_measured_and_a_failure_is_an_exit_code() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = tiny_model(folder.path());
    let flags = ["--seconds", "1", "--clients", "2", "--batch", "2", "--words", "8"];
    let table = printed(proxima(&["bench", &model]).args(flags));
    for row in ["requests/s", "texts/s", "tokens/s", "latency, ms"] {
        assert!(table.lines().any(|line| line.starts_with(row)), "{row}: {table}");
    }
    let server = Server::start(&mut proxima(&["serve", &model, "--api-key", "secret"]), "ready on");
    let url = format!("http://127.0.0.1:{}", server.port);
    let with_key = ["--mixed", "--api-key", "secret"];
    let table = printed(proxima(&["bench", &url]).args(flags).args(with_key));
    assert!(table.lines().any(|line| line.starts_with("64 texts")), "{table}");
    let refused = output(proxima(&["bench", &url]).args(flags));
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("status 401"), "{}", text(&refused.stderr));
}

#[test]
fn the_executable_tells_what_it_is_and_how_it_is_called() {
    let version = printed(&mut proxima(&["--version"]));
    for part in [concat!("proxima ", env!("CARGO_PKG_VERSION")), "commit: ", "features: "] {
        assert!(version.contains(part), "{version}");
    }
    assert!(version.contains(&format!("processor: {} with ", std::env::consts::ARCH)), "{version}");
    assert_eq!(printed(&mut proxima(&["-V"])).lines().count(), 1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let script = folder.path().join("proxima.bash");
    fs::write(&script, printed(&mut proxima(&["completions", "bash"]))).expect("written");
    // What a shell does when the user asks for completions.
    let ask = "source \"$0\"; COMP_WORDS=(proxima be); COMP_CWORD=1; \
               _proxima proxima be proxima; echo \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    assert_eq!(printed(bash.args(["-c", ask]).arg(&script)), "bench\n");
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(printed(&mut proxima(&["completions", shell])).contains("log-requests"));
    }
    assert!(printed(&mut proxima(&["man"])).starts_with(".ie"));
    let pages = folder.path().join("man");
    printed(proxima(&["man", "--out"]).arg(&pages));
    let serve = fs::read_to_string(pages.join("proxima-serve.1")).expect("a page");
    assert!(serve.contains("log\\-requests"), "{serve:.200}");
}

#[test]
fn a_second_value_of_a_flag_is_neither_a_model_nor_printed() {
    for line in [
        &["serve", "nowhere", "--port", "0", "--api-key", "alpha", "second-secret"][..],
        &["serve", "--model", "nowhere", "--api-key", "alpha", "second-secret"],
    ] {
        let refused = output(&mut proxima(line));
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(64), "{said}");
        assert!(
            said.contains("of one flag with commas") && !said.contains("second-secret"),
            "{said}"
        );
    }
    let refused = output(&mut proxima(&["serve", "nowhere", "--log-level", "verbose"]));
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(64), "{said}");
    assert!(said.contains("verbose") && said.contains("debug"), "{said}");
}

#[test]
fn of_a_misspelt_flag_of_another_server_the_one_that_is_meant_is_told() {
    let flags = ["--max-client-batch-sizes", "5"];
    let refused = output(proxima(&["serve", "nowhere"]).args(flags));
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(64), "{said}");
    assert!(said.contains("'--max-inputs'") && !said.contains("max-length"), "{said}");
    let refused = output(&mut proxima(&["serve", "nowhere", "--served-name", "x"]));
    let said = text(&refused.stderr);
    assert!(said.contains("--served-name") && !said.contains("-- --served-name"), "{said}");
}

#[test]
fn an_instruction_set_that_the_processor_lacks_is_a_wrong_setting() {
    let refused = output(proxima(&["serve", "nowhere"]).env("PROXIMA_ISA", "avx9"));
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(64), "{said}");
    assert!(said.contains("PROXIMA_ISA=avx9") && said.contains("portable"), "{said}");
}
