//! The pre-tokenizers that GGUF files name (`tokenizer.ggml.pre`): how they cut text into words.
//!
//! The expressions are those of the models' own tokenizers. llama.cpp has them too, but adapted some of them to a matcher
//! that cannot tell upper case from lower case outside ASCII. Where the two differ, this module follows the models' makers.

use crate::{Error, Result};
use tokenizers::{
    PreTokenizerWrapper, SplitDelimiterBehavior,
    pre_tokenizers::{
        byte_level::ByteLevel,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
};

use super::tokens::unusable;

/// A pre-tokenizer, under all of its names.
#[derive(Clone, Copy)]
pub struct PreTokenizer {
    names: &'static [&'static str],
    /// Each expression cuts what the ones before it left whole.
    expressions: &'static [&'static str],
    /// Whether a word that is a token becomes that token, whatever the merges say.
    pub ignore_merges: bool,
    /// Whether BOS comes first if the file does not say.
    pub add_bos: bool,
}

/// Finds a pre-tokenizer by its name in GGUF files.
///
/// # Errors
/// `INVALID` for names that are not in the table; the message lists the known ones.
pub fn find(name: &str) -> Result<PreTokenizer> {
    let found = TABLE.iter().find(|entry| entry.names.contains(&name));
    found.copied().ok_or_else(|| {
        let known: Vec<&str> = TABLE.iter().flat_map(|entry| entry.names).copied().collect();
        Error::invalid(format!(
            "the pre-tokenizer {name:?} (tokenizer.ggml.pre) is not known: this backend has {}; use llama-cpp for this file",
            known.join(", ")
        ))
    })
}

impl PreTokenizer {
    /// # Errors
    /// None for the expressions of the table.
    pub fn build(self) -> Result<PreTokenizerWrapper> {
        let split = |expression: &&str| {
            let pattern = SplitPattern::Regex((*expression).to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
            split.map(PreTokenizerWrapper::from).map_err(unusable)
        };
        let mut steps: Vec<_> = self.expressions.iter().map(split).collect::<Result<_>>()?;
        steps.push(ByteLevel::new(false, false, false).into());
        Ok(Sequence::new(steps).into())
    }
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const SEED_CODER: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const VIKING: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";

const TABLE: [PreTokenizer; 12] = [
    PreTokenizer {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
        ],
        expressions: &[LLAMA3],
        ignore_merges: true,
        add_bos: true,
    },
    // Phi-4 is among the users of "dbrx".
    plain(&["dbrx", "smaug-bpe"], &[LLAMA3]),
    plain(
        &[
            "qwen2",
            "deepseek-r1-qwen",
            "megrez",
            "stablelm2",
            "hunyuan",
            "kormo",
        ],
        &[QWEN2],
    ),
    plain(&["qwen35"], &[QWEN35]),
    plain(
        &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
        ],
        &[r"\p{N}", GPT2],
    ),
    plain(
        &[
            "gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "exaone4", "gigachat", "mellum",
        ],
        &[GPT2],
    ),
    PreTokenizer {
        names: &["tekken"],
        expressions: &[TEKKEN],
        ignore_merges: true,
        add_bos: true,
    },
    // Phi-4-mini is among the users of "gpt-4o".
    plain(&["gpt-4o", "llama4", "kanana2"], &[GPT4O]),
    plain(
        &["deepseek-v3", "hunyuan-dense"],
        &[
            r"\p{N}{1,3}",
            "[一-龥぀-ゟ゠-ヿ]+",
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
        ],
    ),
    plain(&["seed-coder"], &[SEED_CODER]),
    plain(&["poro-chat", "bloom", "gpt3-finnish"], &[VIKING]),
    plain(&["viking"], &[VIKING, r"\p{N}"]),
];

const fn plain(
    names: &'static [&'static str],
    expressions: &'static [&'static str],
) -> PreTokenizer {
    PreTokenizer {
        names,
        expressions,
        ignore_merges: false,
        add_bos: false,
    }
}
