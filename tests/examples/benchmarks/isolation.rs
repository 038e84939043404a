//! What workers cost: Tenon with its model in a worker, and in the server's own process, in turns. The table says whether each cost is
//! within its bound.

use std::time::Instant;

use tenon_tests::Server;

use crate::{
    Bench,
    measurements::Http,
    table::{Table, median},
};

/// Values of `isolation`.
const MANNERS: [&str; 2] = ["process", "none"];
const CLIENTS: [u32; 3] = [1, 4, 16];
/// How often each server is started in a round.
const STARTS: usize = 3;

/// The figures of each load, with the most that a worker may cost in them.
const FIGURES: [(&str, Bound); 2] = [
    ("output tokens/s", Bound::Ratio(0.98)),
    ("TTFT p50, ms", Bound::Difference(1.0)),
];
const START: Bound = Bound::Difference(100.0);

/// The most that a worker may cost.
#[derive(Clone, Copy)]
enum Bound {
    /// The least part of the other figure.
    Ratio(f64),
    /// How much more than the other figure.
    Difference(f64),
}

impl Bench {
    /// Output tokens a second, time to the first token and start of a model, with one thread and with `auto`.
    pub async fn isolation(&self) -> Table {
        let values = ["isolation", "process", "none", "ratio", "difference"];
        let mut table = Table::new(&[&values[..], &["bound", "verdict"]].concat());
        for (name, threads) in [("1 thread", Some(1)), ("auto", None)] {
            self.add_starts(name, threads, &mut table);
            // One after the other, because each measures what its threads get done while it starts.
            let mut servers = MANNERS.map(|manner| self.ready(threads, manner).0);
            let urls = servers.each_mut().map(Server::address);
            for clients in CLIENTS {
                for (kind, load) in [
                    (
                        "text",
                        format!("--loads throughput --clients {clients} --requests 2"),
                    ),
                    (
                        "JSON schema",
                        format!("--loads schema --streams {clients} --requests 1"),
                    ),
                ] {
                    let mut http = Http::default();
                    for _ in 0..self.rounds {
                        http.measure(urls.iter(), &load);
                    }
                    for (figure, bound) in FIGURES {
                        let both = [0, 1].map(|server| http.median(server, figure));
                        let name = format!("{name}, {clients} clients, {kind}: {figure}");
                        bound.add_row(&name, both, &mut table);
                    }
                }
            }
        }
        table
    }

    fn add_starts(&self, name: &str, threads: Option<u32>, table: &mut Table) {
        let mut millis = [Vec::new(), Vec::new()];
        for _ in 0..STARTS * self.rounds as usize {
            for (manner, millis) in MANNERS.iter().zip(&mut millis) {
                millis.push(self.ready(threads, manner).1);
            }
        }
        let both = millis.map(|millis| median(&millis));
        let row = format!("{name}: start of the model, ms");
        START.add_row(&row, both, table);
    }

    /// A server whose model is ready, and how many milliseconds that took.
    fn ready(&self, threads: Option<u32>, manner: &str) -> (Server, f64) {
        let options = self.options(threads);
        let options = options.environment("TENON__ENGINE__ISOLATION", manner);
        let begun = Instant::now();
        let mut server = options.start();
        server.wait_for_log("model ready");
        (server, begun.elapsed().as_secs_f64() * 1e3)
    }
}

impl Bound {
    /// Adds a figure with a worker and without.
    fn add_row(self, name: &str, [process, none]: [f64; 2], table: &mut Table) {
        let (ratio, difference) = (process / none, process - none);
        let (bound, holds) = match self {
            Self::Ratio(least) => (format!("ratio ≥ {least}"), ratio >= least),
            Self::Difference(most) => (format!("difference ≤ {most}"), difference <= most),
        };
        let verdict = match holds {
            _ if difference.is_nan() => "not measured",
            true => "holds",
            false => "does not hold",
        };
        table.judged_row(
            name,
            &[process, none, ratio, difference],
            &[&bound, verdict],
        );
    }
}
