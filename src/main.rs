//! Parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    s2s_gateway::cli::main()
}
