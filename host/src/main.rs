//! The program `tenon`: see the library of the same name.

use std::process::ExitCode;

use clap::Parser;
use tenon::cli::Cli;

fn main() -> ExitCode {
    // Otherwise ggml, when it aborts, starts a debugger on this process and waits for it.
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("GGML_NO_BACKTRACE", "1") };
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
