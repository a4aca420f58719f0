//! How a command ends.

use std::io;
use std::process::ExitCode;

/// Exit code of a bad flag, as clap's.
pub(super) const USAGE: u8 = 2;

/// Exit code of a result that is not complete.
const PARTIAL: u8 = 3;

/// A command that ended well enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    Done,
    /// What was asked for, but not all of it.
    Partial,
    /// The answer to what was asked is no.
    No,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => ExitCode::SUCCESS,
            Exit::Partial => ExitCode::from(PARTIAL),
            Exit::No => ExitCode::FAILURE,
        }
    }
}

/// A command that did not.
#[derive(Debug)]
pub(super) enum Failure {
    /// A flag is wrong: what, and what to do.
    Usage(String),
    /// Anything else: what failed.
    Failed(String),
    /// Nobody reads our stdout any more (`kadwire … | head`): no reason to complain.
    ReaderGone,
}

impl Failure {
    /// What is wrong with a flag.
    pub(super) fn usage(flag: &str, problem: impl std::fmt::Display) -> Self {
        Failure::Usage(format!("{flag}: {problem}"))
    }

    /// What failed, and why.
    pub(super) fn of(what: &str, why: impl std::fmt::Display) -> Self {
        Failure::Failed(format!("{what}: {why}"))
    }

    /// One line on stderr, and the exit code. `command` is where the flags are explained.
    pub(super) fn report(self, command: &str) -> ExitCode {
        match self {
            Failure::Usage(problem) => {
                eprintln!("error: {problem} (see '{command} --help')");
                ExitCode::from(USAGE)
            }
            Failure::Failed(problem) => {
                eprintln!("error: {problem}");
                ExitCode::FAILURE
            }
            Failure::ReaderGone => ExitCode::SUCCESS,
        }
    }
}

/// For writing to stdout.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::ReaderGone,
            _ => Failure::of("cannot write to stdout", error),
        }
    }
}
