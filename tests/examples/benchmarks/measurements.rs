//! Figures of servers, through `tenon bench http`, and of the bare engine, through llama-batched-bench.

use std::{
    collections::HashMap,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;
use tenon_tests::artifacts;

use crate::{servers::Peers, table::median};

/// Answers as long as they may be, whatever the model makes of random words: SmolLM2's two tokens that end one are forbidden.
const NO_END: &str = r#"{"logit_bias": {"0": -100, "2": -100}}"#;

/// Figures of one load on several servers, of all rounds so far.
#[derive(Default)]
pub struct Http {
    /// By server and name.
    values: HashMap<(usize, String), Vec<f64>>,
}

impl Http {
    /// Measures each server twice, so that each is the first once if there are two.
    pub fn measure<'a>(&mut self, urls: impl Iterator<Item = &'a String>, load: &str) {
        let mut command = Command::new(&artifacts().tenon);
        command
            .args(["bench", "http", "--json", "--rounds", "2"])
            .args(["--extra", NO_END])
            .args(load.split(' '));
        for (server, url) in urls.enumerate() {
            command.args((server > 0).then_some("--versus")).arg(url);
        }
        // What fails on one server is missing in the table, and the reason is shown.
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

    /// NaN where nothing was measured.
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

/// Output tokens per second of llama-batched-bench, the prompts' time included, as a client counts.
pub fn bare_engine(peers: &Peers, model: &Path, batch: u32, prompt: u32, output: u32) -> f64 {
    // llama.cpp makes sequences as long as a multiple of this.
    let context = batch * (prompt + output).next_multiple_of(256);
    let result = peers
        .command("llama-batched-bench")
        .args(["-t", "1", "-tb", "1", "--output-format", "jsonl", "-m"])
        .arg(model)
        .args(["-npp", &prompt.to_string(), "-ntg", &output.to_string()])
        .args(["-npl", &batch.to_string(), "-c", &context.to_string()])
        .output()
        .expect("llama-batched-bench starts");
    let text = String::from_utf8_lossy(&result.stdout);
    let line = text
        .lines()
        .find_map(|line| serde_json::from_str::<Value>(line).ok());
    let seconds = line.and_then(|line| line["t"].as_f64()).expect("a time");
    f64::from(batch * output) / seconds
}
