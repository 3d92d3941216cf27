//! A signal must leave no process behind that was started to read a video.
//!
//! Must not know: how videos are read.
#![cfg(unix)]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

const PROXIMA: &str = env!("CARGO_BIN_EXE_proxima");

/// Runs a program, which must succeed.
fn run(program: &str, arguments: &[&str], folder: &Path) {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).stdout(Stdio::null());
    assert!(command.status().expect("it starts").success(), "{program}");
}

#[test]
fn a_bulk_run_that_is_told_to_stop_ends_what_reads_videos() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    run(PROXIMA, &["synth", "tiny-qwen3-vl", "--out", "model"], folder);
    run("mkfifo", &["life"], folder);
    let life = folder.join("life");
    // The other end of the pipe stays open as long as the program or a child of it lives.
    let text = format!(
        "#!/bin/sh\n\
         [ \"$1\" != -version ] || {{ echo ffmpeg version 7.1; exit; }}\n\
         exec 3> {}\necho begun >&3\n/bin/sleep 30\necho late >&3\n",
        life.display()
    );
    for name in ["ffmpeg", "ffprobe"] {
        let path = folder.join(name);
        fs::write(&path, &text).expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("set");
    }
    fs::write(folder.join("a.mp4"), b"\0\0\0\x0cftypisom").expect("written");
    fs::write(folder.join("in.jsonl"), "{\"video\": \"a.mp4\"}\n").expect("written");
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut command = Command::new(PROXIMA);
        command.args(["embed", "--model", "model", "--input", "in.jsonl"]);
        command.current_dir(folder).env("PATH", folder).stdout(Stdio::null());
        let mut proxima = command.spawn().expect("it starts");
        let (process, other_end) = (Pid::from_child(&proxima), life.clone());
        let end = thread::spawn(move || {
            let status = proxima.wait().expect("it ends");
            // If it ended before it opened the pipe, this unblocks the reader.
            drop(fs::File::options().write(true).open(other_end));
            status
        });
        let mut life = BufReader::new(fs::File::open(&life).expect("the program runs"));
        let mut line = String::new();
        life.read_line(&mut line).expect("a line");
        assert_eq!(line, "begun\n");
        kill_process(process, signal).expect("it runs");
        assert_eq!(end.join().expect("no panic").code(), Some(code));
        line.clear();
        life.read_to_string(&mut line).expect("its end");
        assert_eq!(line, "", "the program outlived the command");
    }
}
