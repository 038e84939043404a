//! Plugins in C that are wrong in one way: each is refused with a sentence that says how.

use std::{fs::File, path::Path, sync::Arc};

use tempfile::NamedTempFile;

use tenon::plugin::{Backend, Model, Session, start_plugin};
use tenon_plugin_api::{
    Batch, Code, EncodeFlags, Error, LoadArgs, SampleRequest, Sampled, SessionArgs, Span, SpanOut,
};
use tenon_tests::{PluginFolder, c_library};

#[test]
fn each_wrong_table_is_refused_with_its_reason() {
    let folder = PluginFolder::empty();
    let cases = [
        (
            "no-table",
            "gave no table but the address 0x0 in `tenon_plugin_c_v1`",
        ),
        (
            "small-table",
            "gave a `tenon_plugin` whose size is 24 bytes, where ABI 1.x has 136 or more",
        ),
        (
            "newer-major",
            "was built against plugin ABI 2.0, this host takes ABI 1.0 to 1.x: update Tenon, or build the plugin with the \
             tenon_plugin.h of ABI 1",
        ),
        (
            "newer-entry",
            "is a plugin for another ABI (it exports `tenon_plugin_c_v2` instead of `tenon_plugin_c_v1`), this host takes ABI 1.0 to \
             1.x: update Tenon, or build the plugin with the tenon_plugin.h of ABI 1",
        ),
        ("not-utf8", "gave a text that is not UTF-8 as `name`"),
        (
            "no-backend",
            "did not start: the plugin gave no `tenon_backend_vtable` but the address 0x0 in `tenon_plugin.init`",
        ),
        (
            "null-load",
            "did not start: the plugin gave a `tenon_backend_vtable` with NULL as `load` in `tenon_plugin.init`",
        ),
        (
            "later-fact",
            "says of itself that \"!later\" is required, and this side does not know it: update Tenon or the plugin",
        ),
    ];
    for (name, _) in &cases {
        folder.install_file(&c_library(name), &format!("{name}.so"));
    }
    folder.install_file(&c_library("sound"), "sound.so");
    let listed = folder.list();
    assert_eq!(listed.ids(), ["org.tenon.fixture.c"]);
    for (name, expected) in &cases {
        listed.check_refused(&folder.path(&format!("{name}.so")), expected);
    }
}

#[test]
fn each_wrong_answer_to_load_is_an_error_that_names_it() {
    check_load(
        "unknown-code",
        "gave the unknown code 99 in `tenon_backend_vtable.load`",
    );
    check_load(
        "small-model",
        "gave a `tenon_model_vtable` whose size is 24 bytes, where ABI 1.x has 56 or more in `tenon_backend_vtable.load`",
    );
    check_load(
        "wrong-flag",
        "gave 7 as `has_bos`, which is 0 or 1 in `tenon_model_vtable.info`",
    );
    check_load(
        "no-info",
        "gave no `tenon_model_info` in `tenon_model_vtable.info`",
    );
    check_load(
        "no-embed",
        "gave a `tenon_embedder_vtable` with NULL as `embed` in `tenon_model_vtable.embedder`",
    );
}

#[test]
fn facts_that_must_be_understood_are_refused_wherever_they_are() {
    let (backend, model) = (backend("later-facts"), model_file());
    let args = load_args(model.path());
    let output = model.path().with_extension("output");
    let quantized = backend.quantize(&args, &output, Box::new(|_, _| true));
    for error in [
        backend.devices().err(),
        backend.supports(model.path()).err(),
        backend.estimate(&args, &session_args()).err(),
        quantized.err(),
    ] {
        let error = error.expect("a refusal");
        assert_eq!(error.code, Code::UNSUPPORTED);
        assert!(error.message.contains("\"!later\" is required"), "{error}");
    }
}

/// The same plugin, which would say something wrong itself if it were called.
#[test]
fn arguments_that_must_be_understood_never_reach_a_plugin() {
    let (backend, model) = (backend("later-facts"), model_file());
    let (load, session) = (load_args(model.path()), session_args());
    let (mut unknown_load, mut unknown_session) = (load.clone(), session.clone());
    unknown_load.meta.set("!lora", "7");
    unknown_session.meta.set("!lora", "7");
    let output = model.path().with_extension("output");
    let loaded = backend.load(&unknown_load, Box::new(|_, _| true));
    let quantized = backend.quantize(&unknown_load, &output, Box::new(|_, _| true));
    let made = backend.load(&load, Box::new(|_, _| true));
    for error in [
        backend.estimate(&unknown_load, &session).err(),
        backend.estimate(&load, &unknown_session).err(),
        loaded.err(),
        quantized.err(),
        made.unwrap().session(&unknown_session).err(),
    ] {
        let error = error.expect("a refusal");
        assert_eq!(error.code, Code::UNSUPPORTED);
        assert!(error.message.contains("\"!lora\" is required"), "{error}");
    }
}

