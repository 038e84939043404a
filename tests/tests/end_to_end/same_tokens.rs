//! The candle backends' tokens equal llama.cpp's for every scheme that files have. So do the tokens that begin and end a
//! text.

use std::{collections::BTreeSet, path::Path};

use serde_json::json;
use tenon::plugin::Tokenizer;
use tenon_plugin_api::{EncodeFlags, TokenKind, Vocabulary};
use tenon_tests::{
    Backend,
    models::{CODE, Family, LANGUAGES, TEXTS, TestModel, TestVocabulary, smollm2_f32_dir},
    smollm2,
};

/// One name of each pre-tokenizer.
const PRE_TOKENIZERS: [&str; 11] = [
    "llama-bpe",
    "dbrx",
    "qwen2",
    "qwen35",
    "smollm",
    "gpt-2",
    "deepseek-v3",
    "seed-coder",
    "poro-chat",
    "viking",
    "megrez",
];

/// Pre-tokenizers whose regular expressions distinguish upper case from lower case. llama.cpp distinguishes them only in
/// ASCII.
const WITH_CASE: [&str; 2] = ["tekken", "gpt-4o"];

#[test]
fn byte_level_tokens_are_llama_cpps() {
    for pre in PRE_TOKENIZERS {
        let model = TestModel {
            pre,
            ..TestModel::tiny(Family::Llama)
        };
        Both::of(&model).check(pre, &texts());
    }
}

#[test]
fn tokens_of_directories_are_llama_cpps() {
    for family in [Family::Llama, Family::Gemma2] {
        let folder = tempfile::tempdir().unwrap();
        let (file, directory) = (
            folder.path().join("model.gguf"),
            folder.path().join("model"),
        );
        let model = TestModel::tiny(family);
        model.write_gguf(&file);
        model.write_dir(&directory);
        let both = Both::load(&file, Backend::Candle, &directory);
        both.check(&format!("{family:?}"), &texts());
    }
}

#[test]
fn byte_level_tokens_with_case_are_llama_cpps_where_it_knows_the_case() {
    let known = |char: &char| char.is_ascii() || ('\u{3000}'..'\u{d7ff}').contains(char);
    let texts: Vec<String> = texts()
        .iter()
        .map(|text| text.chars().filter(known).collect())
        .collect();
    for pre in WITH_CASE {
        let model = TestModel {
            pre,
            ..TestModel::tiny(Family::Llama)
        };
        Both::of(&model).check(pre, &texts);
    }
}

#[test]
fn sentencepiece_tokens_are_llama_cpps() {
    for space_prefix in [true, false] {
        let model = TestModel {
            vocabulary: TestVocabulary::sentence_piece(700, space_prefix),
            ..TestModel::tiny(Family::Llama)
        };
        let what = format!("SentencePiece, space before the beginning: {space_prefix}");
        Both::of(&model).check(&what, &texts());
    }
}

#[test]
fn smollm2_tokens_are_llama_cpps() {
    let file = smollm2();
    Both::load(&file, Backend::CandleQuantized, &file).check("SmolLM2", &texts());
}

#[test]
fn smollm2_tokens_of_a_directory_are_llama_cpps() {
    Both::load(&smollm2(), Backend::Candle, &smollm2_f32_dir()).check("SmolLM2", &texts());
}

/// The texts in pairs, and some long texts.
fn texts() -> Vec<String> {
    let texts = [TEXTS, LANGUAGES, CODE].concat();
    let pairs = texts.iter().zip(texts.iter().cycle().skip(7));
    let pairs = pairs.map(|(first, second)| format!("{first}{second}"));
    let mut all: Vec<String> = pairs.collect();
    all.push(texts.join("\n"));
    all.push(texts.join(" ").repeat(10));
    all.push(" ".repeat(5000));
    all.push("\n ".repeat(2000));
    all.push("x".repeat(5000));
    all.extend(texts.iter().map(|text| (*text).to_owned()));
    all
}

