//! All backends make the same vectors of texts.

use serde_json::json;
use tenon_plugin_api::{EncodeFlags, Interrupt, Pooling};
use tenon_tests::{
    Backend, LoadedModel, ModelFiles,
    models::{Family, LANGUAGES, TestModel},
};

/// Largest allowed difference of numbers in vectors of length 1 that are computed in f32 throughout.
const TOLERANCE: f32 = 1e-4;

#[test]
fn vectors_are_the_same_in_all_backends() {
    for family in Family::ALL {
        check_same("mean", &TestModel::tiny(family));
    }
}

#[test]
fn files_say_how_vectors_are_made() {
    for (name, pooling) in [
        ("mean", Pooling::Mean),
        ("cls", Pooling::Cls),
        ("last", Pooling::Last),
    ] {
        let model = TestModel {
            pooling: Some(pooling),
            ..TestModel::tiny(Family::Qwen3)
        };
        check_same(name, &model);
    }
}

/// Compares vectors from quantized weights. The directory has the same weights, but candle does not round its input to
/// bytes.
#[test]
fn smollm2_has_about_the_same_vectors_in_all_backends() {
    let of = |backend: Backend| vectors(&backend.load(&backend.smollm2(), &json!({})));
    let llama = of(Backend::LlamaCpp);
    for (backend, alike) in [(Backend::CandleQuantized, 0.999), (Backend::Candle, 0.998)] {
        for (a, b) in llama.iter().zip(of(backend)) {
            let cosine = cosine(a, &b);
            assert!(cosine >= alike, "{backend:?}: {cosine}");
        }
    }
}

fn check_same(pooling: &str, model: &TestModel) {
    let files = ModelFiles::write(model);
    let [llama, others @ ..] = Backend::ALL.map(|backend| {
        let loaded = files.load(backend);
        let embedder = loaded.model.embedder().unwrap().unwrap();
        assert_eq!(embedder.info().pooling, pooling, "{backend:?}");
        (backend, vectors(&loaded))
    });
    for (backend, vectors) in others {
        for (vector, expected) in vectors.iter().flatten().zip(llama.1.iter().flatten()) {
            let apart = (vector - expected).abs();
            let family = model.family;
            assert!(
                apart <= TOLERANCE,
                "{backend:?}, {family:?}, {pooling}: {apart}"
            );
        }
    }
}

/// The vectors of several texts, which are all different. There are short and long ones, together more than a batch.
fn vectors(loaded: &LoadedModel) -> Vec<Vec<f32>> {
    let tokenizer = loaded.model.tokenizer().unwrap();
    let texts = LANGUAGES.iter().enumerate().map(|(number, text)| {
        let mut tokens = tokenizer.encode(text, EncodeFlags::ADD_SPECIAL).unwrap();
        tokens.truncate(4 + 20 * number);
        tokens
    });
    let texts: Vec<_> = texts.collect();
    assert!(texts.iter().map(Vec::len).sum::<usize>() > 300);
    let mut embedder = loaded.model.embedder().unwrap().unwrap();
    let vectors = embedder.embed(&texts, &Interrupt::default()).unwrap();
    let dimensions = embedder.info().dimensions as usize;
    let vectors: Vec<_> = vectors.chunks(dimensions).map(<[f32]>::to_vec).collect();
    let mut others = vectors[1..].iter();
    assert!(others.all(|vector| cosine(vector, &vectors[0]) < 0.999));
    vectors
}

/// The cosine of two vectors of length 1.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
