//! What the small JSON files of a Hugging Face directory say about prompts and generation.

use crate::SamplingDefaults;
use serde::Deserialize;

/// tokenizer_config.json. Every key may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct TokenizerConfig {
    bos_token: Option<Name>,
    eos_token: Option<Name>,
    /// Whether `ADD_SPECIAL` adds BOS, where this file says so instead of tokenizer.json. `add_eos_token` says the same of
    /// EOS.
    pub add_bos_token: Option<bool>,
    pub add_eos_token: Option<bool>,
    chat_template: Option<Templates>,
}

/// A token, written in one of two ways.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Name {
    Text(String),
    Token { content: String },
}

/// One template, or one for each of several purposes.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Named(Vec<Template>),
}

#[derive(Debug, Deserialize)]
struct Template {
    name: String,
    template: String,
}

/// generation_config.json, or the part of config.json that had these keys before that file existed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct GenerationConfig {
    pub bos_token_id: Option<u32>,
    eos_token_id: Option<Ids>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    top_k: Option<u32>,
    repetition_penalty: Option<f32>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Many(Vec<u32>),
}

impl TokenizerConfig {
    /// Whether the file says which tokens begin and end a sequence. A token that it then leaves out does not exist.
    pub fn says_tokens(&self) -> bool {
        self.bos_token.is_some() || self.eos_token.is_some()
    }

    pub fn bos(&self) -> Option<&str> {
        self.bos_token.as_ref().map(Name::text)
    }

    pub fn eos(&self) -> Option<&str> {
        self.eos_token.as_ref().map(Name::text)
    }

    /// The template for chats. If there are several, the default one.
    pub fn chat_template(&self) -> Option<&str> {
        match self.chat_template.as_ref()? {
            Templates::One(template) => Some(template),
            Templates::Named(templates) => named("default", templates),
        }
    }

    /// The template for chats with tools, if it is a separate one.
    pub fn tool_chat_template(&self) -> Option<&str> {
        match self.chat_template.as_ref()? {
            Templates::One(_) => None,
            Templates::Named(templates) => named("tool_use", templates),
        }
    }
}

fn named<'a>(name: &str, templates: &'a [Template]) -> Option<&'a str> {
    let found = templates.iter().find(|template| template.name == name);
    found.map(|template| template.template.as_str())
}

impl Name {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Token { content } => content,
        }
    }
}

impl GenerationConfig {
    pub fn eos(&self) -> &[u32] {
        match &self.eos_token_id {
            None => &[],
            Some(Ids::One(id)) => std::slice::from_ref(id),
            Some(Ids::Many(ids)) => ids,
        }
    }

    pub fn sampling(&self) -> SamplingDefaults {
        let mut defaults = SamplingDefaults::default();
        if let Some(value) = self.temperature {
            defaults = defaults.with_temperature(value);
        }
        if let Some(value) = self.top_p {
            defaults = defaults.with_top_p(value);
        }
        if let Some(value) = self.min_p {
            defaults = defaults.with_min_p(value);
        }
        if let Some(value) = self.top_k {
            defaults = defaults.with_top_k(value);
        }
        if let Some(value) = self.repetition_penalty {
            defaults = defaults.with_repetition_penalty(value);
        }
        defaults
    }
}
