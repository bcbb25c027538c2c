//! The `causeway` program.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    causeway::cli::main(std::env::args_os(), causeway::gateway::launch)
}
