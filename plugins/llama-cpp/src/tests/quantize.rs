//! Levels of a real model: the files that are written and cached, and the facts about them.

use std::{fs, path::Path, sync::Mutex};

use tenon_plugin_api::{Code, Error, LoadArgs, Model, Result, SessionArgs};

use super::{args, backend, loader, model_path};
use crate::{gguf, level_file, model::GgufModel, quantize};

fn at_level(cache: &Path, level: &str) -> Result<GgufModel> {
    let args = LoadArgs {
        quantize: Some(level.into()),
        ..args(&model_path())
    };
    loader(cache).load(&args, &|_, _| Ok(()))
}

fn files(cache: &Path) -> Vec<String> {
    let entries = fs::read_dir(cache).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn smollm2_can_be_at_another_level() {
    let cache = tempfile::tempdir().unwrap();
    let info = at_level(cache.path(), "q8-0").unwrap().info();
    assert_eq!(
        (
            info.quantization.as_str(),
            info.source_quantization.as_str()
        ),
        ("Q8_0", "Q4_1")
    );
    assert_eq!(info.fallback_tensors, 0);
    let [file] = &files(cache.path())[..] else {
        panic!("{:?}", files(cache.path()));
    };
    assert!(file.ends_with("-Q8_0.gguf"), "{file}");

    let info = at_level(cache.path(), "Q4K").unwrap().info();
    assert_eq!(info.quantization, "Q4_K_M");
    // Many of the model's rows are 576 long, which is no multiple of 256.
    assert!(info.fallback_tensors > 100, "{}", info.fallback_tensors);
    assert!(info.requantize_levels.contains(&"Q8_0".to_owned()));
}

#[test]
fn smollm2_s_own_level_is_its_file() {
    let cache = tempfile::tempdir().unwrap();
    let info = at_level(cache.path(), "Q4_1").unwrap().info();
    assert_eq!(info.quantization, "Q4_1");
    assert!(files(cache.path()).is_empty());
}

#[test]
fn smollm2_files_of_a_level_are_the_same_each_time() {
    let content = |cache: &Path| {
        let [file] = &files(cache)[..] else {
            panic!("{:?}", files(cache));
        };
        fs::read(cache.join(file)).unwrap()
    };
    let caches = [0, 1].map(|_| tempfile::tempdir().unwrap());
    for cache in &caches {
        at_level(cache.path(), "Q4_0").unwrap();
    }
    assert!(content(caches[0].path()) == content(caches[1].path()));
}

#[test]
fn levels_that_are_not_there_are_refused_with_those_that_are() {
    let cache = tempfile::tempdir().unwrap();
    let refused = at_level(cache.path(), "IQ2_S").err().unwrap();
    assert_eq!(refused.code, Code::UNSUPPORTED);
    assert!(refused.message.contains("Q8_0, Q6_K"), "{refused}");
    assert_eq!(
        at_level(cache.path(), "Q9").err().unwrap().code,
        Code::INVALID
    );
    assert!(files(cache.path()).is_empty());
}

#[test]
fn smollm2_quantizing_can_be_cancelled_and_leaves_nothing() {
    let cache = tempfile::tempdir().unwrap();
    let reports = Mutex::new(Vec::new());
    let cancel = |fraction: Option<f32>, message: &str| {
        if message.starts_with("quantizing") {
            reports.lock().unwrap().extend(fraction);
            return Err(Error::new(Code::CANCELLED, "enough"));
        }
        Ok(())
    };
    let args = LoadArgs {
        quantize: Some("Q8_0".into()),
        ..args(&model_path())
    };
    let error = loader(cache.path()).load(&args, &cancel).err().unwrap();
    assert_eq!(error.code, Code::CANCELLED);
    assert!(
        reports
            .lock()
            .unwrap()
            .iter()
            .all(|&fraction| fraction < 0.5)
    );
    assert!(files(cache.path()).is_empty());
}

#[test]
fn a_dry_run_says_what_will_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("q6.gguf");
    backend();
    let expected = quantize::dry_run(&model_path(), "Q6_K").unwrap();
    quantize::write(&model_path(), &output, "Q6_K", 1, &|_, _| Ok(())).unwrap();
    let written = gguf::read_model(&output).unwrap();
    assert_eq!(written.level, "Q6_K");
    assert!(
        written.tensor_bytes.abs_diff(expected.weight_bytes) < 10_000,
        "{expected:?}"
    );
    let header = level_file::header_bytes(&output).unwrap();
    assert!(header.abs_diff(level_file::header_bytes(&model_path()).unwrap()) < 100_000);
}

#[test]
fn an_estimate_knows_weights_and_kv_cache() {
    let estimate = |level: Option<&str>| {
        let load = LoadArgs {
            quantize: level.map(str::to_owned),
            ..args(&model_path())
        };
        let session = SessionArgs {
            max_batch_tokens: 512,
            ..SessionArgs::default()
        };
        crate::estimate::estimate(&load, &session)
            .unwrap()
            .remove(0)
    };
    backend();
    let own = estimate(None);
    assert_eq!(own.device, "cpu");
    // 30 layers, 3 KV heads, 64 numbers of two bytes each for a key and for a value.
    assert_eq!(own.kv_bytes_per_token, 30 * 3 * (64 + 64) * 2);
    assert!(
        (90_000_000..98_400_000).contains(&own.weight_bytes),
        "{own:?}"
    );
    assert!(own.compute_bytes > 512 * 49152 * 4, "{own:?}");
    let q8 = estimate(Some("Q8_0"));
    assert!(
        (135_000_000..150_000_000).contains(&q8.weight_bytes),
        "{q8:?}"
    );
}
