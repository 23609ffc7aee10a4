//! `fedlora-coordinator`: the coordinator, and the command line of its operators.

use std::process::ExitCode;

use clap::Parser;
use fedlora_coordinator::cli::{Cli, print_failure};

/// Blocks of a megabyte come and go with every chunk of every client; this allocator gives them back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let format = cli.format();
    let code = match cli.run() {
        Ok(answer) => answer.print(format).map_or(5, |()| answer.exit_code),
        Err(failure) => {
            // Nobody is left to tell when the error stream is closed too.
            let _ = print_failure(&failure, format);
            failure.exit_code()
        }
    };
    ExitCode::from(code)
}
