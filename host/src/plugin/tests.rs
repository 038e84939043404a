//! The SDK's data types are equal after they have crossed to another process.

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};
use tenon_plugin_api::{
    Capabilities, Code, EmbedderInfo, EncodeFlags, Error, LoadArgs, ModelInfo, SampleParams,
    SamplingDefaults, SessionArgs, SessionInfo, TokenBias, TokenKind, TokenLogprob, Vocabulary,
};

pub use super::session::tests::exchanging_session;

/// The value as another process reads it.
pub fn crossed<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let frame = postcard::to_stdvec(value).unwrap();
    let (value, rest) = postcard::take_from_bytes(&frame).unwrap();
    assert!(rest.is_empty());
    value
}

/// Checks that another process reads an equal value.
pub fn check<T: Serialize + DeserializeOwned + Debug + PartialEq>(value: &T) {
    assert_eq!(crossed(value), *value);
}

#[test]
fn facts_cross() {
    check(&ModelInfo::default());
    let mut info = ModelInfo::new("llama", 8192, 49_152);
    info.parameters = 134_515_008;
    info.weight_bytes = 1 << 40;
    info.logits_width = 49_184;
    info.bos = Some(1);
    info.eos = vec![2, 0];
    info.chat_template = Some("{{ messages[0]['content'] }}".into());
    info.tool_chat_template = Some(String::new());
    info.quantization = "Q4_1".into();
    info.source_quantization = "Q8_0".into();
    info.fallback_tensors = 3;
    info.requantize_levels = vec!["Q8_0".into(), "Q4_K_M".into()];
    info.capabilities = Capabilities::CANONICAL_TOKENIZER;
    info.sampling = SamplingDefaults::default()
        .with_temperature(0.7)
        .with_top_k(40);
    info.meta.set("org.example.fact", "a value");
    check(&info);
    let mut granted = SessionInfo::default();
    granted.max_sequences = 64;
    granted.kv_tokens = u32::MAX;
    granted.max_rollback = 1;
    granted.costly_idle_tokens = 2;
    check(&granted);
    let mut embedder = EmbedderInfo::default();
    embedder.dimensions = 384;
    embedder.max_tokens = 512;
    embedder.pooling = "mean".into();
    check(&embedder);
}

#[test]
fn arguments_cross() {
    check(&LoadArgs {
        path: "/models/größe 1.gguf".into(),
        devices: vec!["cpu".into()],
        quantize: Some("Q8_0".into()),
        threads: 4,
        options: r#"{"b": 1, "a": 2}"#.into(),
        ..LoadArgs::default()
    });
    check(&EncodeFlags::CONTINUATION);
    check(&SampleParams {
        temperature: 0.1,
        top_k: 5,
        ..SampleParams::default()
    });
    let bias = f32::NEG_INFINITY;
    check(&TokenBias { token: 7, bias });
    check(&TokenLogprob {
        token: u32::MAX,
        logprob: -0.1,
    });
}

#[test]
fn session_arguments_cross_without_their_interrupt() {
    let args = SessionArgs {
        max_sequences: 1,
        kv_tokens: 2,
        context_length: 3,
        max_batch_tokens: 4,
        threads: 5,
        ..SessionArgs::default()
    };
    args.interrupt.set(true);
    let there = crossed(&args);
    let SessionArgs {
        max_sequences,
        kv_tokens,
        context_length,
        max_batch_tokens,
        threads,
        interrupt,
        ..
    } = there;
    let sizes = [max_sequences, kv_tokens, context_length, max_batch_tokens];
    assert_eq!((sizes, threads), ([1, 2, 3, 4], 5));
    assert!(!interrupt.is_set());
}

#[test]
fn errors_cross() {
    check(&Error::new(Code::NO_KV_SPACE, "no room: free\nsequences"));
    check(&Code(1000));
}

#[test]
fn a_vocabulary_crosses_in_little_more_than_its_bytes() {
    check(&Vocabulary::default());
    let mut vocabulary = Vocabulary::default();
    vocabulary.push(b"", TokenKind::UNUSED);
    vocabulary.push(b"\xff\x00", TokenKind::BYTE);
    vocabulary.push(&[b'-'; 1000], TokenKind::CONTROL);
    vocabulary.push(b"x", TokenKind(200));
    for token in 0..150_000 {
        vocabulary.push(format!("token {token}").as_bytes(), TokenKind::NORMAL);
    }
    check(&vocabulary);
    let tokens = 0..vocabulary.len() as u32;
    let bytes: usize = tokens.map(|token| vocabulary.bytes(token).len()).sum();
    let frame = postcard::to_stdvec(&vocabulary).unwrap();
    assert!(frame.len() < bytes + 2 * vocabulary.len() + 16);
}

#[test]
fn columns_that_do_not_fit_are_no_vocabulary() {
    let read = |bytes: &[u8], lengths: &[u32], kinds: &[u8]| {
        let frame = postcard::to_stdvec(&(bytes, lengths, kinds)).unwrap();
        postcard::from_bytes::<Vocabulary>(&frame)
    };
    assert_eq!(read(b"ab", &[1, 1], &[0, 1]).unwrap().bytes(1), b"b");
    assert!(read(b"ab", &[1, 2], &[0, 1]).is_err());
    assert!(read(b"ab", &[1], &[0]).is_err());
    assert!(read(b"ab", &[1, 1], &[0]).is_err());
    assert!(read(b"ab", &[u32::MAX, 3], &[0, 0]).is_err());
}
