//! Tokenizers from the metadata of GGUF files.

use std::collections::HashMap;

use candle_core::quantized::gguf_file::Value;
use tenon_plugin_api::{Error, Result, SamplingDefaults, TokenKind};
use tokenizers::{
    AddedToken,
    normalizers::{Prepend, Replace, Sequence},
};

use super::{
    HfTokenizer, Prompting,
    hf_tokenizer::Parts,
    pipeline::Pipeline,
    pre_tokenizers, sentencepiece,
    spelling::{SPACE, Spelling},
    tokens::{Token, Tokens, unusable},
};

/// Texts of tokens that end a generation wherever they occur, also where the file does not say so.
const ENDS: [&str; 31] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<｜end▁of▁sentence｜>",
    // What follows these is another file or nothing.
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
    "[e~[",
];

/// Reads tokenizer, chat template and recommended sampling from a GGUF file's metadata.
///
/// # Errors
/// `INVALID` for keys that are missing or of another type, and for tokenizers and pre-tokenizers that are not known, by
/// name.
pub fn from_gguf(metadata: &HashMap<String, Value>) -> Result<Prompting> {
    let metadata = Metadata(metadata);
    let model = metadata
        .text("tokenizer.ggml.model")
        .ok_or_else(|| missing("tokenizer.ggml.model"))?;
    let tokens = read_tokens(&metadata)?;
    let read = match model {
        "gpt2" => byte_level,
        "llama" => sentence_piece,
        other => {
            return Err(Error::invalid(format!(
                "the tokenizer {other:?} (tokenizer.ggml.model) is not known: this backend has gpt2 and llama; use llama-cpp for this file"
            )));
        }
    };
    let ends = ends_of_generation(&metadata, &tokens);
    let (parts, Special { bos, eos }) = read(&metadata, tokens)?;
    let others = ends.into_iter().filter(|&id| Some(id) != eos);
    Ok(Prompting {
        bos,
        eos: eos.into_iter().chain(others).collect(),
        tokenizer: HfTokenizer::new(parts)?,
        chat_template: metadata.text("tokenizer.chat_template").map(str::to_owned),
        sampling: sampling(&metadata),
    })
}

/// The tokens that begin and end a sequence.
struct Special {
    bos: Option<u32>,
    eos: Option<u32>,
}

/// The tokens as written, with their kinds. A token that ends a generation is a control token, also where the file takes it
/// for text.
fn read_tokens(metadata: &Metadata) -> Result<Tokens> {
    let texts = metadata.array("tokenizer.ggml.tokens")?;
    let kinds = metadata.array("tokenizer.ggml.token_type").ok();
    let kind_of = |at: usize| {
        let kind = kinds.and_then(|kinds| number(kinds.get(at)?));
        kind.map_or(TokenKind::NORMAL, token_kind)
    };
    let mut tokens = Tokens::default();
    for (id, (at, text)) in (0..).zip(texts.iter().enumerate()) {
        let text = text
            .to_string()
            .map_err(|_| mistyped("tokenizer.ggml.tokens"))?;
        let kind = match ENDS.contains(&text.as_str()) {
            true => TokenKind::CONTROL,
            false => kind_of(at),
        };
        tokens.set(id, text, kind);
    }
    Ok(tokens)
}

/// The numbers are part of the GGUF format.
fn token_kind(number: u32) -> TokenKind {
    match number {
        1 => TokenKind::NORMAL,
        2 => TokenKind::UNKNOWN,
        3 => TokenKind::CONTROL,
        4 => TokenKind::USER_DEFINED,
        6 => TokenKind::BYTE,
        _ => TokenKind::UNUSED,
    }
}

/// GPT-2's scheme: words, byte by byte, with merges by rank.
fn byte_level(metadata: &Metadata, tokens: Tokens) -> Result<(Parts, Special)> {
    let name = metadata
        .text("tokenizer.ggml.pre")
        .ok_or_else(|| missing("tokenizer.ggml.pre"))?;
    let pre_tokenizer = pre_tokenizers::find(name)?;
    let merges = metadata.array("tokenizer.ggml.merges")?;
    let merges = merges.iter().filter_map(|merge| {
        let (left, right) = merge.to_string().ok()?.split_once(' ')?;
        Some((left.to_owned(), right.to_owned()))
    });
    let model = tokens
        .byte_pairs(merges.collect(), None)
        .ignore_merges(pre_tokenizer.ignore_merges);
    let (bos, eos) = (
        metadata.token("bos", &tokens),
        metadata.token("eos", &tokens),
    );
    let parts = Parts {
        spelling: Spelling::ByteLevel,
        added: added(&tokens),
        pipeline: Pipeline {
            normalizer: None,
            pre_tokenizer: Some(pre_tokenizer.build()?),
        },
        model: model.build().map_err(unusable)?,
        before: metadata.special("add_bos_token", pre_tokenizer.add_bos, bos),
        after: metadata.special("add_eos_token", false, eos),
        tokens,
    };
    Ok((parts, Special { bos, eos }))
}

