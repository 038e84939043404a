//! Embeddings.

use tenon::plugin::Embedder;
use tenon_plugin_api::{
    Code, Interrupt,
    testing::{TOLERANCE, distance},
};

use crate::{
    finding::{Checked, Finding, ensure},
    subject::Subject,
};

/// The model's embedder and some texts, or the case is skipped.
fn embedder(subject: &Subject) -> Checked<(Embedder, Vec<Vec<u32>>)> {
    let model = subject.load(&*subject.backend()?)?;
    let none = || Finding::skipped("the model makes no embeddings");
    let embedder = model.embedder()?.ok_or_else(none)?;
    let (vocab_size, longest) = (model.info().vocab_size, embedder.info().max_tokens);
    let mut dice = fastrand::Rng::with_seed(subject.seed);
    let texts = [3, 12, 7].map(|len| {
        let len = longest.min(len);
        (0..len).map(|_| dice.u32(..vocab_size)).collect::<Vec<_>>()
    });
    Ok((embedder, texts.to_vec()))
}

/// Checks that two vectors of a text are near each other.
fn near(what: &str, expected: &[f32], found: &[f32]) -> Checked<()> {
    let apart = match (expected, found) {
        // The score of a cross-encoder is one number, which has no spread.
        ([expected], [found]) => (expected - found).abs(),
        _ => distance(expected, found),
    };
    ensure(apart <= TOLERANCE, || {
        format!("{what}, a text has another vector: {apart:.3} of its spread apart")
    })
}

pub fn batch_equals_alone(subject: &Subject) -> Checked {
    let (mut embedder, texts) = embedder(subject)?;
    let go = Interrupt::default();
    let together = embedder.embed(&texts, &go)?;
    let dimensions = embedder.info().dimensions as usize;
    for (text, vector) in texts.iter().zip(together.chunks_exact(dimensions)) {
        let alone = embedder.embed(std::slice::from_ref(text), &go)?;
        near("in a batch", &alone, vector)?;
    }
    Ok(format!(
        "{} texts, vectors of {dimensions} dimensions",
        texts.len()
    ))
}

pub fn works_after_error(subject: &Subject) -> Checked {
    let (mut embedder, texts) = embedder(subject)?;
    let (go, stop) = (Interrupt::default(), Interrupt::default());
    stop.set(true);
    let expected = embedder.embed(&texts, &go)?;
    match embedder.embed(&texts, &stop) {
        Ok(_) => {}
        Err(error) if error.code == Code::CANCELLED => {}
        Err(error) => {
            return Err(Finding::failed(format!(
                "an interrupted call fails with {:?} ({}): answer CANCELLED",
                error.code, error.message
            )));
        }
    }
    let found = embedder.embed(&texts, &go).map_err(|error| {
        Finding::failed(format!(
            "after an interrupted call the next one fails ({error})"
        ))
    })?;
    near("after an interrupted call", &expected, &found)?;
    Ok("the call after it is not affected".to_owned())
}
