//! Tests of vocabularies.

use std::{ffi::CString, path::Path, sync::Arc};

use llama_cpp_2::model::{LlamaModel, params::LlamaModelParams};
use llama_cpp_sys_2 as sys;
use tenon_plugin_api::{Capabilities, EncodeFlags, Model, TokenKind, Tokenizer};

use super::{backend, smol, write_gguf};
use crate::{tokenizer::LlamaTokenizer, weights::Weights};

const PLAIN: EncodeFlags = EncodeFlags::NONE;

#[test]
fn tokens_of_a_text_spell_it() {
    let canonical = Capabilities::CANONICAL_TOKENIZER;
    assert!(smol().info().capabilities.contains(canonical));
    let tokenizer = smol().tokenizer().unwrap();
    let vocabulary = tokenizer.vocabulary().unwrap();
    let long = "All work and no play makes Jack a dull boy. 12345\n".repeat(4000);
    let one_word = "a".repeat(100_000);
    let texts = [
        "",
        " ",
        "\0",
        "a\0b",
        "Hello, world!",
        "  two  spaces\n\n\ttab\r\n",
        "Grüße aus Zürich",
        "日本語のテキスト",
        "🦀👩‍👩‍👧‍👦 flags 🇫🇷",
        "مرحبا بالعالم",
        "e\u{301} \u{202e}",
        "<|im_end|>",
        "\u{1}",
        &long,
        &one_word,
    ];
    for text in texts {
        for flags in [PLAIN, EncodeFlags::CONTINUATION, EncodeFlags::PARSE_CONTROL] {
            let tokens = tokenizer.encode(text, flags).unwrap();
            let spelled: Vec<u8> = tokens
                .iter()
                .flat_map(|&token| vocabulary.bytes(token).to_vec())
                .collect();
            assert_eq!(String::from_utf8_lossy(&spelled), text);
        }
    }
    let control = tokenizer
        .encode("<|im_end|>", EncodeFlags::PARSE_CONTROL)
        .unwrap();
    assert_eq!(control.len(), 1);
    let text = tokenizer.encode("<|im_end|>", PLAIN).unwrap();
    assert!(
        text.iter()
            .all(|&token| vocabulary.kind(token) == TokenKind::NORMAL)
    );
}

#[test]
fn a_continuation_gets_no_sentencepiece_space() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vocab.gguf");
    write_sentencepiece(&path);
    let params = LlamaModelParams::default().with_vocab_only(true);
    let model = LlamaModel::load_from_file(backend(), &path, &params).unwrap();
    let tokenizer = LlamaTokenizer::new(Arc::new(Weights(model))).unwrap();

    let vocabulary = tokenizer.vocabulary().unwrap();
    let token = |bytes: &[u8]| (0..).find(|&id| vocabulary.bytes(id) == bytes).unwrap();
    let (bos, eos, word, spaced) = (token(b"<s>"), token(b"</s>"), token(b"hi"), token(b" hi"));
    assert_eq!(vocabulary.kind(token(b"\n")), TokenKind::BYTE);

    let continued = EncodeFlags::CONTINUATION;
    let check = |text: &str, flags, expected: &[u32]| {
        assert_eq!(tokenizer.encode(text, flags).unwrap(), expected, "{text:?}");
    };
    check("hi", PLAIN, &[spaced]);
    check("hi", continued, &[word]);
    check(" hi", continued, &[spaced]);
    check("", continued, &[]);
    check("é", continued, &[token(b"\xc3"), token(b"\xa9")]);
    check("hi", continued | EncodeFlags::ADD_SPECIAL, &[bos, word]);
    check(
        "hi</s>",
        continued | EncodeFlags::PARSE_CONTROL,
        &[word, eos],
    );
}

/// Writes a vocabulary like Llama 2's, with one word.
fn write_sentencepiece(path: &Path) {
    let control = |text: &str| (text.to_owned(), 0.0, sys::LLAMA_TOKEN_TYPE_CONTROL);
    let normal =
        |(text, score): (&str, f32)| (text.to_owned(), score, sys::LLAMA_TOKEN_TYPE_NORMAL);
    let mut tokens = vec![("<unk>".to_owned(), 0.0, sys::LLAMA_TOKEN_TYPE_UNKNOWN)];
    tokens.extend(["<s>", "</s>"].map(control));
    tokens
        .extend((0..256).map(|byte| (format!("<0x{byte:02X}>"), 0.0, sys::LLAMA_TOKEN_TYPE_BYTE)));
    tokens.extend(
        [
            ("▁", -9.0),
            ("h", -9.0),
            ("i", -9.0),
            ("hi", -1.0),
            ("▁hi", -2.0),
        ]
        .map(normal),
    );

    let texts: Vec<_> = tokens
        .iter()
        .map(|(text, ..)| CString::new(text.as_str()).unwrap())
        .collect();
    let mut texts: Vec<_> = texts.iter().map(|text| text.as_ptr()).collect();
    let scores: Vec<f32> = tokens.iter().map(|&(_, score, _)| score).collect();
    let kinds: Vec<i32> = tokens.iter().map(|&(_, _, kind)| kind as i32).collect();
    let (scores, kinds, count) = (scores.as_ptr().cast(), kinds.as_ptr().cast(), tokens.len());
    // SAFETY: keys and values are C strings, and the arrays have `count` values.
    write_gguf(path, |file| unsafe {
        sys::gguf_set_val_str(file, c"general.architecture".as_ptr(), c"llama".as_ptr());
        sys::gguf_set_val_str(file, c"tokenizer.ggml.model".as_ptr(), c"llama".as_ptr());
        sys::gguf_set_arr_str(
            file,
            c"tokenizer.ggml.tokens".as_ptr(),
            texts.as_mut_ptr(),
            count,
        );
        let key = c"tokenizer.ggml.scores".as_ptr();
        sys::gguf_set_arr_data(file, key, sys::GGUF_TYPE_FLOAT32, scores, count);
        let key = c"tokenizer.ggml.token_type".as_ptr();
        sys::gguf_set_arr_data(file, key, sys::GGUF_TYPE_INT32, kinds, count);
    });
}
