//! The program `tenon`: the command line of the library of the same name.

use std::process::ExitCode;

use clap::Parser;
use tenon::cli::Cli;

fn main() -> ExitCode {
    // Without this variable, ggml starts a debugger on this process when it aborts, and waits for it.
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("GGML_NO_BACKTRACE", "1") };
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tenon::telemetry::last_words(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}
