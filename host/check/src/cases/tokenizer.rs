//! Texts and tokens.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use tenon::plugin::{Model, Tokenizer};
use tenon_plugin_api::{Capabilities, EncodeFlags, TokenKind, Vocabulary};

use crate::{
    finding::{Checked, Finding, ensure},
    running::Running,
    subject::Subject,
};

/// Texts in Unicode's composed form, which normalizing tokenizers keep.
const TEXTS: [&str; 6] = [
    "Hello, world!",
    "  two  spaces,\n\tlines and tabs\r\n",
    "fn main() { println!(\"{}\", 1 + 2); }",
    "Zwölf Boxkämpfer jagen Viktor über den großen Sylter Deich.",
    "色は匂へど 散りぬるを",
    "🦀 and 👩‍👩‍👧 are more than one byte",
];
/// Texts of which every suffix is encoded as a continuation.
const CONTINUED: [&str; 2] = ["the quick brown fox jumps", "名前 = \"äöü\"; // ✓"];
/// Most control tokens that are tried.
const MAX_CONTROL: usize = 64;
/// Steps during which texts are encoded by other threads.
const STEPS: usize = 40;
const ENCODERS: usize = 2;

/// The tokenizer of a model, with its vocabulary.
fn tokenizer(model: &Model) -> Checked<(Tokenizer, Vocabulary)> {
    let of =
        |error: tenon_plugin_api::Error| Finding::from(error).of("tokenizer/vocabulary-complete");
    let tokenizer = model.tokenizer().map_err(of)?;
    let vocabulary = tokenizer.vocabulary().map_err(of)?;
    Ok((tokenizer, vocabulary))
}

fn loaded(subject: &Subject) -> Checked<(Model, Tokenizer, Vocabulary)> {
    let model = subject.load(&*subject.backend()?)?;
    let (tokenizer, vocabulary) = tokenizer(&model)?;
    Ok((model, tokenizer, vocabulary))
}

/// The bytes of tokens. None if one of them is the unknown token.
fn bytes(tokens: &[u32], vocabulary: &Vocabulary) -> Option<Vec<u8>> {
    let known = |&token: &u32| vocabulary.kind(token) != TokenKind::UNKNOWN;
    let all = tokens.iter().all(known);
    all.then(|| {
        tokens
            .iter()
            .flat_map(|&token| vocabulary.bytes(token))
            .copied()
            .collect()
    })
}

pub fn vocabulary_complete(subject: &Subject) -> Checked {
    let (model, _, vocabulary) = loaded(subject)?;
    let must_have_bytes = |&token: &u32| {
        let kind = vocabulary.kind(token);
        kind != TokenKind::CONTROL && kind != TokenKind::UNUSED && kind != TokenKind::UNKNOWN
    };
    let tokens = 0..model.info().vocab_size;
    let without: Vec<u32> = tokens
        .filter(must_have_bytes)
        .filter(|&token| vocabulary.bytes(token).is_empty())
        .collect();
    if let Some(first) = without.first() {
        return Err(Finding::warning(format!(
            "{} tokens have no bytes, the first is {first}: give tokens that no text has the kind UNUSED",
            without.len()
        )));
    }
    Ok(format!("all {} tokens are there", vocabulary.len()))
}

pub fn bytes_roundtrip(subject: &Subject) -> Checked {
    let (_model, tokenizer, vocabulary) = loaded(subject)?;
    ensure(tokenizer.encode("", EncodeFlags::NONE)?.is_empty(), || {
        "the empty text has tokens: add some only with ADD_SPECIAL".to_owned()
    })?;
    let mut compared = 0;
    for text in TEXTS {
        let tokens = tokenizer.encode(text, EncodeFlags::CONTINUATION)?;
        let Some(found) = bytes(&tokens, &vocabulary) else {
            continue;
        };
        compared += 1;
        ensure(found == text.as_bytes(), || {
            format!(
                "the tokens of {text:?} have the bytes of {:?}: undo the marks of the vocabulary, and keep every byte of a text",
                String::from_utf8_lossy(&found)
            )
        })?;
    }
    Ok(format!(
        "{compared} texts come back, {} have unknown tokens",
        TEXTS.len() - compared
    ))
}

