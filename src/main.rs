//! The `rs-overlay` binary: the daemon, and commands that ask it.

use std::process::ExitCode;

fn main() -> ExitCode {
    rs_overlay::cli::run(std::env::args_os())
}
