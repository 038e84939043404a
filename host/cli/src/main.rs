//! The program `tenon`, with one file for each command. The command `bench` is the crate `tenon-bench`; `chat` and `run`
//! are `tenon-chat`.

mod config;
mod generate;
mod models;
mod plugins;
mod pull;
mod quantize;
mod serve;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use tenon::{
    grammar,
    plugin::{child, probe},
    runner::process,
    telemetry,
};
use tenon_bench::Bench;
use tenon_chat::{Chat, Run};

/// An OpenAI-compatible LLM server whose model backends are shared libraries.
#[derive(Parser)]
#[command(name = "tenon", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Serve),
    Chat(Chat),
    Run(Run),
    Pull(pull::Pull),
    #[command(subcommand)]
    Models(models::Models),
    Quantize(quantize::Quantize),
    #[command(subcommand)]
    Plugins(plugins::Plugins),
    #[command(subcommand)]
    Config(config::Config),
    #[command(subcommand)]
    Bench(Bench),
    #[command(hide = true)]
    Generate(generate::Generate),
    /// Try out grammars. The server starts this as a child process.
    #[command(name = grammar::TRIAL_COMMAND, hide = true)]
    TryGrammars,
    /// Run the code of a plugin. The server starts this as a child process.
    #[command(name = child::COMMAND, hide = true)]
    Worker {
        /// Try the plugin out instead of computing a model with it.
        #[arg(long)]
        trial: bool,
    },
}

fn main() -> ExitCode {
    // Without this variable, ggml starts a debugger on this process when it aborts, and waits for it.
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("GGML_NO_BACKTRACE", "1") };
    match Cli::parse().command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            telemetry::last_words(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

impl Command {
    fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Serve(serve) => serve.run(),
            Self::Chat(chat) => chat.run(),
            Self::Run(run) => run.run(),
            Self::Pull(pull) => pull.run(),
            Self::Models(models) => models.run(),
            Self::Quantize(quantize) => quantize.run(),
            Self::Config(config) => config.run(),
            Self::Bench(bench) => bench.run(),
            Self::Generate(generate) => generate.run(Cli::command()),
            Self::Plugins(plugins) => plugins.run(),
            Self::TryGrammars => Ok(grammar::run_trials()?),
            Self::Worker { trial: true } => Ok(probe::run()?),
            Self::Worker { trial: false } => process::run(),
        }
    }
}
