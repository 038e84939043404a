//! `tenon bench …`: how fast a backend is by itself, how fast a server is to its clients, and how good a model's predictions are.

mod engine;
mod http;
mod model;
mod perplexity;
mod statistics;

use clap::Subcommand;

/// Measure how fast things are, and how good.
#[derive(Subcommand)]
pub enum Bench {
    Engine(engine::EngineBench),
    Http(http::HttpBench),
    Perplexity(perplexity::PerplexityBench),
}

impl Bench {
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Engine(bench) => bench.run(),
            Self::Http(bench) => bench.run(),
            Self::Perplexity(bench) => bench.run(),
        }
    }
}
