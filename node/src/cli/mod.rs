//! The command line: what may be typed, and the commands that speak to a node.
//!
//! `start` is the node itself and lives in [`crate::bootstrap`]; the others are clients that use
//! the public interface only, so that whatever they do, any program can do.

pub mod cert;
pub mod check;
mod connect;
mod credentials;
pub mod freshness;
pub mod generate;
pub mod ingest;
pub mod node;
pub mod sql;
pub mod start;
pub mod status;

use std::io::Write;

use clap::{Parser, Subcommand};

pub use self::connect::ConnectArgs;
use crate::grpc::client::ClientError;

/// Everything that may be typed.
#[derive(Debug, Parser)]
#[command(name = "alluvium", version, about = "Streams of events, and SQL over them")]
#[command(arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "made once, from what was typed")]
pub enum Command {
    /// Run a node: with no arguments a working one-node cluster in ./alluvium-data
    Start(start::StartArgs),
    /// Speak to one.
    #[command(flatten)]
    Client(ClientCommand),
}

/// What needs no node of its own.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Ask SQL: a shell, or a script with -e or -f
    Sql(sql::SqlArgs),
    /// Append the rows of files to a stream
    Ingest(ingest::IngestArgs),
    /// Show what a node has and how it fares
    Status(status::StatusArgs),
    /// Show the nodes of a cluster, or take one out of it
    Node(node::NodeArgs),
    /// Make certificates, show them, take them back
    Cert(cert::CertArgs),
    /// See whether this machine is fit to run a node; takes what `start` takes
    Check(check::CheckArgs),
    /// Write what goes with the program: completions, manual, alerts, dashboard, unit, inventory
    Generate(generate::GenerateArgs),
    /// Print the version of this program
    Version,
}

/// How a command ended, as the shell that started it sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All was done.
    Done,
    /// Something was refused or failed; the error stream says what.
    Failed,
    /// What was typed makes no sense.
    Usage,
    /// There is no node to speak to.
    NoNode,
    /// The node has no place in its cluster: whoever starts it again should not.
    Expelled,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NoNode => 3,
            Exit::Expelled => 4,
        }
    }
}

/// Why a command stopped.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// What was typed makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Said by the node, or about it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A file, a row, a statement: it stands in the text.
    #[error("{0}")]
    Failed(String),
    /// Writing the output.
    #[error("write the output: {0}")]
    Output(#[from] std::io::Error),
}

impl CliError {
    /// The exit code that goes with it. A reader that closes the pipe early (`| head`) has what it
    /// wanted: that is no failure.
    pub fn exit(&self) -> Exit {
        match self {
            CliError::Usage(_) | CliError::Client(ClientError::BadAddress { .. }) => Exit::Usage,
            CliError::Client(ClientError::NoNode { .. }) => Exit::NoNode,
            CliError::Client(_) | CliError::Failed(_) => Exit::Failed,
            CliError::Output(error) if is_broken_pipe(error) => Exit::Done,
            CliError::Output(_) => Exit::Failed,
        }
    }

    /// Tells the person, unless nobody listens any more.
    fn report(&self) {
        let quiet = matches!(self, CliError::Output(error) if is_broken_pipe(error));
        if !quiet {
            say(&format!("error: {self}"));
        }
    }
}

fn is_broken_pipe(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::BrokenPipe
}

/// A line on the error stream: beside the output, never in it.
fn say(line: &str) {
    // Where even the error stream is gone there is nobody left to tell.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Runs a command that speaks to a node.
pub fn run(command: ClientCommand) -> Exit {
    // Two threads: one reads and prints, one moves bytes to and from the node.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("error: start a thread: {error}"));
            return Exit::Failed;
        }
    };
    let done = match command {
        ClientCommand::Sql(args) => sql::run(&runtime, &args),
        ClientCommand::Ingest(args) => runtime.block_on(ingest::run(&args)),
        ClientCommand::Status(args) => runtime.block_on(status::run(&args)),
        ClientCommand::Node(args) => runtime.block_on(node::run(&args)),
        ClientCommand::Cert(args) => cert::run(&args),
        ClientCommand::Check(args) => check::run(&args),
        ClientCommand::Generate(args) => runtime.block_on(generate::run(&args)),
        ClientCommand::Version => version(),
    };
    match done {
        Ok(()) => Exit::Done,
        Err(error) => {
            error.report();
            error.exit()
        }
    }
}

fn version() -> Result<(), CliError> {
    writeln!(std::io::stdout().lock(), "alluvium {}", env!("CARGO_PKG_VERSION"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn exit_codes_tell_apart_what_a_script_must_know() {
        let no_node = ClientError::NoNode { addr: "127.0.0.1:1".into() };
        let refused =
            ClientError::Refused { message: "no".into(), retry: crate::grpc::client::Retry::Never };
        let pipe = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let cases = [
            (CliError::Usage("x".into()), 2),
            (CliError::Client(no_node), 3),
            (CliError::Client(refused), 1),
            (CliError::Client(ClientError::BadAddress { addr: "x".into() }), 2),
            (CliError::Failed("x".into()), 1),
            (CliError::Output(pipe), 0),
        ];
        for (error, code) in cases {
            assert_eq!(error.exit().code(), code, "{error}");
        }
    }

    #[test]
    fn clients_take_an_address() {
        let cli = Cli::try_parse_from(["alluvium", "status", "--addr", "h:1"]).unwrap();
        let Command::Client(ClientCommand::Status(status)) = cli.command else { panic!("{cli:?}") };
        assert_eq!(status.connect.addr, "h:1");
        assert!(Cli::try_parse_from(["alluvium", "start", "--addr", "h:1"]).is_err());
    }
}
