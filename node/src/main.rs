//! The program: reads what was typed and hands it on.

use std::process::ExitCode;

use alluvium::cli::{Cli, Command, Exit};
use alluvium::config::Variables;
use clap::Parser;

// Queries and appends allocate on many threads at once, where the system's allocator waits for
// locks.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let exit = match Cli::parse().command {
        Command::Start(args) => match args.load(&Variables::of_this_process()) {
            Ok(config) => return start(config),
            Err(error) => {
                complain(&error.to_string());
                Exit::Usage
            }
        },
        Command::Client(command) => alluvium::cli::run(command),
    };
    ExitCode::from(exit.code())
}

fn start(config: alluvium::config::Config) -> ExitCode {
    // A variable that programs of all makers know.
    let plain = std::env::var_os("NO_COLOR").is_some();
    alluvium::telemetry::start_logs(config.log.format, &config.log.filter, plain);
    match alluvium::bootstrap::run(config) {
        Ok(()) => ExitCode::from(Exit::Done.code()),
        Err(error) => {
            complain(&format!("{error:#}"));
            let is_expelled = error.is::<alluvium::bootstrap::Expelled>();
            let exit = if is_expelled { Exit::Expelled } else { Exit::Failed };
            ExitCode::from(exit.code())
        }
    }
}

#[allow(clippy::print_stderr, reason = "nothing else is there yet, or any more, to say it")]
fn complain(message: &str) {
    eprintln!("error: {message}");
}
