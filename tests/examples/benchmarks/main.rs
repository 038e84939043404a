//! The table of the README: Tenon, and where there are peers llama-server and the bare engine, in turns on the same model.
//! `make bench` runs it; `PEERS` is a directory with llama-server and llama-batched-bench.
//!
//! - `servers` starts them, `measurements` has `tenon bench http` and llama-batched-bench measure, `grammar` writes after `schemas`,
//!   `table` shows medians.

mod grammar;
mod measurements;
mod schemas;
mod servers;
mod table;

use std::{path::PathBuf, process::Command, thread::available_parallelism};

use clap::{Parser, ValueEnum};
use tenon_tests::{Client, Server, ServerOptions, smollm2};

use grammar::{Case, Tally};
use measurements::{Http, bare_engine};
use servers::Peers;
use table::{Table, median};

/// Measure Tenon against its peers.
#[derive(Parser)]
struct Arguments {
    /// A directory with llama-server and llama-batched-bench.
    #[arg(long)]
    peers: Option<PathBuf>,
    /// The GGUF file to serve [default: the model of the quickstart].
    #[arg(long)]
    model: Option<PathBuf>,
    /// Rounds; in each, every server is measured twice.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// What to measure.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "clients,prefix,schema,grammar,large-schema,long-prompt,copy,threads"
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
    Copy,
    Threads,
}

/// What is measured, and how often.
struct Bench {
    model: PathBuf,
    peers: Option<Peers>,
    rounds: u32,
}

