//! `tenon bench …`: measures the speed of a backend by itself, the speed of a server for its clients, and the quality of a
//! model's predictions.

mod engine;
mod http;
mod model;
mod perplexity;
mod statistics;

use clap::Subcommand;

/// Measure backends, servers and models.
#[derive(Subcommand)]
pub enum Bench {
    Engine(engine::EngineBench),
    Http(http::HttpBench),
    Perplexity(perplexity::PerplexityBench),
}

impl Bench {
    /// Measures, and prints the result.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Engine(bench) => bench.run(),
            Self::Http(bench) => bench.run(),
            Self::Perplexity(bench) => bench.run(),
        }
    }
}
