//! Calls into plugins, through the real libraries.

use std::{fs, path::Path, sync::Arc};

use tempfile::TempDir;
use tenon::plugin::{Backend, Model, Registry, RegistryOptions, Session};
use tenon_plugin_api::{
    Batch, Code, EncodeFlags, Error, LoadArgs, SampleRequest, Sampled, SessionArgs, Span, SpanOut,
};
use tenon_tests::artifacts;

#[test]
fn echo_answers_through_the_whole_surface() {
    let (_folder, backend) = backend("tenon_plugin_echo");
    let folder = tempfile::tempdir().unwrap();
    let model = load(&backend, &folder, "a.echo").unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let vocabulary = tokenizer.vocabulary().unwrap();
    assert_eq!(vocabulary.len(), model.info().vocab_size as usize);

    let text = "<|user|>Hey<|assistant|>";
    let tokens = tokenizer.encode(text, EncodeFlags::PARSE_CONTROL).unwrap();
    let mut session = session(&model).unwrap();
    let mut answer = Vec::new();
    let mut batch = tokens;
    for position in [0, 5, 6] {
        let token = next_token(&mut session, &batch, position).unwrap();
        answer.extend_from_slice(vocabulary.bytes(token));
        batch = vec![token];
    }
    assert_eq!(answer, b"Hey");

    session.fork(0, 1, 4).unwrap();
    session.truncate(0, 5).unwrap();
    assert_eq!(session.kv_stats().used_tokens, 5);
    session.free(0);
    assert_eq!(session.kv_stats().used_tokens, 4);
    let mut row = vec![0.0; model.info().logits_width as usize];
    assert!(session.read_logits(0, &mut row).is_ok());
    assert_eq!(
        session.read_logits(9, &mut row).unwrap_err().code,
        Code::INVALID
    );
}

#[test]
fn an_error_keeps_its_code_and_sentence() {
    let (_folder, backend) = backend("tenon_plugin_echo");
    let args = LoadArgs {
        path: "/nowhere/a.echo".into(),
        ..LoadArgs::default()
    };
    let error = backend.load(&args, Box::new(|_, _| true)).err().unwrap();
    assert_eq!(error.code, Code::IO);
    assert!(error.message.contains("/nowhere/a.echo"), "{error}");
}

#[test]
fn a_panic_is_an_error_of_its_object_and_of_no_other() {
    let (_folder, backend) = backend("tenon_fixture_panics");
    let folder = tempfile::tempdir().unwrap();
    let told = |name: &str| load(&backend, &folder, &format!("{name}.panics"));

    check_panic(told("info").err(), "info");
    check_panic(session(&told("session").unwrap()).err(), "session");
    let tokenizer = told("encode").unwrap().tokenizer().unwrap();
    check_panic(tokenizer.encode("a", EncodeFlags::NONE).err(), "encode");

    let model = told("forward").unwrap();
    let mut failing = session(&model).unwrap();
    check_panic(next_token(&mut failing, &[1], 0).err(), "forward");
    let again = next_token(&mut failing, &[1], 0).unwrap_err();
    assert_eq!(again.code, Code::PANICKED);
    assert!(session(&model).is_ok());

    let mut failing = session(&told("free").unwrap()).unwrap();
    failing.free(0);
    assert_eq!(failing.truncate(0, 0).unwrap_err().code, Code::PANICKED);
    drop(session(&told("drop").unwrap()).unwrap());
}

#[test]
fn a_panic_while_loading_is_an_error() {
    let (_folder, backend) = backend("tenon_fixture_panics");
    let folder = tempfile::tempdir().unwrap();
    check_panic(load(&backend, &folder, "load.panics").err(), "load");
}

fn check_panic(error: Option<Error>, call: &str) {
    let error = error.expect("the call panics");
    assert_eq!(error.code, Code::PANICKED);
    let expected = format!("told to panic in {call}");
    assert!(error.message.contains(&expected), "{error}");
}

/// The only backend in a folder that has only this library.
fn backend(library: &str) -> (TempDir, Arc<Backend>) {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(
        artifacts().library(library),
        folder.path().join("plugin.so"),
    )
    .unwrap();
    let options = RegistryOptions {
        executable: artifacts().tenon.clone(),
        ..RegistryOptions::new(vec![folder.path().into()]).unwrap()
    };
    let registry = Registry::load(&options);
    let id = registry.plugins()[0].facts.id.as_str();
    let backend = registry.choose(Path::new("a"), Some(id)).unwrap();
    (folder, backend)
}

fn load(backend: &Backend, folder: &TempDir, file: &str) -> Result<Model, Error> {
    let path = folder.path().join(file);
    fs::write(&path, "").unwrap();
    let args = LoadArgs {
        path,
        options: "{}".into(),
        ..LoadArgs::default()
    };
    backend.load(&args, Box::new(|_, _| true))
}

fn session(model: &Model) -> Result<Session, Error> {
    model.session(&SessionArgs {
        max_sequences: 2,
        kv_tokens: 64,
        max_batch_tokens: 16,
        ..SessionArgs::default()
    })
}

/// Appends tokens to sequence 0 and picks the most likely next token.
fn next_token(session: &mut Session, tokens: &[u32], position: u32) -> Result<u32, Error> {
    let spans = [Span {
        start: position,
        len: tokens.len() as u32,
        rows: 1,
        ..Span::default()
    }];
    let mut out = [SpanOut::default()];
    session.forward(&Batch::new(tokens, &spans), &mut out)?;
    assert_eq!(out[0].status, Code::OK);
    let mut sampled = [Sampled::new(&mut [])];
    session.sample(&[SampleRequest::new(out[0].first_row)], &mut sampled)?;
    assert_eq!(sampled[0].status, Code::OK);
    Ok(sampled[0].token)
}
