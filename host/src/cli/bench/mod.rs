//! `tenon bench …`: how fast a backend is by itself, and how fast a server is to its clients.

mod engine;
mod http;
mod statistics;

use clap::Subcommand;

/// Measure how fast things are.
#[derive(Subcommand)]
pub enum Bench {
    Engine(engine::EngineBench),
    Http(http::HttpBench),
}

impl Bench {
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Engine(bench) => bench.run(),
            Self::Http(bench) => bench.run(),
        }
    }
}
