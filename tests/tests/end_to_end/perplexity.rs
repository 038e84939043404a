//! Compares `tenon bench perplexity` with the definition of perplexity.

use std::{path::Path, process::Command};

use serde_json::Value;
use tempfile::TempDir;
use tenon_plugin_api::EncodeFlags;
use tenon_tests::{
    Backend, RowReader, artifacts,
    models::{Family, LANGUAGES, TestModel},
};

const CONTEXT: usize = 48;

#[test]
fn perplexity_is_that_of_the_second_halves_of_windows() {
    check(Family::Llama, &[]);
}

#[test]
fn windows_begin_with_bos_where_the_model_wants_it() {
    check(Family::Gemma2, &[1]);
}

/// `before` has the tokens that begin every window.
fn check(family: Family, before: &[u32]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    TestModel::tiny(family).write_gguf(&path);
    let text = LANGUAGES.join("\n");
    let report = run(&folder, &path, &text);

    let loaded = Backend::LlamaCpp.load(&path, &Backend::LlamaCpp.exact());
    let tokenizer = loaded.model.tokenizer().unwrap();
    let tokens = tokenizer.encode(&text, EncodeFlags::NONE).unwrap();
    let mut reader = RowReader::new(&loaded, 1);
    let mut losses = Vec::new();
    for window in tokens.chunks_exact(CONTEXT) {
        let mut window = window.to_vec();
        window[..before.len()].copy_from_slice(before);
        let rows = reader.append_one(0, &window);
        reader.free(0);
        let scored = CONTEXT / 2..CONTEXT - 1;
        losses.extend(scored.map(|at| loss(&rows[at], window[at + 1])));
    }
    let expected = (losses.iter().sum::<f64>() / losses.len() as f64).exp();
    let found = report["perplexity"].as_f64().unwrap();
    assert!((found / expected - 1.0).abs() < 1e-3, "{found}, {expected}");
    assert_eq!(report["predicted_tokens"], losses.len());
    assert_eq!(report["text_tokens"], tokens.len());
    assert_eq!(report["backend"], "org.tenon.llama-cpp");
}

fn run(folder: &TempDir, model: &Path, text: &str) -> Value {
    let plugins = folder.path().join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    let library = artifacts().library(Backend::LlamaCpp.library());
    std::os::unix::fs::symlink(library, plugins.join("plugin.so")).unwrap();
    let file = folder.path().join("text.txt");
    std::fs::write(&file, text).unwrap();
    let output = Command::new(&artifacts().tenon)
        .args(["bench", "perplexity", "--json", "--threads", "1"])
        .args(["--context", &CONTEXT.to_string()])
        .args([
            "--options",
            &Backend::LlamaCpp.exact().to_string(),
            "--plugins",
        ])
        .args([&plugins, model, &file])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The negative log-likelihood of a token.
fn loss(row: &[f32], token: u32) -> f64 {
    let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
    sum.ln() - f64::from(row[token as usize])
}
