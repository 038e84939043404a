//! Reads tokenizers from the metadata of GGUF files.

use crate::{
    Error, Result, SamplingDefaults, TokenKind,
    gguf::{Metadata, Value},
};
use tokenizers::{
    AddedToken,
    normalizers::{Prepend, Replace, Sequence},
};

use super::{
    HfTokenizer, Prompting,
    pipeline::Pipeline,
    pre_tokenizers, sentencepiece,
    spelling::{SPACE, Spelling},
    tokenizer::TokenizerParts,
    tokens::{Token, Tokens, unusable},
};

/// Texts of tokens that always end a generation, even if the file does not say so.
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
    // Infill models write these tokens at the end of a file: another file follows, or nothing.
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

/// Reads the tokenizer, the chat template and the recommended sampling from a GGUF file's metadata.
///
/// # Errors
/// `INVALID` for keys that are missing or of another type, and for unknown tokenizers and pre-tokenizers; the message names
/// them.
pub fn from_gguf(metadata: &Metadata) -> Result<Prompting> {
    let metadata = TokenizerKeys(metadata);
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
        tool_chat_template: metadata
            .text("tokenizer.chat_template.tool_use")
            .map(str::to_owned),
        sampling: sampling(&metadata),
    })
}

/// The tokens that begin and end a sequence.
struct Special {
    bos: Option<u32>,
    eos: Option<u32>,
}

/// Reads the tokens with their kinds, as the file writes them. A token that ends a generation is a control token, even if
/// the file calls it text.
fn read_tokens(metadata: &TokenizerKeys) -> Result<Tokens> {
    let texts = metadata.texts("tokenizer.ggml.tokens")?;
    let kinds = metadata.numbers("tokenizer.ggml.token_type").ok();
    let kind_of = |at: usize| {
        let kind = kinds.and_then(|kinds| kinds.get(at));
        kind.map_or(TokenKind::NORMAL, |&kind| token_kind(kind as u32))
    };
    let mut tokens = Tokens::default();
    for (id, (at, text)) in (0..).zip(texts.iter().enumerate()) {
        let kind = match ENDS.contains(&text.as_str()) {
            true => TokenKind::CONTROL,
            false => kind_of(at),
        };
        tokens.set(id, text, kind)?;
    }
    Ok(tokens)
}

/// The kind with this number in the GGUF format.
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

/// GPT-2's scheme: text is cut into words, and words into bytes, which merge by rank.
fn byte_level(metadata: &TokenizerKeys, tokens: Tokens) -> Result<(TokenizerParts, Special)> {
    let name = metadata
        .text("tokenizer.ggml.pre")
        .ok_or_else(|| missing("tokenizer.ggml.pre"))?;
    let pre_tokenizer = pre_tokenizers::find(name)?;
    let merges = metadata.texts("tokenizer.ggml.merges")?;
    let merges = merges.iter().filter_map(|merge| {
        let (left, right) = merge.split_once(' ')?;
        Some((left.to_owned(), right.to_owned()))
    });
    let model = tokens
        .byte_pairs(merges.collect(), None)
        .ignore_merges(pre_tokenizer.ignore_merges);
    let (bos, eos) = (
        metadata.token("bos", &tokens),
        metadata.token("eos", &tokens),
    );
    let parts = TokenizerParts {
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

/// SentencePiece's scheme: text is not cut into words, spaces are visible, pieces merge by score, and characters outside of
/// all pieces become bytes.
fn sentence_piece(metadata: &TokenizerKeys, tokens: Tokens) -> Result<(TokenizerParts, Special)> {
    // The defaults of the format for what the file does not say.
    let token = |name, default| {
        let default = Some(default).filter(|&id| (id as usize) < tokens.0.len());
        metadata.token(name, &tokens).or(default)
    };
    let (bos, eos, unknown) = (token("bos", 1), token("eos", 2), token("unknown", 0));
    let scores = metadata.numbers("tokenizer.ggml.scores")?;
    let scores = scores.iter().map(|&score| score as f32);
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
    let parts = TokenizerParts {
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

/// Tokens that end a generation: those that the file names, and those with a known text.
fn ends_of_generation(metadata: &TokenizerKeys, tokens: &Tokens) -> Vec<u32> {
    let named = ["eot", "eom", "fim_pad", "fim_rep", "fim_sep"];
    let named = named.iter().filter_map(|name| metadata.token(name, tokens));
    let texts = (0..).zip(&tokens.0);
    let known = texts.filter(|(_, token)| ENDS.contains(&token.text.as_str()));
    let mut ends: Vec<u32> = named.chain(known.map(|(id, _)| id)).collect();
    ends.sort_unstable();
    ends.dedup();
    ends
}

fn sampling(metadata: &TokenizerKeys) -> SamplingDefaults {
    let value = |name: &str| metadata.0.get(&format!("general.sampling.{name}"));
    let float = |name| value(name)?.number().map(|number| number as f32);
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
    if let Some(value) = value("top_k").and_then(whole) {
        defaults = defaults.with_top_k(value);
    }
    if let Some(value) = float("penalty_repeat") {
        defaults = defaults.with_repetition_penalty(value);
    }
    defaults
}

struct TokenizerKeys<'a>(&'a Metadata);

impl<'a> TokenizerKeys<'a> {
    fn text(&self, key: &str) -> Option<&'a str> {
        self.0.text(key)
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.0.get(key)?.flag()
    }

    fn texts(&self, key: &str) -> Result<&'a [String]> {
        let value = self.0.get(key).ok_or_else(|| missing(key))?;
        value.texts().ok_or_else(|| mistyped(key))
    }

    fn numbers(&self, key: &str) -> Result<&'a [f64]> {
        let value = self.0.get(key).ok_or_else(|| missing(key))?;
        value.numbers().ok_or_else(|| mistyped(key))
    }

    /// The id of a special token, if the file names one that exists.
    fn token(&self, name: &str, tokens: &Tokens) -> Option<u32> {
        let id = whole(self.0.get(&format!("tokenizer.ggml.{name}_token_id"))?)?;
        Some(id).filter(|&id| (id as usize) < tokens.0.len())
    }

    /// The token, if the file's flag says that it is added. `default` stands for a missing flag.
    fn special(&self, flag: &str, default: bool, token: Option<u32>) -> Vec<u32> {
        let wanted = self
            .flag(&format!("tokenizer.ggml.{flag}"))
            .unwrap_or(default);
        token.filter(|_| wanted).into_iter().collect()
    }
}

fn whole(value: &Value) -> Option<u32> {
    value.whole().and_then(|number| number.try_into().ok())
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