pub fn control_only_when_asked(subject: &Subject) -> Checked {
    let (model, tokenizer, vocabulary) = loaded(subject)?;
    let is_control = |&token: &u32| vocabulary.kind(token) == TokenKind::CONTROL;
    let control: Vec<u32> = (0..model.info().vocab_size).filter(is_control).collect();
    let (mut tried, mut lost) = (0, Vec::new());
    for &token in control.iter().take(MAX_CONTROL) {
        let Ok(text) = str::from_utf8(vocabulary.bytes(token)) else {
            continue;
        };
        if text.is_empty() {
            continue;
        }
        tried += 1;
        let plain = tokenizer.encode(text, EncodeFlags::NONE)?;
        ensure(!plain.iter().any(is_control), || {
            format!(
                "{text:?} of a user becomes a control token without PARSE_CONTROL: encode it as text"
            )
        })?;
        let asked = tokenizer.encode(text, EncodeFlags::PARSE_CONTROL)?;
        if !asked.contains(&token) {
            lost.push(text);
        }
    }
    match lost.first() {
        None => Ok(format!(
            "{tried} control tokens are only had with PARSE_CONTROL"
        )),
        Some(first) => Err(Finding::warning(format!(
            "{} control tokens are not found with PARSE_CONTROL, the first is {first:?}: chat templates need them",
            lost.len()
        ))),
    }
}

pub fn canonical_if_claimed(subject: &Subject) -> Checked {
    let (model, tokenizer, vocabulary) = loaded(subject)?;
    let capabilities = model.info().capabilities;
    if !capabilities.contains(Capabilities::CANONICAL_TOKENIZER) {
        return Err(Finding::skipped(
            "the model does not claim CANONICAL_TOKENIZER",
        ));
    }
    let mut count = 0;
    for text in CONTINUED {
        for (at, _) in text.char_indices() {
            let end = &text[at..];
            let tokens = tokenizer.encode(end, EncodeFlags::CONTINUATION)?;
            let found = bytes(&tokens, &vocabulary).unwrap_or_default();
            count += 1;
            ensure(found == end.as_bytes(), || {
                format!(
                    "the continuation {end:?} has the bytes of {:?}: add nothing with CONTINUATION, or do not claim \
                     CANONICAL_TOKENIZER",
                    String::from_utf8_lossy(&found)
                )
            })?;
        }
    }
    Ok(format!("{count} continuations are exactly their text"))
}

pub fn concurrent_with_forward(subject: &Subject) -> Checked {
    let mut running = Running::new(subject)?;
    let (tokenizer, _) = tokenizer(&running.model)?;
    let encode = || tokenizer.encode(TEXTS[0], EncodeFlags::NONE);
    let expected = encode()?;
    let done = AtomicBool::new(false);
    let encoding = || {
        let mut count = 0;
        while !done.load(Ordering::Relaxed) {
            let found = encode()?;
            count += 1;
            ensure(found == expected, || {
                "a text has other tokens while the session computes: share no state between them"
                    .to_owned()
            })?;
        }
        Ok::<u64, Finding>(count)
    };
    let count = thread::scope(|scope| {
        let encoders = [(); ENCODERS].map(|()| scope.spawn(encoding));
        let computed = (0..STEPS).try_for_each(|_| {
            let tokens = running.tokens(8);
            running.alone(0, &tokens).map(drop)
        });
        done.store(true, Ordering::Relaxed);
        let counts = encoders.map(|encoder| match encoder.join() {
            Ok(count) => count,
            Err(_) => Err(Finding::failed("encoding panicked")),
        });
        computed?;
        counts.into_iter().sum::<Checked<u64>>()
    })?;
    Ok(format!(
        "{ENCODERS} threads encoded {count} texts during {STEPS} steps"
    ))
}

pub fn outlives_model(subject: &Subject) -> Checked {
    let (model, tokenizer, _) = loaded(subject)?;
    let encode = || tokenizer.encode(TEXTS[0], EncodeFlags::NONE);
    let expected = encode()?;
    drop(model);
    ensure(encode().is_ok_and(|tokens| tokens == expected), || {
        "a tokenizer does not encode as before once its model is dropped: let it own what it needs"
            .to_owned()
    })?;
    Ok("it encodes as before".to_owned())
}
