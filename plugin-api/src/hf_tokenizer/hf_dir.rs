//! Reads tokenizers from Hugging Face directories.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use serde::Deserialize;
use serde_json::Value;
use tokenizers::{
    AddedToken, Encoding, NormalizerWrapper, PostProcessor, PostProcessorWrapper,
    PreTokenizerWrapper,
};

use super::{
    HfTokenizer, Prompting,
    hf_config::{GenerationConfig, TokenizerConfig},
    pipeline::Pipeline,
    spelling::{SPACE, Spelling, byte_token},
    tokenizer::TokenizerParts,
    tokens::{Tokens, unusable},
};
use crate::{
    Error, Result, TokenKind,
    files::{read_json, read_text},
};

/// Reads the files of a directory: tokenizer.json, tokenizer_config.json, generation_config.json, config.json,
/// chat_template.jinja and additional_chat_templates/tool_use.jinja. All but the first may be missing.
///
/// # Errors
/// `IO`, or `INVALID` with the file and the fault in it.
pub fn from_dir(folder: &Path) -> Result<Prompting> {
    let config: TokenizerConfig =
        read_json(&folder.join("tokenizer_config.json"))?.unwrap_or_default();
    let model: GenerationConfig = read_json(&folder.join("config.json"))?.unwrap_or_default();
    let generation: Option<GenerationConfig> = read_json(&folder.join("generation_config.json"))?;
    let generation = generation.as_ref().unwrap_or(&model);
    let template = read_text(&folder.join("chat_template.jinja"))?;
    let tool_template = read_text(&folder.join("additional_chat_templates/tool_use.jinja"))?;

    let path = folder.join("tokenizer.json");
    let file = caught(&path, || read_tokenizer(&path))?;
    let id = |text: Option<&str>| file.id(text?);
    let bos = match config.says_tokens() {
        true => id(config.bos()),
        false => model.bos_token_id,
    };
    let mut eos: Vec<u32> = id(config.eos()).into_iter().collect();
    for &end in generation.eos() {
        if !eos.contains(&end) {
            eos.push(end);
        }
    }
    Ok(Prompting {
        tokenizer: caught(&path, || build(file, &config, bos, &eos))?,
        bos,
        eos,
        chat_template: template.or_else(|| config.chat_template().map(str::to_owned)),
        tool_chat_template: tool_template
            .or_else(|| config.tool_chat_template().map(str::to_owned)),
        sampling: generation.sampling(),
    })
}

impl HfTokenizer {
    /// Reads a `tokenizer.json` alone. `ADD_SPECIAL` adds the tokens that its post-processor adds. [`from_dir`] also knows what
    /// the files beside it say.
    ///
    /// # Errors
    /// `IO`, or `INVALID` with the file and the fault in it.
    pub fn from_file(path: &Path) -> Result<Self> {
        caught(path, || {
            let file = read_tokenizer(path)?;
            build(file, &TokenizerConfig::default(), None, &[])
        })
    }
}

fn build(
    file: TokenizerFile,
    config: &TokenizerConfig,
    bos: Option<u32>,
    eos: &[u32],
) -> Result<HfTokenizer> {
    let parts = file.parts(config, bos, eos.first().copied())?;
    let ends = eos.iter().map(|&id| ("end", id));
    for (what, id) in ends.chain(bos.map(|id| ("begin", id))) {
        parts.tokens.check(what, id)?;
    }
    HfTokenizer::new(parts)
}

/// The result of `make`. A panic becomes an error: the library panics over some steps that lack what their type needs.
fn caught<T>(path: &Path, make: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(make)).unwrap_or_else(|_| {
        Err(Error::invalid(format!(
            "{} has a step that is not what its type needs: get the model's files again",
            path.display()
        )))
    })
}

/// tokenizer.json.
#[derive(Deserialize)]
struct TokenizerFile {
    #[serde(default)]
    added_tokens: Vec<Added>,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<Value>,
    post_processor: Option<PostProcessorWrapper>,
    decoder: Option<Value>,
    model: BytePairs,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    #[serde(flatten)]
    token: AddedToken,
}

#[derive(Deserialize)]
struct BytePairs {
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
    unk_token: Option<String>,
    #[serde(default)]
    fuse_unk: bool,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

/// A pair of pieces, written in one of two ways.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Line(String),
}

/// The kind of a tokenizer.json, which must be known before the rest can be read.
#[derive(Deserialize)]
struct TokenizerKind {
    model: ModelKind,
}

#[derive(Deserialize)]
struct ModelKind {
    #[serde(rename = "type")]
    name: Option<String>,
}

fn read_tokenizer(path: &Path) -> Result<TokenizerFile> {
    let shown = path.display();
    let kind: Option<TokenizerKind> = read_json(path)?;
    match kind.map(|kind| kind.model.name) {
        // Old files have only one kind and do not name it.
        Some(None) => {}
        Some(Some(name)) if name == "BPE" => {}
        Some(Some(name)) => {
            return Err(Error::invalid(format!(
                "{shown} has a tokenizer of the kind {name}: this backend has BPE only"
            )));
        }
        None => {
            return Err(Error::invalid(format!(
                "{shown} does not exist: a model's directory needs one"
            )));
        }
    }
    let file: Option<TokenizerFile> = read_json(path)?;
    file.ok_or_else(|| Error::invalid(format!("{shown} is gone: load the model again")))
}

