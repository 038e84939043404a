//! The command line, with one file for each command.

mod bench;
mod config;
mod plugins;
mod quantize;
mod serve;

use clap::{Parser, Subcommand};

use crate::grammar;

/// An OpenAI-compatible LLM server whose model backends are shared libraries.
#[derive(Parser)]
#[command(name = "tenon", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Serve),
    Quantize(quantize::Quantize),
    #[command(subcommand)]
    Plugins(plugins::Plugins),
    #[command(subcommand)]
    Config(config::Config),
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Try out grammars. The server starts this as a child process.
    #[command(name = grammar::TRIAL_COMMAND, hide = true)]
    TryGrammars,
}

impl Cli {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Serve(serve) => serve.run(),
            Command::Quantize(quantize) => quantize.run(),
            Command::Config(config) => config.run(),
            Command::Bench(bench) => bench.run(),
            Command::Plugins(plugins) => plugins.run(),
            Command::TryGrammars => Ok(grammar::run_trials()?),
        }
    }
}
