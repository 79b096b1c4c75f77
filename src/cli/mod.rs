//! The command line: one binary, a subcommand for each thing it does.
//!
//! Exit codes: 0 when it was done, 1 when it failed, 2 when it was asked in a way that means nothing. What failed is said
//! in one line on standard error. A reader of our output that goes away is not a failure.

mod append;
mod basin;
mod bench;
mod freed_memory;
mod lines;
mod listing;
mod progress;
mod read;
mod serve;
mod store;
mod stream;
mod token;

use std::{fmt::Display, io, process::ExitCode};

use clap::{Parser, Subcommand, error::ErrorKind};
use tokio::runtime::Runtime;

use self::{basin::BasinCommand, stream::StreamCommand, token::TokenCommand};
use crate::{
    client::{Client, ClientConfig, ClientError, RetryPolicy},
    config::{AppendArgs, BenchArgs, ConfigError, EndpointConfig, ReadArgs, ServeArgs},
};

const FAILED: u8 = 1;
const MISUSED: u8 = 2;

/// A session gateway for the S2 durable-streams API, and a client of it.
#[derive(Debug, Parser)]
#[command(name = "s2s-gateway", version, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Try it, in two terminals:
  s2s-gateway serve
  seq 1000 | s2s-gateway append --create my-basin-01/numbers
  s2s-gateway read my-basin-01/numbers --tail-offset 3 --follow

Exit codes: 0 done, 1 failed, 2 wrong usage.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API on one port: HTTP/2, HTTP/1.1, with or without TLS
    #[command(after_help = serve::EXAMPLES)]
    Serve(Box<ServeArgs>),
    /// Append lines from standard input to a stream, a record a line
    #[command(after_help = append::EXAMPLES)]
    Append(Box<AppendArgs>),
    /// Read a stream to standard output, up to its tail or as it grows
    #[command(after_help = read::EXAMPLES)]
    Read(Box<ReadArgs>),
    /// Measure a server under load, and check what it does with every record
    #[command(after_help = bench::EXAMPLES)]
    Bench(Box<BenchArgs>),
    /// Make, list and delete basins
    #[command(subcommand)]
    Basin(BasinCommand),
    /// Make, list and delete streams, and ask where they end
    #[command(subcommand)]
    Stream(StreamCommand),
    /// Issue, list and revoke access tokens
    #[command(subcommand)]
    Token(TokenCommand),
}