#[test]
fn each_wrong_answer_of_an_object_is_an_error_that_names_it() {
    let tokenizer = load("null-token").unwrap().tokenizer().unwrap();
    let error = tokenizer.vocabulary().unwrap_err();
    check(
        &error,
        "gave the address 0x0 as `bytes` in `tenon_tokenizer_vtable.vocabulary`",
    );

    let tokenizer = load("misaligned-tokens").unwrap().tokenizer().unwrap();
    let error = tokenizer.encode("a", EncodeFlags::NONE).unwrap_err();
    check(&error, "gave no `tenon_tokens` but the address 0x");

    let error = session("later-word").err().unwrap();
    assert_eq!(error.code, Code::UNSUPPORTED);

    let error = next_token(&mut session("null-logits").unwrap()).unwrap_err();
    check(
        &error,
        "gave the address 0x0 in `tenon_session_vtable.logits`",
    );
    let error = next_token(&mut session("erased-answers").unwrap()).unwrap_err();
    check(&error, "exchanged the answers");
}

#[test]
fn the_same_plugin_without_a_mistake_works() {
    check_works("sound");
}

/// What the host does not know of a later table, or of a later struct in a sink, it does not read.
#[test]
fn a_plugin_of_a_later_minor_version_works() {
    check_works("later");
    let folder = PluginFolder::empty();
    folder.install_file(&c_library("later"), "later.so");
    let listed = folder.list();
    assert!(
        listed.0["backends"][0]["abi"]
            .as_str()
            .is_some_and(|abi| abi.starts_with("1.1")),
        "{:#}",
        listed.0
    );
}

#[test]
fn a_model_that_generates_no_text_needs_no_sessions() {
    let model = load("no-session").unwrap();
    assert!(!model.info().generates_text());
    let error = model.session(&session_args()).err().expect("an error");
    assert_eq!(error.code, Code::UNSUPPORTED, "{error}");
    assert!(model.embedder().unwrap().is_some());
}

fn check_works(name: &str) {
    let model = load(name).unwrap();
    let tokenizer = model.tokenizer().unwrap();
    assert_eq!(tokenizer.encode("a", EncodeFlags::NONE).unwrap(), [97]);
    assert_eq!(tokenizer.vocabulary().unwrap().bytes(98), b"b");
    let mut session = session(name).unwrap();
    assert_eq!(next_token(&mut session).unwrap(), 98);
    // The functions that the plugin lacks answer `UNSUPPORTED`.
    for missing in [session.fork(0, 0, 1), session.truncate(0, 0)] {
        assert_eq!(missing.unwrap_err().code, Code::UNSUPPORTED);
    }
    assert_eq!(session.kv_stats().used_tokens, 0);
    assert!(model.embedder().unwrap().is_none());
}

fn check_load(name: &str, expected: &str) {
    let error = load(name).err().expect("an error");
    check(&error, expected);
}

fn check(error: &Error, expected: &str) {
    assert_eq!(error.code, Code::INTERNAL, "{error}");
    assert!(error.message.contains(expected), "{error}");
}

fn backend(name: &str) -> Arc<Backend> {
    let library = File::open(c_library(name)).unwrap();
    start_plugin(library, 1, Path::new("/nowhere"), "{}").unwrap()
}

fn load(name: &str) -> Result<Model, Error> {
    let model = model_file();
    backend(name).load(&load_args(model.path()), Box::new(|_, _| true))
}

/// A model of the fixtures.
fn model_file() -> NamedTempFile {
    NamedTempFile::new().unwrap()
}

fn load_args(path: &Path) -> LoadArgs {
    LoadArgs {
        path: path.into(),
        options: "{}".into(),
        ..LoadArgs::default()
    }
}

fn session(name: &str) -> Result<Session, Error> {
    load(name)?.session(&session_args())
}

fn session_args() -> SessionArgs {
    SessionArgs {
        max_sequences: 1,
        max_batch_tokens: 16,
        ..SessionArgs::default()
    }
}

/// The most likely token after `a`.
fn next_token(session: &mut Session) -> Result<u32, Error> {
    let spans = [Span {
        len: 1,
        rows: 1,
        ..Span::default()
    }];
    let mut out = [SpanOut::default()];
    session.forward(&Batch::new(&[97], &spans), &mut out)?;
    assert_eq!(out[0].status, Code::OK);
    let mut top = [Default::default(); 1];
    let mut sampled = [Sampled::new(&mut top)];
    session.sample(&[SampleRequest::new(0)], &mut sampled)?;
    Ok(sampled[0].token)
}
