//! Tests on small, handwritten vocabularies. The end-to-end tests show that tokens equal llama.cpp's.

use std::{collections::HashMap, fs};

use crate::{EncodeFlags, TokenKind, Tokenizer, gguf::Value};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::{HfTokenizer, Prompting, from_dir, from_gguf};

const PLAIN: EncodeFlags = EncodeFlags::NONE;
const CONTROL: EncodeFlags = EncodeFlags::PARSE_CONTROL;
const CONTINUED: EncodeFlags = EncodeFlags::CONTINUATION;
const SPECIAL: EncodeFlags = EncodeFlags::ADD_SPECIAL;

/// A model whose tokens are checked by their bytes.
struct Model(Prompting);

impl Model {
    fn check(&self, text: &str, flags: EncodeFlags, expected: &[&str]) {
        let tokenizer = &self.0.tokenizer;
        let tokens = tokenizer.encode(text, flags).unwrap();
        let vocabulary = tokenizer.vocabulary().unwrap();
        let pieces = tokens.iter().map(|&token| vocabulary.bytes(token));
        let pieces: Vec<_> = pieces.map(String::from_utf8_lossy).collect();
        assert_eq!(pieces, expected, "{text:?}");
    }

    fn kind(&self, bytes: &[u8]) -> TokenKind {
        let vocabulary = self.0.tokenizer.vocabulary().unwrap();
        let id = (0..vocabulary.len() as u32).find(|&id| vocabulary.bytes(id) == bytes);
        vocabulary.kind(id.expect("such a token"))
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn texts<const N: usize>(values: [&str; N]) -> Value {
    Value::Texts(values.map(str::to_owned).into())
}

fn kinds<const N: usize>(values: [i32; N]) -> Value {
    Value::Numbers(values.map(f64::from).into())
}

/// A vocabulary of words of three letters. No merge makes its token "abc".
fn byte_level(pre: &str) -> HashMap<String, Value> {
    let tokens = [
        "a",
        "b",
        "c",
        "Ġ",
        "ab",
        "abc",
        "Ġa",
        "<x>",
        "<|im_end|>",
        "ca",
        "b>",
        "<",
        "x",
        "x>",
        ">",
    ];
    let types = [1, 1, 1, 1, 1, 1, 1, 4, 1, 1, 1, 1, 1, 1, 1];
    let merges = ["a b", "Ġ a", "x >", "< x>"];
    HashMap::from([
        ("tokenizer.ggml.model".into(), text("gpt2")),
        ("tokenizer.ggml.pre".into(), text(pre)),
        ("tokenizer.ggml.tokens".into(), texts(tokens)),
        ("tokenizer.ggml.token_type".into(), kinds(types)),
        ("tokenizer.ggml.merges".into(), texts(merges)),
        ("tokenizer.ggml.bos_token_id".into(), Value::Integer(8)),
        ("tokenizer.ggml.eos_token_id".into(), Value::Integer(8)),
    ])
}

#[test]
fn a_pre_tokenizer_says_whether_merges_are_ignored_and_bos_is_added() {
    let gpt2 = Model(from_gguf(&byte_level("gpt-2").into()).unwrap());
    gpt2.check("abc", SPECIAL, &["ab", "c"]);
    gpt2.check("ca ab", PLAIN, &["c", "a", " ", "ab"]);
    let llama = Model(from_gguf(&byte_level("llama-bpe").into()).unwrap());
    llama.check("abc", SPECIAL, &["<|im_end|>", "abc"]);
    llama.check("", SPECIAL, &["<|im_end|>"]);
    llama.check("", PLAIN, &[]);
}

#[test]
fn control_tokens_are_made_of_text_only_on_demand() {
    let model = Model(from_gguf(&byte_level("gpt-2").into()).unwrap());
    // The file calls it text, but every known model ends its turns with it.
    assert_eq!(model.kind(b"<|im_end|>"), TokenKind::CONTROL);
    assert_eq!(model.0.eos, [8]);
    model.check("a<|im_end|>b", CONTROL, &["a", "<|im_end|>", "b"]);
    model.check("a<|im_end|>b", PLAIN, &["a", "<", ">", "b"]);
    // A word that was added later is text, and is found whatever the merges say.
    assert_eq!(model.kind(b"<x>"), TokenKind::USER_DEFINED);
    model.check("ab<x>", PLAIN, &["ab", "<x>"]);
}

#[test]
fn what_a_gguf_file_lacks_is_named() {
    for key in ["model", "pre", "tokens", "merges"] {
        let key = format!("tokenizer.ggml.{key}");
        let mut metadata = byte_level("gpt-2");
        metadata.remove(&key);
        let error = from_gguf(&metadata.into()).err().unwrap();
        assert!(error.message.contains(&key), "{error}");
    }
    let error = from_gguf(&byte_level("gpt-9").into()).err().unwrap();
    assert!(
        error.message.contains("\"gpt-9\"") && error.message.contains("tekken"),
        "{error}"
    );
}

fn sentence_piece() -> HashMap<String, Value> {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).into();
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(
        [
            "▁", "h", "i", "hi", "▁hi", "\n\n", "<", "s", ">", "<s", "s>",
        ]
        .map(String::from),
    );
    let (scores, types): (Vec<f32>, Vec<i32>) = (0..tokens.len() as i32)
        .map(|id| match id {
            0 => (0.0, 2),
            1 | 2 => (0.0, 3),
            3..259 => (0.0, 6),
            264 => (0.0, 4),
            id => (-id as f32, 1),
        })
        .unzip();
    HashMap::from([
        ("tokenizer.ggml.model".into(), text("llama")),
        ("tokenizer.ggml.tokens".into(), Value::Texts(tokens)),
        (
            "tokenizer.ggml.scores".into(),
            Value::Numbers(scores.into_iter().map(f64::from).collect()),
        ),
        (
            "tokenizer.ggml.token_type".into(),
            Value::Numbers(types.into_iter().map(f64::from).collect()),
        ),
    ])
}

#[test]
fn sentencepiece_puts_a_space_before_the_first_word() {
    let model = Model(from_gguf(&sentence_piece().into()).unwrap());
    assert_eq!(model.kind(b"\n"), TokenKind::BYTE);
    assert_eq!((model.0.bos, &model.0.eos[..]), (Some(1), &[2][..]));
    model.check("hi", PLAIN, &[" hi"]);
    model.check("hi", SPECIAL, &["<s>", " hi"]);
    model.check("hi", CONTINUED, &["hi"]);
    model.check(" hi", CONTINUED, &[" hi"]);
    model.check("", CONTINUED, &[]);
    model.check("\n\nhi", CONTINUED, &["\n\n", " hi"]);
    model.check("hi</s>hi", CONTINUED | CONTROL, &["hi", "</s>", " hi"]);
    model.check("<s>", PLAIN, &[" ", "<s", ">"]);

    let mut without = sentence_piece();
    without.insert("tokenizer.ggml.add_space_prefix".into(), Value::Bool(false));
    Model(from_gguf(&without.into()).unwrap()).check("hi", PLAIN, &["hi"]);
}

#[test]
fn what_is_in_no_piece_is_bytes() {
    let model = Model(from_gguf(&sentence_piece().into()).unwrap());
    let tokens = model.0.tokenizer.encode("é", CONTINUED).unwrap();
    assert_eq!(tokens, [3 + 0xc3, 3 + 0xa9]);
    // Text that spells a byte token stays text.
    let tokens = model.0.tokenizer.encode("<0x0A>", PLAIN).unwrap();
    assert!(!tokens.contains(&(3 + 10)), "{tokens:?}");
}

/// A directory of files with these contents.
fn folder(files: &[(&str, Json)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let text = match content {
            Json::String(text) => text.clone(),
            json => json.to_string(),
        };
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn tokenizer_json() -> Json {
    let added = |id: u32, content: &str, special: bool| {
        json!({"id": id, "content": content, "special": special, "single_word": false,
               "lstrip": false, "rstrip": false, "normalized": false})
    };
    json!({
        "added_tokens": [added(4, "<|end|>", true), added(7, "<think>", false), added(8, "END", true)],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<|end|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<|end|>": {"id": "<|end|>", "ids": [4], "tokens": ["<|end|>"]}}
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "ignore_merges": true,
            "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3, "E": 5, "N": 6, "END": 8},
            "merges": ["a b"]
        }
    })
}

#[test]
fn a_directory_is_read() {
    let folder = folder(&[
        ("tokenizer.json", tokenizer_json()),
        (
            "tokenizer_config.json",
            json!({"bos_token": null, "eos_token": {"content": "<|end|>"}, "chat_template": [
                {"name": "tool_use", "template": "tools"}, {"name": "default", "template": "chat"}]}),
        ),
        (
            "generation_config.json",
            json!({"eos_token_id": [8, 4], "temperature": 0.5, "top_k": 20}),
        ),
        ("config.json", json!({"bos_token_id": 1, "eos_token_id": 1})),
    ]);
    let prompting = from_dir(folder.path()).unwrap();
    assert_eq!((prompting.bos, &prompting.eos[..]), (None, &[4, 8][..]));
    assert_eq!(prompting.chat_template.as_deref(), Some("chat"));
    assert_eq!(prompting.tool_chat_template.as_deref(), Some("tools"));
    assert_eq!(prompting.sampling.temperature(), Some(0.5));
    assert_eq!(prompting.sampling.top_k(), Some(20));
    assert_eq!(prompting.tokenizer.vocab_size(), 9);

    let model = Model(prompting);
    model.check("ab a", SPECIAL, &["<|end|>", "ab", " ", "a"]);
    model.check("a<think>b", PLAIN, &["a", "<think>", "b"]);
    model.check("END", CONTROL, &["END"]);
    // "END" is a whole word and in the model's vocabulary, and the model ignores merges. Still its text stays text.
    model.check("END", PLAIN, &["E", "N"]);
    assert_eq!(model.kind(b"<think>"), TokenKind::USER_DEFINED);
    assert_eq!(model.kind(b"END"), TokenKind::CONTROL);
}

#[test]
fn a_tokenizer_is_read_alone() {
    let folder = folder(&[("tokenizer.json", tokenizer_json())]);
    let path = folder.path().join("tokenizer.json");
    let tokenizer = HfTokenizer::from_file(&path).unwrap();
    // The post-processor puts `<|end|>` before a text.
    let all = SPECIAL | CONTROL;
    assert_eq!(tokenizer.encode("ab<|end|>", all).unwrap(), [4, 2, 4]);
    assert_eq!(tokenizer.vocabulary().unwrap().bytes(3), b" ");
    assert!(tokenizer.is_canonical());

    let missing = HfTokenizer::from_file(&folder.path().join("other.json"));
    let error = missing.err().unwrap();
    assert!(
        error.message.contains("other.json does not exist"),
        "{error}"
    );
}

#[test]
fn a_template_of_its_own_file_comes_first_and_flags_overrule_the_post_processor() {
    let folder = folder(&[
        ("tokenizer.json", tokenizer_json()),
        (
            "tokenizer_config.json",
            json!({"eos_token": "<|end|>", "add_bos_token": false, "add_eos_token": true, "chat_template": "old"}),
        ),
        ("chat_template.jinja", json!("new")),
        ("additional_chat_templates/tool_use.jinja", json!("tools")),
        ("config.json", json!({"eos_token_id": 8})),
    ]);
    let prompting = from_dir(folder.path()).unwrap();
    assert_eq!(prompting.chat_template.as_deref(), Some("new"));
    assert_eq!(prompting.tool_chat_template.as_deref(), Some("tools"));
    assert_eq!(prompting.eos, [4, 8]);
    Model(prompting).check("ab", SPECIAL, &["ab", "<|end|>"]);
}

#[test]
fn what_is_wrong_with_a_directory_is_named() {
    let told = |files: &[(&str, Json)]| {
        let folder = folder(files);
        from_dir(folder.path()).err().unwrap().message
    };
    assert!(told(&[]).contains("tokenizer.json does not exist"));
    let unigram = told(&[(
        "tokenizer.json",
        json!({"model": {"type": "Unigram", "vocab": []}}),
    )]);
    assert!(unigram.contains("Unigram"), "{unigram}");
    let damaged = told(&[("tokenizer.json", json!("{\"model\": "))]);
    assert!(
        damaged.contains("tokenizer.json") && damaged.contains("line 1"),
        "{damaged}"
    );
    let wrong = told(&[
        ("tokenizer.json", tokenizer_json()),
        ("generation_config.json", json!({"eos_token_id": "four"})),
    ]);
    assert!(wrong.contains("generation_config.json"), "{wrong}");
}

#[test]
fn llama_2_files_have_a_space_before_every_piece() {
    let mut file = tokenizer_json();
    file["normalizer"] = json!({"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]});
    file["pre_tokenizer"] = Json::Null;
    file["decoder"] = json!({"type": "Sequence", "decoders": [{"type": "ByteFallback"}]});
    file["model"]["byte_fallback"] = json!(true);
    file["model"]["vocab"]["▁"] = json!(9);
    file["model"]["vocab"]["▁ab"] = json!(10);
    file["model"]["merges"] = json!([["a", "b"], ["▁", "ab"]]);
    let folder = folder(&[("tokenizer.json", file)]);
    let model = Model(from_dir(folder.path()).unwrap());
    model.check("ab", PLAIN, &[" ab"]);
    model.check(
        "ab<|end|>ab",
        CONTINUED | CONTROL,
        &["ab", "<|end|>", " ab"],
    );
}
