//! A running `kadwire`, killed when the test is over.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

/// No line or exit takes this long, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was said is said again after this: of two nodes that dial each other at the same moment one connection gives way, and what was put on
/// that is lost, as ADR-062 allows.
const SOON: Duration = Duration::from_secs(5);

/// The event that `say` leads to, sooner or later.
pub(crate) fn until_heard(mut say: impl FnMut() -> Option<Value>) -> Value {
    (0..PATIENCE.as_secs() / SOON.as_secs()).find_map(|_| say()).expect("nothing is heard")
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kadwire"));
    command.args(args).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

/// Stdout of a run that must end well.
pub(crate) fn stdout_of(args: &[&str]) -> String {
    let output = run(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) struct Process {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    stderr: Option<JoinHandle<String>>,
}

impl Process {
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut child =
            command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = sync_channel(1 << 12);
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut stderr = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let stdin = child.stdin.take().unwrap();
        Process { child, stdin, lines, stderr: Some(stderr) }
    }

    /// The next line of stdout.
    pub(crate) fn line(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(error) => {
                let _ = self.child.kill();
                panic!("no line: {error}; stderr: {}", self.stderr());
            }
        }
    }

    /// Types a line.
    pub(crate) fn write_line(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    /// Whether an event of that kind with this message comes soon; others are skipped.
    pub(crate) fn hears(&mut self, kind: &str, message: &str) -> Option<Value> {
        while let Ok(line) = self.lines.recv_timeout(SOON) {
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["event"] == kind && event["message"] == message {
                return Some(event);
            }
        }
        None
    }

    /// Sends SIGINT or SIGTERM; gives exit code and stderr.
    pub(crate) fn end(mut self, signal: &str) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        let code = self.child.wait().unwrap().code();
        (code, self.stderr())
    }

    fn stderr(&mut self) -> String {
        self.stderr.take().and_then(|reader| reader.join().ok()).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
