//! Measures servers through `tenon bench http`, backends without a server through `tenon bench engine`, and llama.cpp
//! without a server through llama-batched-bench.

use std::{
    collections::HashMap,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;
use tenon_tests::{Backend, artifacts};

use crate::{servers::Peers, table::median};

/// Makes answers to random words as long as they may be: it forbids SmolLM2's two tokens that end an answer.
pub const NO_END: &str = r#"{"logit_bias": {"0": -100, "2": -100}}"#;

/// Figures of one load on several servers, from all rounds so far.
#[derive(Default)]
pub struct Http {
    /// Values by the server's number and the figure's name.
    values: HashMap<(usize, String), Vec<f64>>,
}

impl Http {
    /// Measures each server twice. With two servers, each of them is measured first once.
    pub fn measure<'a>(&mut self, urls: impl Iterator<Item = &'a String>, load: &str) {
        let mut command = Command::new(&artifacts().tenon);
        command
            .args(["bench", "http", "--json", "--rounds", "2"])
            .args(["--extra", NO_END])
            .args(load.split(' '));
        for (server, url) in urls.enumerate() {
            command.args((server > 0).then_some("--versus")).arg(url);
        }
        // A measurement that fails on one server is missing in the table, and its error is printed.
        let output = command
            .stderr(Stdio::inherit())
            .output()
            .expect("tenon starts");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        for measurement in items(&report["measurements"]) {
            for figure in items(&measurement["figures"]) {
                self.take(figure);
            }
            for failure in items(&measurement["failures"]) {
                eprintln!("failed: {failure}");
            }
        }
    }

    /// The median of a figure. NaN if it was not measured.
    pub fn median(&self, server: usize, figure: &str) -> f64 {
        self.values
            .get(&(server, figure.to_owned()))
            .map_or(f64::NAN, |values| median(values))
    }

    fn take(&mut self, figure: &Value) {
        let name = figure["name"].as_str().unwrap_or_default();
        for (server, values) in items(&figure["values"]).iter().enumerate() {
            let values = items(values).iter().filter_map(Value::as_f64);
            self.values
                .entry((server, name.to_owned()))
                .or_default()
                .extend(values);
        }
    }
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The backends without a server, on one thread.
pub struct Engine {
    /// Directory with all plugins.
    plugins: TempDir,
}

/// Tokens per second of a test, such as `pp512`.
pub type Rate = (String, f64);

impl Engine {
    pub fn new() -> Self {
        let plugins = tempfile::tempdir().expect("a temporary directory");
        for backend in Backend::ALL {
            let library = artifacts().library(backend.library());
            let link = plugins.path().join(format!("{backend:?}.so"));
            symlink(library, link).expect("a link");
        }
        Self { plugins }
    }

    /// Runs `tenon bench engine` once with these arguments. Without a backend, Tenon chooses one as its servers do.
    pub fn rates(&self, backend: Option<Backend>, model: &Path, arguments: &str) -> Vec<Rate> {
        let rows = self.rows(backend, model, arguments);
        let rate = |row: Vec<String>| {
            let [.., test, rate] = row.as_slice() else {
                panic!("no row of a table: {row:?}");
            };
            let mean = rate.split(' ').next().unwrap_or_default();
            (test.clone(), mean.parse().expect("a rate"))
        };
        rows.into_iter().map(rate).collect()
    }

    /// Id of the backend that computes.
    pub fn backend(&self, backend: Option<Backend>, model: &Path) -> String {
        let rows = self.rows(backend, model, "--prompt 1 --generate 0");
        let is_id = |column: &&String| column.starts_with("org.");
        rows[0].iter().find(is_id).expect("an id").clone()
    }

    /// Output tokens per second of sequences that run together. The time of their prompts counts too, as it does for
    /// clients.
    pub fn throughput(&self, backend: Option<Backend>, model: &Path, load: BatchLoad) -> f64 {
        let BatchLoad {
            sequences,
            prompt,
            output,
        } = load;
        let arguments = format!("--prompt {prompt} --generate {output} --batch {sequences}");
        let rates = self.rates(backend, model, &arguments);
        let [(_, prefill), (_, decode)] = rates.as_slice() else {
            panic!("two tests: {rates:?}");
        };
        let seconds =
            f64::from(sequences * prompt) / prefill + f64::from(sequences * output) / decode;
        f64::from(sequences * output) / seconds
    }

    /// Writes the model at another level.
    pub fn quantize(&self, source: &Path, file: &Path, level: &str) {
        let output = Command::new(&artifacts().tenon)
            .args(["quantize", "--backend", Backend::LlamaCpp.id(), "--plugins"])
            .args([self.plugins.path(), source, file])
            .arg(level)
            .output()
            .expect("tenon starts");
        assert!(output.status.success(), "{output:?}");
    }

    /// The rows of the table that the command prints, without borders.
    fn rows(&self, backend: Option<Backend>, model: &Path, arguments: &str) -> Vec<Vec<String>> {
        let mut command = Command::new(&artifacts().tenon);
        command
            .args(["bench", "engine", "--threads", "1", "--repetitions", "1"])
            .args(arguments.split(' '))
            .arg("--plugins")
            .args([self.plugins.path(), model]);
        if let Some(backend) = backend {
            command.args(["--backend", backend.id()]);
        }
        let output = command.output().expect("tenon starts");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout);
        let columns = |row: &str| {
            let columns = row.trim_matches('|').split('|');
            columns.map(|column| column.trim().to_owned()).collect()
        };
        text.lines().skip(2).map(columns).collect()
    }
}

/// Sequences that run together.
#[derive(Clone, Copy)]
pub struct BatchLoad {
    pub sequences: u32,
    /// Tokens of each prompt.
    pub prompt: u32,
    /// Tokens that each generates.
    pub output: u32,
}

/// The same as [`Engine::throughput`], measured by llama-batched-bench.
pub fn llama_throughput(peers: &Peers, model: &Path, load: BatchLoad) -> f64 {
    let BatchLoad {
        sequences,
        prompt,
        output,
    } = load;
    // llama.cpp rounds the length of a sequence up to a multiple of 256.
    let context = sequences * (prompt + output).next_multiple_of(256);
    let result = peers
        .command("llama-batched-bench")
        .args(["-t", "1", "-tb", "1", "--output-format", "jsonl", "-m"])
        .arg(model)
        .args(["-npp", &prompt.to_string(), "-ntg", &output.to_string()])
        .args(["-npl", &sequences.to_string(), "-c", &context.to_string()])
        .output()
        .expect("llama-batched-bench starts");
    let text = String::from_utf8_lossy(&result.stdout);
    let line = text
        .lines()
        .find_map(|line| serde_json::from_str::<Value>(line).ok());
    let seconds = line.and_then(|line| line["t"].as_f64()).expect("a time");
    f64::from(sequences * output) / seconds
}