/// Parses the arguments of this process and does what they say.
pub fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(Cli { command }) => command,
        Err(misuse) if is_misuse(misuse.kind()) => {
            say(format_args!("s2s-gateway: {}", one_line(&misuse.to_string())));
            return ExitCode::from(MISUSED);
        }
        Err(help) => {
            // Nobody is left to be told if this cannot be printed.
            let _ = help.print();
            return ExitCode::from(help.exit_code().try_into().unwrap_or(MISUSED));
        }
    };
    match run(&command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("s2s-gateway: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

/// Whether arguments were wrong; otherwise it is help that was asked for, or is the answer to nothing said.
fn is_misuse(kind: ErrorKind) -> bool {
    use ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    !matches!(kind, DisplayHelp | DisplayHelpOnMissingArgumentOrSubcommand | DisplayVersion)
}

/// What is wrong, and the tip, if there is one, of what clap says in several paragraphs.
fn one_line(misuse: &str) -> String {
    let told = misuse.strip_prefix("error: ").unwrap_or(misuse);
    let told = told.lines().map(str::trim).filter(|line| !line.is_empty());
    let told: Vec<_> = told.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more")).collect();
    format!("{}; --help says more", told.join(" ").replace(" tip: ", "; "))
}

fn run(command: &Command) -> Result<(), CliError> {
    match command {
        Command::Serve(args) => serve::run(args.resolve()?),
        Command::Append(args) => append::run(args.resolve()?),
        Command::Read(args) => read::run(args.resolve()?),
        Command::Bench(args) => bench::run(args.resolve()?),
        Command::Basin(command) => basin::run(command),
        Command::Stream(command) => stream::run(command),
        Command::Token(command) => token::run(command),
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum CliError {
    /// What was asked means nothing.
    #[error(transparent)]
    Misused(#[from] ConfigError),
    /// The process could not be set up.
    #[error("cannot start: {0}")]
    Start(String),
    /// The server, or the way to it, failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Standard input cannot be read.
    #[error("cannot read standard input: {0}")]
    Input(io::Error),
    /// A line of input is not a record.
    #[error("line {line}: {reason}")]
    Line {
        /// Which one, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Standard output does not take what is written.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    /// A load did not end well.
    #[error("{0}")]
    Bench(String),
    /// The gateway stopped, and not because it was asked to.
    #[error("{0}")]
    Serve(String),
}

impl CliError {
    const fn exit_code(&self) -> u8 {
        match self {
            Self::Misused(_) => MISUSED,
            _ => FAILED,
        }
    }
}

/// Writes a line to standard error; if nobody reads that, it is lost.
fn say(line: impl Display) {
    use io::Write;
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Runs `work` to its end. What is left behind it (a read from a terminal, a connection) is not waited for.
fn block_on<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = runtime()?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done
}

/// Runs `work` to its end, and then waits for what is left behind it.
fn block_on_all<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    runtime()?.block_on(work)
}

fn runtime() -> Result<Runtime, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| CliError::Start(error.to_string()))
}

/// Asks the server that `config` describes something that has one answer.
fn ask<T, F: Future<Output = Result<T, CliError>>>(
    config: &EndpointConfig,
    question: impl FnOnce(Client) -> F,
) -> Result<T, CliError> {
    block_on(async { question(client(config, RetryPolicy::default())?).await })
}

/// Writes a line to standard output.
fn print_line(line: &[u8]) -> Result<(), CliError> {
    use io::Write;
    let mut out = io::stdout().lock();
    out.write_all(line).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()).map_err(CliError::Output)
}

/// The client that `config` describes.
fn client(config: &EndpointConfig, retry: RetryPolicy) -> Result<Client, CliError> {
    Ok(Client::new(ClientConfig {
        endpoint: config.endpoint.clone(),
        token: config.token.clone(),
        certificates: config.certificates,
        retry,
    })?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn misuse_is_told_from_help() {
        let parse = |words: &str| Cli::try_parse_from(words.split_whitespace()).map_err(|error| error.kind());
        assert!(matches!(parse("s2s-gateway serve"), Ok(Cli { command: Command::Serve(_) })));
        assert!(matches!(parse("s2s-gateway append my-basin-01/s"), Ok(Cli { command: Command::Append(_) })));
        assert!(matches!(parse("s2s-gateway read my-basin-01/s"), Ok(Cli { command: Command::Read(_) })));
        assert_eq!(parse("s2s-gateway read --help").unwrap_err(), ErrorKind::DisplayHelp);
        assert_eq!(parse("s2s-gateway append").unwrap_err(), ErrorKind::MissingRequiredArgument);
        assert_eq!(parse("s2s-gateway reed").unwrap_err(), ErrorKind::InvalidSubcommand);
    }

    #[test]
    fn misuse_is_said_in_one_line() {
        for (words, said) in [
            ("append", "the following required arguments were not provided: <BASIN/STREAM>; --help says more"),
            (
                "read my-basin-01/s --folow",
                "unexpected argument '--folow' found; a similar argument exists: '--follow'; --help says more",
            ),
            ("bench --rate x appends", "invalid value 'x' for '--rate <N>': invalid float literal; --help says more"),
            (
                "bench nothing",
                "invalid value 'nothing' for '<SCENARIO>' [possible values: appends, latency, unary, catch-up, fan-out, \
                 idle, mixed]; --help says more",
            ),
        ] {
            let misuse = Cli::try_parse_from(["s2s-gateway"].into_iter().chain(words.split_whitespace())).unwrap_err();
            assert!(is_misuse(misuse.kind()), "{words}");
            assert_eq!(one_line(&misuse.to_string()), said);
        }
        for words in ["--help", "--version", "read --help", "token"] {
            let help = Cli::try_parse_from(["s2s-gateway"].into_iter().chain(words.split_whitespace())).unwrap_err();
            assert!(!is_misuse(help.kind()), "{words}");
        }
    }

    #[test]
    fn exit_codes() {
        let misused = CliError::from(ServeArgs::resolve(&serve_args("--listen nowhere")).unwrap_err());
        assert_eq!(misused.exit_code(), 2);
        assert_eq!(CliError::Client(ClientError::NotSent).exit_code(), 1);
    }

    fn serve_args(words: &str) -> ServeArgs {
        let words = ["s2s-gateway", "serve"].into_iter().chain(words.split_whitespace());
        match Cli::try_parse_from(words).unwrap().command {
            Command::Serve(args) => *args,
            other => panic!("{other:?}"),
        }
    }
}
