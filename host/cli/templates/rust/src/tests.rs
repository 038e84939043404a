//! The backend, driven as the server drives it.

use std::path::PathBuf;

use tempfile::TempDir;
use tenon_plugin_api::{
    Backend, Code, EncodeFlags, LoadArgs, Model, Result, SampleParams, SessionArgs,
    testing::{Driver, Part, TOLERANCE, TestHost, distance, progress},
};

use crate::Plugin;

const TEXT: &str = "one and two and three\n";

/// A model of a text, and the folder with its file.
fn load(text: &str, options: &str) -> (TempDir, Result<Box<dyn Model>>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.imitate");
    std::fs::write(&path, text).unwrap();
    let model = load_with(path, options, &[], |_| true);
    (folder, model)
}

fn load_with(
    path: PathBuf,
    options: &str,
    devices: &[&str],
    goes_on: fn(Option<f32>) -> bool,
) -> Result<Box<dyn Model>> {
    let backend = Plugin::init(TestHost::default().host(), "{}")?;
    let args = LoadArgs {
        path,
        options: options.into(),
        devices: devices.iter().map(ToString::to_string).collect(),
        ..LoadArgs::default()
    };
    backend.load(&args, &progress(move |fraction, _| goes_on(fraction)))
}

fn model() -> Box<dyn Model> {
    load(TEXT, "{}").1.unwrap()
}

/// A driver with three sequences, whose batches hold eight tokens.
fn driver(model: &dyn Model) -> Driver {
    let args = SessionArgs {
        max_sequences: 3,
        max_batch_tokens: 8,
        kv_tokens: 64,
        ..SessionArgs::default()
    };
    Driver::new(model, &args).unwrap()
}

fn encode(model: &dyn Model, text: &str) -> Vec<u32> {
    let tokenizer = model.tokenizer().unwrap();
    tokenizer.encode(text, EncodeFlags::NONE).unwrap()
}

#[test]
fn an_answer_goes_on_as_the_text_does() {
    let model = model();
    let (one, two) = (encode(&*model, "one and t"), encode(&*model, "two an"));
    let greedy = SampleParams::default();
    let answers = driver(&*model)
        .generate(&[&one, &two], &greedy, 0, 5)
        .unwrap();
    assert_eq!(answers[0], encode(&*model, "wo an"));
    assert_eq!(answers[1], encode(&*model, "d thr"));
}

#[test]
fn chunks_forks_and_drafts_change_nothing() {
    let model = model();
    let tokens = encode(&*model, "two and");
    let mut driver = driver(&*model);
    let whole = driver
        .append(&[Part::with_all_rows(0, &tokens)])
        .unwrap()
        .concat();
    // In two pieces, the second of which was wrong at first.
    driver.append(&[Part::new(1, &tokens[..4])]).unwrap();
    driver.append(&[Part::new(1, &[1, 2, 3])]).unwrap();
    driver.truncate(1, 4).unwrap();
    let rest = driver
        .append(&[Part::with_all_rows(1, &tokens[4..])])
        .unwrap()
        .concat();
    // After a fork.
    driver.fork(0, 2, 4).unwrap();
    let forked = driver
        .append(&[Part::with_all_rows(2, &tokens[4..])])
        .unwrap()
        .concat();
    for found in [rest, forked] {
        for (expected, found) in whole[4..].iter().zip(&found) {
            assert!(distance(expected, found) <= TOLERANCE);
        }
    }
}

#[test]
fn a_span_that_does_not_fit_changes_nothing() {
    let model = model();
    let mut driver = driver(&*model);
    for _ in 0..8 {
        driver.append(&[Part::new(0, &[65; 7])]).unwrap();
    }
    driver.append(&[Part::new(1, &[66; 7])]).unwrap();
    let full = driver.append(&[Part::new(1, &[66; 2])]).unwrap_err();
    assert_eq!(full.code, Code::NO_KV_SPACE);
    driver.append(&[Part::new(1, &[66])]).unwrap();
}

#[test]
fn a_load_can_be_cancelled_and_wrong_requests_are_named() {
    let (folder, model) = load(TEXT, "{}");
    model.unwrap();
    let path = || folder.path().join("test.imitate");
    let code = |result: Result<Box<dyn Model>>| result.err().unwrap().code;
    assert_eq!(
        code(load_with(path(), "{}", &[], |_| false)),
        Code::CANCELLED
    );
    let gpu = load_with(path(), "{}", &["cuda:0"], |_| true)
        .err()
        .unwrap();
    assert!(gpu.message.contains("cuda:0"), "{gpu}");
    let option = load_with(path(), r#"{"odrer": 3}"#, &[], |_| true)
        .err()
        .unwrap();
    assert!(option.message.contains("odrer"), "{option}");
    assert_eq!(
        code(load_with(folder.path().join("none"), "{}", &[], |_| true)),
        Code::IO
    );
    for text in ["", "one and tw"] {
        assert_eq!(code(load(text, "{}").1), Code::INVALID);
    }
}