/// SentencePiece's scheme: no words, visible spaces, merges by score, bytes for what is in no piece.
fn sentence_piece(metadata: &Metadata, tokens: Tokens) -> Result<(Parts, Special)> {
    // What the format takes for granted where the file does not say.
    let token = |name, default| {
        let default = Some(default).filter(|&id| (id as usize) < tokens.0.len());
        metadata.token(name, &tokens).or(default)
    };
    let (bos, eos, unknown) = (token("bos", 1), token("eos", 2), token("unknown", 0));
    let scores = metadata.array("tokenizer.ggml.scores")?;
    let scores = scores.iter().map(|score| score.to_f32().unwrap_or(0.0));
    let pieces = tokens
        .0
        .iter()
        .zip(scores)
        .filter(|(token, _)| is_piece(token));
    let merges = sentencepiece::merges(pieces.map(|(token, score)| (token.text.as_str(), score)));
    let unknown = unknown.map(|id| tokens.0[id as usize].text.as_str());
    let model = tokens.byte_pairs(merges, unknown).byte_fallback(true);
    let mut steps = vec![
        Replace::new(" ", SPACE.to_string())
            .map_err(unusable)?
            .into(),
    ];
    if metadata
        .flag("tokenizer.ggml.add_space_prefix")
        .unwrap_or(true)
    {
        steps.insert(0, Prepend::new(SPACE.to_string()).into());
    }
    let parts = Parts {
        spelling: Spelling::Spaces,
        added: added(&tokens),
        pipeline: Pipeline {
            normalizer: Some(Sequence::new(steps).into()),
            pre_tokenizer: None,
        },
        model: model.build().map_err(unusable)?,
        before: metadata.special("add_bos_token", true, bos),
        after: metadata.special("add_eos_token", false, eos),
        tokens,
    };
    Ok((parts, Special { bos, eos }))
}

fn is_piece(token: &Token) -> bool {
    let whole_only = [TokenKind::CONTROL, TokenKind::UNKNOWN, TokenKind::BYTE];
    !whole_only.contains(&token.kind)
}

/// The tokens that are found in text as a whole.
fn added(tokens: &Tokens) -> Vec<AddedToken> {
    let added = tokens.0.iter().filter_map(|token| match token.kind {
        TokenKind::CONTROL | TokenKind::UNKNOWN => Some((token, true)),
        TokenKind::USER_DEFINED => Some((token, false)),
        _ => None,
    });
    let added = added
        .map(|(token, special)| AddedToken::from(token.text.clone(), special).normalized(false));
    added.collect()
}

/// By the file's word, and by their texts.
fn ends_of_generation(metadata: &Metadata, tokens: &Tokens) -> Vec<u32> {
    let named = ["eot", "eom", "fim_pad", "fim_rep", "fim_sep"];
    let named = named.iter().filter_map(|name| metadata.token(name, tokens));
    let texts = (0..).zip(&tokens.0);
    let known = texts.filter(|(_, token)| ENDS.contains(&token.text.as_str()));
    let mut ends: Vec<u32> = named.chain(known.map(|(id, _)| id)).collect();
    ends.sort_unstable();
    ends.dedup();
    ends
}

fn sampling(metadata: &Metadata) -> SamplingDefaults {
    let value = |name: &str| metadata.0.get(&format!("general.sampling.{name}"));
    let float = |name| value(name).and_then(|value| value.to_f32().ok());
    let mut defaults = SamplingDefaults::default();
    if let Some(value) = float("temp") {
        defaults = defaults.with_temperature(value);
    }
    if let Some(value) = float("top_p") {
        defaults = defaults.with_top_p(value);
    }
    if let Some(value) = float("min_p") {
        defaults = defaults.with_min_p(value);
    }
    if let Some(value) = value("top_k").and_then(number) {
        defaults = defaults.with_top_k(value);
    }
    if let Some(value) = float("penalty_repeat") {
        defaults = defaults.with_repetition_penalty(value);
    }
    defaults
}

struct Metadata<'a>(&'a HashMap<String, Value>);

impl<'a> Metadata<'a> {
    fn text(&self, key: &str) -> Option<&'a str> {
        let text = self.0.get(key)?.to_string().ok()?;
        Some(text.as_str())
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.0.get(key)?.to_bool().ok()
    }

    fn array(&self, key: &str) -> Result<&'a [Value]> {
        let value = self.0.get(key).ok_or_else(|| missing(key))?;
        value.to_vec().map(Vec::as_slice).map_err(|_| mistyped(key))
    }

    /// The id of a special token, if the file names one that exists.
    fn token(&self, name: &str, tokens: &Tokens) -> Option<u32> {
        let id = number(self.0.get(&format!("tokenizer.ggml.{name}_token_id"))?)?;
        Some(id).filter(|&id| (id as usize) < tokens.0.len())
    }

    /// What is added where the file's flag, or else the default, says so.
    fn special(&self, flag: &str, default: bool, token: Option<u32>) -> Vec<u32> {
        let wanted = self
            .flag(&format!("tokenizer.ggml.{flag}"))
            .unwrap_or(default);
        token.filter(|_| wanted).into_iter().collect()
    }
}

/// Files write small numbers in any type.
fn number(value: &Value) -> Option<u32> {
    match *value {
        Value::U8(number) => Some(number.into()),
        Value::I8(number) => number.try_into().ok(),
        Value::U16(number) => Some(number.into()),
        Value::I16(number) => number.try_into().ok(),
        Value::U32(number) => Some(number),
        Value::I32(number) => number.try_into().ok(),
        Value::U64(number) => number.try_into().ok(),
        Value::I64(number) => number.try_into().ok(),
        _ => None,
    }
}

fn missing(key: &str) -> Error {
    Error::invalid(format!(
        "the GGUF file has no {key}: use a file that was converted with its tokenizer"
    ))
}

fn mistyped(key: &str) -> Error {
    Error::invalid(format!(
        "{key} in the GGUF file has another type than expected: convert the model again"
    ))
}
