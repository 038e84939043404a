//! What clients see, and how fast: Tenon and llama-server in turns.

use std::thread::available_parallelism;

use tenon_tests::Server;

use crate::{
    Bench,
    measurements::{BatchLoad, Http, llama_throughput},
    servers::Peer,
    table::{Table, median},
};

/// Tokens of each answer in measurements of throughput.
const OUTPUT_TOKENS: u32 = 64;
const CLIENTS: [u32; 4] = [1, 4, 8, 16];
/// Context length of a request in measurements of throughput.
const SHORT_CONTEXT: u32 = 1024;
/// Number of streams that run while a long prompt arrives.
const STREAMS: u32 = 4;

impl Bench {
    /// Throughput, compared with llama-server, and with both engines without a server.
    pub async fn clients(&self) -> Table {
        let mut table = Table::new(&[
            "output tokens/s",
            "Tenon",
            "llama-server",
            "ratio",
            "tenon bench engine",
            "ratio",
            "llama-batched-bench",
            "ratio",
        ]);
        let mut tenon = self.tenon(Some(1));
        for clients in CLIENTS {
            let peer = self.peer(Some(1), clients, SHORT_CONTEXT).await;
            let urls = [Some(tenon.address()), peer.as_ref().map(Peer::url)];
            let (mut http, mut own, mut llama) = (Http::default(), Vec::new(), Vec::new());
            for _ in 0..self.rounds {
                let load = format!("--loads throughput --clients {clients} --requests 1");
                http.measure(urls.iter().flatten(), &load);
                let load = BatchLoad {
                    sequences: clients,
                    prompt: http.median(0, "prompt tokens") as u32,
                    output: OUTPUT_TOKENS,
                };
                own.push(self.engine.throughput(self.backend, &self.model, load));
                let peers = self.peers.as_ref();
                llama.extend(peers.map(|peers| llama_throughput(peers, &self.model, load)));
            }
            let ours = http.median(0, "output tokens/s");
            let others = [
                http.median(1, "output tokens/s"),
                median(&own),
                median(&llama),
            ];
            let pairs = others.into_iter().flat_map(|other| [other, ours / other]);
            let values: Vec<_> = [ours].into_iter().chain(pairs).collect();
            table.row(&format!("{clients} clients"), &values);
        }
        table
    }

    pub async fn prefix(&self) -> Table {
        let figures = [
            "TTFT new, ms",
            "TTFT same, ms",
            "same/new, %",
            "TTFT known, ms",
            "known/new, %",
        ];
        let load = "--loads prefix --prefix-tokens 1000";
        self.against_peer("prompt of 1,000 tokens", load, 1, 2048, &figures)
            .await
    }

    pub async fn schema(&self) -> Table {
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

    pub async fn long_prompt(&self) -> Table {
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

    pub async fn short_prompts(&self) -> Table {
        let figures = [
            "TTFT idle, ms",
            "TTFT p50, ms",
            "TTFT p99, ms",
            "TTFT of long prompts, mean, ms",
            "TTFT of the last long prompt, ms",
        ];
        let load = "--loads short-prompts --long-prompts 3 --long-prompt-tokens 4000";
        let name = "short prompts while three of 4,000 tokens are read";
        self.against_peer(name, load, 4, 4608, &figures).await
    }

    pub async fn copy(&self) -> Table {
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

    /// Both servers with their default number of threads, and Tenon with each fixed number.
    pub async fn threads(&self) -> Table {
        let cores = available_parallelism().map_or(1, usize::from) as u32;
        let (mut default, mut fixed): (_, Vec<_>) = (
            self.tenon(None),
            (1..=cores).map(|count| self.tenon(Some(count))).collect(),
        );
        let peer = self.peer(None, 4, 2048).await;
        let mut urls = vec![default.address()];
        urls.extend(fixed.iter_mut().map(Server::address));
        urls.extend(peer.as_ref().map(Peer::url));
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

    /// Compares both servers under one load on one thread. The table has a row for each figure.
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
        let urls = [Some(tenon.address()), peer.as_ref().map(Peer::url)];
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
}
