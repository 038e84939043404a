//! The chat settings of a model: its templates, and the control tokens that are text in its answers.

use std::sync::Arc;

use tenon_plugin_api::{EmbedderInfo, TokenKind, Vocabulary};

use crate::{
    markup::{ReasoningTags, ToolFormat},
    plugin::ModelFacts,
    prompt::{
        ChatTemplate, ChatTemplates, ControlTokens, PairTemplate, SpecialTokens, VolatileLines,
    },
};

/// Settings that replace what the model says about its chats.
#[derive(Clone, Debug, Default)]
pub struct ChatOptions {
    /// A chat template.
    pub template: Option<String>,
    /// How the model writes tool calls.
    pub tool_format: Option<&'static ToolFormat>,
    /// Tags around reasoning. Some(None): the model does no reasoning.
    pub reasoning_tags: Option<Option<ReasoningTags>>,
    /// Lines that are removed from system messages.
    pub volatile_lines: VolatileLines,
}

/// The chat templates of a model. A configured template is for all chats. Otherwise the model may have one of its own for
/// chats with tools.
pub fn chat_templates(facts: &ModelFacts, options: &ChatOptions) -> Result<ChatTemplates, String> {
    let info = &facts.info;
    let (default, tool_use) = match &options.template {
        Some(configured) => (Some(configured), None),
        None => (
            info.chat_template.as_ref(),
            info.tool_chat_template.as_ref(),
        ),
    };
    let default = default.ok_or("it has no chat template")?;
    let parse = |source: &String| chat_template(source, facts, options);
    let templates = ChatTemplates::new(parse(default)?, tool_use.map(parse).transpose()?);
    Ok(templates.without_lines(options.volatile_lines.clone()))
}

fn chat_template(
    source: &str,
    facts: &ModelFacts,
    options: &ChatOptions,
) -> Result<ChatTemplate, String> {
    let (info, vocabulary) = (&facts.info, &facts.vocabulary);
    let text = |token: u32| String::from_utf8(vocabulary.bytes(token).to_vec()).ok();
    let special = SpecialTokens {
        bos: info.bos.and_then(text),
        eos: info.eos.first().copied().and_then(text),
    };
    let control = ControlTokens::new(control_texts(vocabulary)).map_err(|e| e.to_string())?;
    let template = ChatTemplate::parse(source, special, control, options.tool_format);
    let template = template.map_err(|e| e.to_string())?;
    Ok(match &options.reasoning_tags {
        Some(tags) => template.with_reasoning_tags(tags.clone()),
        None => template,
    })
}

/// The template for the pairs of texts of a cross-encoder. None if the model is none. Err: why the template cannot be used, in
/// words.
pub fn pair_template(facts: &ModelFacts) -> Result<Option<PairTemplate>, String> {
    let template = facts
        .embedder
        .as_ref()
        .and_then(EmbedderInfo::pair_template);
    let Some(source) = template else {
        return Ok(None);
    };
    let control =
        ControlTokens::new(control_texts(&facts.vocabulary)).map_err(|e| e.to_string())?;
    let parsed = PairTemplate::parse(source, control);
    let incomplete = || format!("its template {source:?} has no {{query}} and {{document}}");
    parsed.ok_or_else(incomplete).map(Some)
}

/// Control tokens with which tool calls of the format, or reasoning, are written.
pub fn marks(
    vocabulary: &Vocabulary,
    format: Option<&ToolFormat>,
    tags: Option<&ReasoningTags>,
) -> Arc<[u32]> {
    let of_format = format.map(ToolFormat::texts).unwrap_or_default();
    let of_tags = tags.into_iter().flat_map(ReasoningTags::texts);
    let texts: Vec<&str> = of_format.into_iter().chain(of_tags).collect();
    let is_mark = |&token: &u32| {
        let text = std::str::from_utf8(vocabulary.bytes(token)).unwrap_or_default();
        vocabulary.kind(token) == TokenKind::CONTROL
            && !text.is_empty()
            && texts.iter().any(|texts| texts.contains(text))
    };
    (0..vocabulary.len() as u32).filter(is_mark).collect()
}

/// Texts that the tokenizer reads as control tokens.
fn control_texts(vocabulary: &Vocabulary) -> impl Iterator<Item = String> {
    (0..vocabulary.len() as u32)
        .filter(|&token| {
            matches!(
                vocabulary.kind(token),
                TokenKind::CONTROL | TokenKind::UNKNOWN
            )
        })
        .filter_map(|token| String::from_utf8(vocabulary.bytes(token).to_vec()).ok())
}
