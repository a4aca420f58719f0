//! The command line: one file a subcommand. Results go to stdout, everything else to stderr.
//!
//! | exit code | when |
//! |---|---|
//! | 0 | done, also when stopped by SIGINT or SIGTERM |
//! | 1 | failed; `why`: no peers |
//! | 2 | bad flag: one line on stderr says which and what to do; `why`: nobody serves a status there |
//! | 3 | partial: a crawl that was cut short |

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};

mod bootnode;
mod bootnodes;
mod completions;
mod crawl;
mod devnet;
mod exit;
mod key;
mod logging;
mod man;
mod node;
mod options;
mod output;
mod random;
mod seed;
mod shutdown;
mod status;
mod why;

use exit::Failure;

/// Kademlia-style discovery and peer wire for Ethereum and Tendermint networks.
#[derive(Debug, Parser)]
#[command(
    name = "kadwire",
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done, also after SIGINT or SIGTERM; 1 failed, or why: no peers; 2 a bad flag; 3 a crawl that was cut short."
)]
struct Cli {
    /// Log level: 0 silent, 1 error, 2 warn, 3 info, 4 debug, 5 trace. RUST_LOG says it in more detail.
    #[arg(long, global = true, value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(0..=5))]
    verbosity: Option<u8>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Bootnode(bootnode::Args),
    Completions(completions::Args),
    Crawl(crawl::Args),
    Devnet(devnet::Args),
    Key(key::Args),
    Man(man::Args),
    Node(Box<node::Args>),
    Seed(Box<seed::Args>),
    Why(why::Args),
}

impl Command {
    /// Commands that serve tell operators what they do; a crawl shows its progress instead.
    fn default_verbosity(&self) -> u8 {
        match self {
            Command::Bootnode(_) | Command::Node(_) | Command::Seed(_) => 3,
            _ => 2,
        }
    }
}

/// Runs the command that the process's arguments name.
pub(crate) fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().map(long).collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(error, &arguments),
    };
    match run(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(&command_of(&arguments)),
    }
}

fn run(cli: Cli) -> Result<exit::Exit, Failure> {
    logging::start(cli.verbosity, cli.command.default_verbosity());
    match cli.command {
        Command::Bootnode(args) => bootnode::run(args),
        Command::Completions(args) => completions::run(&args, Cli::command()),
        Command::Crawl(args) => crawl::run(args),
        Command::Devnet(args) => devnet::run(args),
        Command::Key(args) => key::run(args),
        Command::Man(args) => man::run(&args, Cli::command()),
        Command::Node(args) => node::run(*args),
        Command::Seed(args) => seed::run(*args),
        Command::Why(args) => why::run(&args),
    }
}

/// Go's flags have one dash or two, and scripts written for go-ethereum's `bootnode` have one: `-addr` is `--addr`.
fn long(argument: OsString) -> OsString {
    match argument.to_str().map(str::as_bytes) {
        Some([b'-', b'a'..=b'z', b'a'..=b'z', ..]) => {
            let mut long = OsString::from("-");
            long.push(argument);
            long
        }
        _ => argument,
    }
}

/// Characters of a bad value that a message quotes: an enode URL with its address.
const ENOUGH: usize = 200;

/// Help and version as clap prints them; a bad flag in one line.
fn usage(mut error: clap::Error, arguments: &[OsString]) -> ExitCode {
    let multiline = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    if multiline {
        let _ = error.print();
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit::USAGE));
    }
    if error.kind() == ErrorKind::InvalidUtf8 {
        let bad = arguments.iter().find(|argument| argument.to_str().is_none());
        let problem = format!("not in UTF-8: {:?}", bad.map(OsString::as_os_str).unwrap_or_default());
        return Failure::Usage(problem).report(&command_of(arguments));
    }
    // A value of many lines would hide what is wrong with it.
    let shortened = error.context().filter_map(|(kind, value)| match value {
        ContextValue::String(text) => Some((kind, ContextValue::String(options::shorten(text, ENOUGH)))),
        _ => None,
    });
    for (kind, value) in shortened.collect::<Vec<_>>() {
        error.insert(kind, value);
    }
    let text = error.render().to_string();
    let text =
        text.strip_prefix("error: ").unwrap_or(&text).replace("invalid digit found in string", "want a whole number");
    // The first paragraph, and the hint if there is one.
    let first = text.split("\n\n").next().unwrap_or_default();
    let tip = text.lines().map(str::trim).find(|line| line.starts_with("tip: "));
    let line: Vec<_> = first.lines().map(str::trim).chain(tip).collect();
    Failure::Usage(line.join(" ")).report(&command_of(arguments))
}

/// The subcommands that the arguments name, for the hint where to read on: `kadwire crawl eth`.
fn command_of(arguments: &[OsString]) -> String {
    let mut path = String::from("kadwire");
    let mut command = Cli::command();
    for argument in arguments.iter().skip(1).filter_map(|argument| argument.to_str()) {
        let Some(subcommand) = command.find_subcommand(argument).cloned() else { break };
        path.push(' ');
        path.push_str(argument);
        command = subcommand;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn one_dash_is_as_good_as_two() {
        for (given, read) in [
            ("-addr", "--addr"),
            ("-nodekey=k", "--nodekey=k"),
            ("--addr", "--addr"),
            ("-h", "-h"),
            ("-1", "-1"),
            ("-", "-"),
            ("--", "--"),
            ("addr", "addr"),
        ] {
            assert_eq!(long(given.into()), read);
        }
    }
}
