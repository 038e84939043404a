//! Makes the tables of the README. Tenon is measured in turns with its peers on the same model: with llama-server, and with
//! the bare engine. `make bench` runs it; `PEERS` is a directory with llama-server and llama-batched-bench.
//!
//! - `serving` measures what clients see, and `grammar` what grammars cost, with the schemas in `schemas`. `backends`
//!   compares backends without a server. `isolation` measures what workers cost, and `apis` what the newer APIs cost.
//! - `servers` starts servers, `measurements` runs `tenon bench` and llama-batched-bench, `table` shows medians.

mod apis;
mod backends;
mod grammar;
mod isolation;
mod measurements;
mod schemas;
mod servers;
mod serving;
mod table;

use std::{path::PathBuf, process::Command};

use clap::{Parser, ValueEnum};
use tenon_tests::{Backend, Server, ServerOptions, smollm2};

use measurements::Engine;
use servers::Peers;

/// Measure Tenon against its peers.
#[derive(Parser)]
struct Arguments {
    /// A directory with llama-server and llama-batched-bench.
    #[arg(long)]
    peers: Option<PathBuf>,
    /// The GGUF file to serve [default: the model of the quickstart].
    #[arg(long)]
    model: Option<PathBuf>,
    /// The backend that serves it [default: the one that Tenon takes by itself].
    #[arg(long)]
    backend: Option<GgufBackend>,
    /// Rounds; in each, every server is measured twice.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// What to measure.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "clients,prefix,schema,grammar,large-schema,long-prompt,short-prompts,copy,threads,isolation,apis,backends"
    )]
    only: Vec<Part>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Part {
    Clients,
    Prefix,
    Schema,
    Grammar,
    LargeSchema,
    LongPrompt,
    ShortPrompts,
    Copy,
    Threads,
    Isolation,
    Apis,
    Backends,
}

#[derive(Clone, Copy, ValueEnum)]
enum GgufBackend {
    LlamaCpp,
    CandleQuantized,
}

/// The measurements to run, and how often.
struct Bench {
    model: PathBuf,
    backend: Option<Backend>,
    peers: Option<Peers>,
    rounds: u32,
    engine: Engine,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments = Arguments::parse();
    let backend = arguments.backend.map(|backend| match backend {
        GgufBackend::LlamaCpp => Backend::LlamaCpp,
        GgufBackend::CandleQuantized => Backend::CandleQuantized,
    });
    let bench = Bench {
        peers: arguments.peers.map(Peers::new),
        rounds: arguments.rounds,
        model: arguments.model.unwrap_or_else(smollm2),
        backend,
        engine: Engine::new(),
    };
    bench.print_versions();
    for part in arguments.only {
        let table = match part {
            Part::Clients => bench.clients().await,
            Part::Prefix => bench.prefix().await,
            Part::Schema => bench.schema().await,
            Part::Grammar => bench.grammar().await,
            Part::LargeSchema => bench.large_schema().await,
            Part::LongPrompt => bench.long_prompt().await,
            Part::ShortPrompts => bench.short_prompts().await,
            Part::Copy => bench.copy().await,
            Part::Threads => bench.threads().await,
            Part::Isolation => bench.isolation().await,
            Part::Apis => bench.apis().await,
            Part::Backends => bench.backends(),
        };
        println!("\n{table}");
    }
}

impl Bench {
    fn print_versions(&self) {
        println!("- model: {}", self.model.display());
        println!(
            "- rounds: {}, each server measured twice in each",
            self.rounds
        );
        let package = Command::new(env!("CARGO"))
            .args(["pkgid", "llama-cpp-sys-2"])
            .output();
        let package = String::from_utf8(package.expect("cargo starts").stdout).expect("text");
        let version = package.trim().rsplit(['@', '#']).next().unwrap_or_default();
        println!(
            "- Tenon: {}, llama-cpp-sys-2 {version}, {}",
            self.engine.backend(self.backend, &self.model),
            servers::plugin_build()
        );
        if let Some(peers) = &self.peers {
            println!("- peer: llama-server {}", peers.version());
        }
    }

    fn tenon(&self, threads: Option<u32>) -> Server {
        self.options(threads).start()
    }

    fn options(&self, threads: Option<u32>) -> ServerOptions {
        let plugins = [Backend::LlamaCpp, Backend::CandleQuantized].map(Backend::library);
        let model = self.model.to_string_lossy();
        let mut options = ServerOptions::new(&plugins).arguments(&[&model]);
        if let Some(backend) = self.backend {
            options = options.arguments(&["--backend", backend.id()]);
        }
        if let Some(count) = threads {
            options = options.arguments(&["--threads", &count.to_string()]);
        }
        options
    }

    async fn peer(&self, threads: Option<u32>, slots: u32, context: u32) -> Option<servers::Peer> {
        match &self.peers {
            Some(peers) => Some(peers.start(&self.model, threads, slots, context).await),
            None => None,
        }
    }
}