/// Tokens of each answer where throughput is measured.
const OUTPUT_TOKENS: u32 = 64;
const CLIENTS: [u32; 4] = [1, 4, 8, 16];
/// Context of a request where throughput is measured.
const SHORT_CONTEXT: u32 = 1024;
/// Streams that a long prompt meets.
const STREAMS: u32 = 4;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments = Arguments::parse();
    let model = arguments.model.unwrap_or_else(smollm2);
    let bench = Bench {
        peers: arguments.peers.map(Peers::new),
        rounds: arguments.rounds,
        model,
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
            Part::Copy => bench.copy().await,
            Part::Threads => bench.threads().await,
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
            "- Tenon: llama-cpp-sys-2 {version}, {}",
            servers::plugin_build()
        );
        if let Some(peers) = &self.peers {
            println!("- peer: llama-server {}", peers.version());
        }
    }

    /// Throughput, against llama-server and against the bare engine at the same batch.
    async fn clients(&self) -> Table {
        let mut table = Table::new(&[
            "output tokens/s",
            "Tenon",
            "llama-server",
            "ratio",
            "llama-batched-bench",
            "ratio",
        ]);
        let mut tenon = self.tenon(Some(1));
        for clients in CLIENTS {
            let peer = self.peer(Some(1), clients, SHORT_CONTEXT).await;
            let urls = [Some(tenon.address()), peer.as_ref().map(servers::Peer::url)];
            let (mut http, mut bare) = (Http::default(), Vec::new());
            for _ in 0..self.rounds {
                let load = format!("--loads throughput --clients {clients} --requests 1");
                http.measure(urls.iter().flatten(), &load);
                if let Some(peers) = &self.peers {
                    let prompt = http.median(0, "prompt tokens") as u32;
                    bare.push(bare_engine(
                        peers,
                        &self.model,
                        clients,
                        prompt,
                        OUTPUT_TOKENS,
                    ));
                }
            }
            let (ours, theirs) = (
                http.median(0, "output tokens/s"),
                http.median(1, "output tokens/s"),
            );
            let bare = median(&bare);
            let values = [ours, theirs, ours / theirs, bare, ours / bare];
            table.row(&format!("{clients} clients"), &values);
        }
        table
    }

    async fn prefix(&self) -> Table {
        let figures = ["TTFT new, ms", "TTFT known, ms", "known/new, %"];
        let load = "--loads prefix --prefix-tokens 1000";
        self.against_peer("prompt of 1,000 tokens", load, 1, 2048, &figures)
            .await
    }

    async fn schema(&self) -> Table {
        let figures = ["output tokens/s", "TTFT p50, ms"];
        let load = format!("--loads schema --requests 1 --streams {STREAMS}");
        self.against_peer(
            "4 clients, JSON schema",
            &load,
            STREAMS,
            SHORT_CONTEXT,
            &figures,
        )
        .await
    }

    /// What grammars cost, and what they cost llama-server.
    async fn grammar(&self) -> Table {
        let mut table = Table::new(&[
            "valid bytes/s",
            "unconstrained",
            "constrained",
            "ratio",
            "valid, %",
            "llama-server, constrained",
            "Tenon / llama-server",
            "llama-server valid, %",
        ]);
        let mut server = self.tenon(Some(1));
        let tenon = server.client();
        let peer = self.peer(Some(1), 1, 4096).await;
        let peer = peer.as_ref().map(|peer| Client::new(peer.url()));
        let cases = schemas::schemas().map(|(name, schema)| (Case::schema(name, schema), &peer));
        let anything = [("(.|\\n)*", 1), ("(.|\\n)*, 8 clients", 8)];
        let anything = anything.map(|(name, clients)| (Case::anything(name, clients), &None));
        for (case, peer) in cases.into_iter().chain(anything) {
            let [free, bound, other] = self.tallies(&case, &tenon, peer.as_ref()).await;
            let (rate, others) = (bound.rate(), other.rate());
            let ratios = (rate / free.rate(), rate / others);
            let valid = (bound.valid(), other.valid());
            let values = [
                free.rate(),
                rate,
                ratios.0,
                valid.0,
                others,
                ratios.1,
                valid.1,
            ];
            table.row(case.name, &values);
        }
        let [median, slowest] = grammar::mask_seconds(&tenon).await;
        println!("- masks: p50 at most {median} s, p99 at most {slowest} s");
        table
    }

    /// Unconstrained, constrained, and constrained by the peer.
    async fn tallies(&self, case: &Case, tenon: &Client, peer: Option<&Client>) -> [Tally; 3] {
        // Grammars are compiled and kernels are warm before anything counts.
        case.measure(tenon, true, 0, &mut Tally::default()).await;
        let mut tallies = <[Tally; 3]>::default();
        let [free, bound, other] = &mut tallies;
        for round in 1..=self.rounds {
            case.measure(tenon, false, round, free).await;
            case.measure(tenon, true, round, bound).await;
            if let Some(peer) = peer {
                case.measure(peer, true, round, other).await;
            }
        }
        tallies
    }

    /// How a large schema that is new to the server disturbs others.
    async fn large_schema(&self) -> Table {
        let mut server = self.tenon(Some(1));
        let client = server.client();
        let mut gaps = [Vec::new(), Vec::new()];
        let mut bytes = 0;
        for round in 0..self.rounds {
            let schema = schemas::catalogue(round);
            bytes = schema.to_string().len();
            let measured = grammar::gaps_beside(&client, &schema).await;
            gaps.iter_mut()
                .zip(measured)
                .for_each(|(all, new)| all.push(new));
        }
        let [usual, beside] = gaps.map(|gaps| median(&gaps));
        let mut table = Table::new(&["4 streams, ITL p99, ms", "alone", "beside", "ratio"]);
        let name = format!("a new schema of {} KB", bytes / 1000);
        table.row(&name, &[usual, beside, beside / usual]);
        table
    }

    async fn long_prompt(&self) -> Table {
        let figures = [
            "ITL p50, ms",
            "ITL p99, ms",
            "ITL largest, ms",
            "TTFT of the long prompt, ms",
        ];
        let load = format!("--loads long-prompt --long-prompt-tokens 4000 --streams {STREAMS}");
        let name = "4 streams while a prompt of 4,000 tokens is read";
        self.against_peer(name, &load, STREAMS + 1, 4608, &figures)
            .await
    }

    async fn copy(&self) -> Table {
        let figures = ["decoded tokens/s", "tokens"];
        self.against_peer(
            "copying JSON with one change",
            "--loads copy",
            1,
            2048,
            &figures,
        )
        .await
    }

    /// Both servers with their default threads, and Tenon with each fixed number.
    async fn threads(&self) -> Table {
        let cores = available_parallelism().map_or(1, usize::from) as u32;
        let (mut default, mut fixed): (_, Vec<_>) = (
            self.tenon(None),
            (1..=cores).map(|count| self.tenon(Some(count))).collect(),
        );
        let peer = self.peer(None, 4, 2048).await;
        let mut urls = vec![default.address()];
        urls.extend(fixed.iter_mut().map(Server::address));
        urls.extend(peer.as_ref().map(servers::Peer::url));
        let mut head = vec!["threads".to_owned(), "default".to_owned()];
        head.extend((1..=cores).map(|count| count.to_string()));
        head.extend(["default / best", "llama-server, default"].map(str::to_owned));
        let mut table = Table::new(&head);
        for (name, load, figure) in [
            (
                "1 client, tokens/s",
                "--loads throughput --clients 1 --requests 2",
                "output tokens/s",
            ),
            (
                "4 clients, tokens/s",
                "--loads throughput --clients 4 --requests 1",
                "output tokens/s",
            ),
            (
                "1,000 new tokens, 1/TTFT, 1/s",
                "--loads prefix",
                "TTFT new, ms",
            ),
        ] {
            let mut http = Http::default();
            (0..self.rounds).for_each(|_| http.measure(urls.iter(), load));
            let value = |server| match http.median(server, figure) {
                millis if figure.ends_with("ms") => 1e3 / millis,
                rate => rate,
            };
            let all: Vec<_> = (0..=cores as usize).map(value).collect();
            let best = all[1..].iter().copied().fold(f64::NAN, f64::max);
            let last = [all[0] / best, value(all.len())];
            table.row(name, &[all, last.to_vec()].concat());
        }
        table
    }

    /// One load at one thread, figure by figure.
    async fn against_peer(
        &self,
        name: &str,
        load: &str,
        slots: u32,
        context: u32,
        figures: &[&str],
    ) -> Table {
        let mut tenon = self.tenon(Some(1));
        let peer = self.peer(Some(1), slots, context).await;
        let urls = [Some(tenon.address()), peer.as_ref().map(servers::Peer::url)];
        let mut http = Http::default();
        for _ in 0..self.rounds {
            http.measure(urls.iter().flatten(), load);
        }
        let mut table = Table::new(&[name, "Tenon", "llama-server", "ratio"]);
        for figure in figures {
            let (ours, theirs) = (http.median(0, figure), http.median(1, figure));
            table.row(figure, &[ours, theirs, ours / theirs]);
        }
        table
    }

    fn tenon(&self, threads: Option<u32>) -> Server {
        let model = self.model.to_string_lossy();
        let options = ServerOptions::new(&["tenon_plugin_llama_cpp"]).arguments(&[&model]);
        let options = match threads {
            Some(count) => options.arguments(&["--threads", &count.to_string()]),
            None => options,
        };
        options.start()
    }

    async fn peer(&self, threads: Option<u32>, slots: u32, context: u32) -> Option<servers::Peer> {
        match &self.peers {
            Some(peers) => Some(peers.start(&self.model, threads, slots, context).await),
            None => None,
        }
    }
}