/// The tokenizers of both backends for one model.
struct Both {
    llama: Tokenizer,
    candle: Tokenizer,
    vocabulary: Vocabulary,
}

impl Both {
    fn of(model: &TestModel) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        model.write_gguf(&path);
        Self::load(&path, Backend::CandleQuantized, &path)
    }

    fn load(file: &Path, backend: Backend, path: &Path) -> Self {
        let llama = Backend::LlamaCpp.load(file, &json!({})).model;
        let candle = backend.load(path, &json!({})).model;
        let (expected, info) = (llama.info(), candle.info());
        assert_eq!(
            (info.bos, info.eos.first()),
            (expected.bos, expected.eos.first())
        );
        assert_eq!(info.chat_template, expected.chat_template);
        // Without this capability the host would not insert tokens that a grammar forces.
        assert_eq!(info.capabilities, expected.capabilities);
        // Directories name only the end tokens that they must.
        assert!(file != path || info.eos == expected.eos, "{info:?}");
        let llama = llama.tokenizer().unwrap();
        Self {
            vocabulary: llama.vocabulary().unwrap(),
            llama,
            candle: candle.tokenizer().unwrap(),
        }
    }

    fn check(&self, what: &str, texts: &[String]) {
        self.check_vocabulary(what);
        let control = EncodeFlags::PARSE_CONTROL;
        let flags = [
            EncodeFlags::NONE,
            control,
            control | EncodeFlags::ADD_SPECIAL,
            EncodeFlags::CONTINUATION,
            control | EncodeFlags::CONTINUATION,
        ];
        let mut wrong = Vec::new();
        for text in texts {
            for flags in flags {
                let expected = self.llama.encode(text, flags).unwrap();
                let tokens = self.candle.encode(text, flags).unwrap();
                self.check_control(text, flags, &tokens);
                if tokens != expected {
                    wrong.push(self.difference(text, &expected, &tokens));
                }
            }
        }
        let some: Vec<_> = wrong.iter().take(5).collect();
        assert!(
            wrong.is_empty(),
            "{what}: {} texts differ: {some:#?}",
            wrong.len()
        );
    }

    fn check_vocabulary(&self, what: &str) {
        let candle = self.candle.vocabulary().unwrap();
        let differs = |&id: &u32| {
            let kind = (candle.kind(id), self.vocabulary.kind(id));
            candle.bytes(id) != self.vocabulary.bytes(id) || kind.0 != kind.1
        };
        let ids = 0..self.vocabulary.len() as u32;
        let different: Vec<_> = ids.filter(differs).collect();
        assert!(different.is_empty(), "{what}: tokens {different:?} differ");
        assert_eq!(candle.len(), self.vocabulary.len());
    }

    /// Checks that no text becomes a control token unless the caller asks for it.
    fn check_control(&self, text: &str, flags: EncodeFlags, tokens: &[u32]) {
        let kinds: BTreeSet<u8> = tokens
            .iter()
            .map(|&id| self.vocabulary.kind(id).0)
            .collect();
        let asked = flags.contains(EncodeFlags::PARSE_CONTROL);
        assert!(asked || !kinds.contains(&TokenKind::CONTROL.0), "{text:?}");
    }

    /// Describes the first difference of two token sequences.
    fn difference(&self, text: &str, expected: &[u32], tokens: &[u32]) -> String {
        let same = expected
            .iter()
            .zip(tokens)
            .take_while(|(a, b)| a == b)
            .count();
        let show = |tokens: &[u32]| {
            let pieces = tokens.iter().skip(same).take(6);
            let pieces =
                pieces.map(|&id| String::from_utf8_lossy(self.vocabulary.bytes(id)).into_owned());
            pieces.collect::<Vec<_>>()
        };
        let start: String = text.chars().take(80).collect();
        format!(
            "{start:?}: llama.cpp {:?}, candle {:?}",
            show(expected),
            show(tokens)
        )
    }
}