impl TokenizerFile {
    fn id(&self, text: &str) -> Option<u32> {
        let added = self
            .added_tokens
            .iter()
            .find(|added| added.token.content == text);
        let added = added.map(|added| added.id);
        added.or_else(|| self.model.vocab.get(text).copied())
    }

    fn parts(
        self,
        config: &TokenizerConfig,
        bos: Option<u32>,
        eos: Option<u32>,
    ) -> Result<TokenizerParts> {
        let (mut before, mut after) = self.special_tokens()?;
        if let Some(add) = config.add_bos_token {
            before = bos.filter(|_| add).into_iter().collect();
        }
        if let Some(add) = config.add_eos_token {
            after = eos.filter(|_| add).into_iter().collect();
        }
        let (tokens, spelling) = (self.tokens()?, self.spelling());
        let merges = self
            .model
            .merges
            .into_iter()
            .map(Merge::pair)
            .collect::<Result<_>>()?;
        let unknown = self.model.unk_token.as_deref();
        let model = tokens
            .byte_pairs(merges, unknown)
            .fuse_unk(self.model.fuse_unk)
            .byte_fallback(self.model.byte_fallback)
            .ignore_merges(self.model.ignore_merges);
        let pre_tokenizer: Option<PreTokenizerWrapper> = self
            .pre_tokenizer
            .map(serde_json::from_value)
            .transpose()
            .map_err(unusable)?;
        Ok(TokenizerParts {
            added: self
                .added_tokens
                .into_iter()
                .map(|added| added.token)
                .collect(),
            pipeline: Pipeline {
                normalizer: self.normalizer,
                pre_tokenizer,
            },
            model: model.build().map_err(unusable)?,
            tokens,
            spelling,
            before,
            after,
        })
    }

    fn tokens(&self) -> Result<Tokens> {
        let mut tokens = Tokens::default();
        for (text, &id) in &self.model.vocab {
            let kind = match byte_token(text) {
                Some(_) if self.model.byte_fallback => TokenKind::BYTE,
                _ => TokenKind::NORMAL,
            };
            tokens.set(id, text, kind)?;
        }
        for Added { id, token } in &self.added_tokens {
            tokens.set(*id, &token.content, self.added_kind(token))?;
        }
        Ok(tokens)
    }

    fn added_kind(&self, token: &AddedToken) -> TokenKind {
        let text = &token.content;
        // Runs of visible spaces. The model may also form them by merges.
        let spaces = text.contains(SPACE) && self.model.vocab.contains_key(text);
        match token.special {
            true if self.model.unk_token.as_ref() == Some(text) => TokenKind::UNKNOWN,
            true => TokenKind::CONTROL,
            false if spaces => TokenKind::NORMAL,
            false => TokenKind::USER_DEFINED,
        }
    }

    fn spelling(&self) -> Spelling {
        let steps = [&self.pre_tokenizer, &self.decoder];
        let has = |name| steps.into_iter().flatten().any(|step| has_step(step, name));
        let replaces = self.model.byte_fallback || has("Metaspace");
        match has("ByteLevel") {
            true => Spelling::ByteLevel,
            false if replaces => Spelling::Spaces,
            false => Spelling::Plain,
        }
    }

    /// The tokens that the post-processor puts before and behind a text. They are found by giving it a text of one token
    /// that no vocabulary has.
    fn special_tokens(&self) -> Result<(Vec<u32>, Vec<u32>)> {
        let Some(processor) = &self.post_processor else {
            return Ok(Default::default());
        };
        let text = tokenizers::Token::new(u32::MAX, String::new(), (0, 0));
        let text = Encoding::from_tokens(vec![text], 0);
        let whole = processor.process(text, None, true).map_err(unusable)?;
        let mut sides = whole
            .get_ids()
            .split(|&id| id == u32::MAX)
            .map(<[u32]>::to_vec);
        Ok((
            sides.next().unwrap_or_default(),
            sides.next().unwrap_or_default(),
        ))
    }
}

impl Merge {
    fn pair(self) -> Result<(String, String)> {
        match self {
            Self::Pair(left, right) => Ok((left, right)),
            Self::Line(line) => {
                let pair = line
                    .split_once(' ')
                    .map(|(left, right)| (left.into(), right.into()));
                pair.ok_or_else(|| unusable(format!("the merge {line:?} is no pair")))
            }
        }
    }
}

/// Whether a step is of this type, or is a sequence with such a step.
fn has_step(step: &Value, name: &str) -> bool {
    let parts = ["pretokenizers", "decoders"].map(|key| step[key].as_array());
    step["type"] == name
        || parts
            .into_iter()
            .flatten()
            .flatten()
            .any(|part| has_step(part, name))
}
