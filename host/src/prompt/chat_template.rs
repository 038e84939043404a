//! A model's chat template, with the semantics of Hugging Face transformers.

use std::error::Error as _;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, ErrorKind, Value};
use serde_json::Value as Json;

use super::ControlTokens;
use super::control_tokens::unused_sentinel;
use super::template_functions::{Raised, add_functions, without_generation_tags};

const NAME: &str = "chat_template";

/// Instructions (or 64 bytes made) that one rendering may take: some 10,000 messages, or half a second.
const FUEL: u64 = 20_000_000;

/// A parsed chat template: made once per model, rendered once per request.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    special: SpecialTokens,
    control: ControlTokens,
}

/// Texts of special tokens that templates write by name.
#[derive(Clone, Debug, Default)]
pub struct SpecialTokens {
    /// Beginning of sequence: `bos_token`.
    pub bos: Option<String>,
    /// End of sequence: `eos_token`.
    pub eos: Option<String>,
}

/// What one rendering is about.
#[derive(Clone, Copy, Debug)]
pub struct RenderRequest<'a> {
    /// Messages as the client sent them: role, content, name, tool_calls …
    pub messages: &'a [Json],
    /// Whether to end with the opening of an assistant's reply.
    pub add_generation_prompt: bool,
    /// Whether a model that can think should.
    pub enable_thinking: bool,
}

/// A rendered prompt: its text, cut where user text would have made a control token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedChat {
    pieces: Vec<String>,
    starts_with_bos: bool,
}

impl RenderedChat {
    /// The parts to encode separately, at least one.
    pub fn pieces(&self) -> &[String] {
        &self.pieces
    }

    /// Whether the template itself wrote the BOS token.
    pub fn starts_with_bos(&self) -> bool {
        self.starts_with_bos
    }
}

/// Why a template could not be parsed or rendered.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// At load time: the template is not Jinja.
    #[error("the chat template does not parse: {0}; correct it or give another one")]
    Syntax(#[source] minijinja::Error),
    /// The template refused the messages with `raise_exception`: the client's error, in the template's words.
    #[error("{0}")]
    Raised(String),
    /// The template failed on these messages.
    #[error("the chat template failed on these messages: {0}")]
    Render(String),
    /// The rendering was stopped.
    #[error("the chat template took too long on these messages: send fewer or shorter ones")]
    OutOfFuel,
    /// No character is left to mark user text with.
    #[error("the messages use every private-use character of Unicode: leave some of them out")]
    NoSentinel,
}

impl ChatTemplate {
    /// Parses a template. `control` are the texts that its users must not be able to write as tokens.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`].
    pub fn parse(
        source: &str,
        special: SpecialTokens,
        control: ControlTokens,
    ) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        environment.set_syntax(hugging_face_syntax().map_err(TemplateError::Syntax)?);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        add_functions(&mut environment);
        environment
            .add_template_owned(NAME, without_generation_tags(source))
            .map_err(TemplateError::Syntax)?;
        Ok(Self {
            environment,
            source: source.to_owned(),
            special,
            control,
        })
    }

    /// Renders a prompt.
    ///
    /// # Errors
    /// All but [`TemplateError::Syntax`].
    pub fn render(&self, request: &RenderRequest<'_>) -> Result<RenderedChat, TemplateError> {
        let sentinel = self.choose_sentinel(request.messages)?;
        let context = self.context(request, sentinel);
        let marked = self
            .environment
            .get_template(NAME)
            .and_then(|template| template.render(context))
            .map_err(|error| explain(&error, sentinel))?;
        let pieces = self.control.split(&marked, sentinel);
        let starts_with_bos = match (&self.special.bos, pieces.first()) {
            (Some(bos), Some(piece)) => !bos.is_empty() && piece.starts_with(bos),
            _ => false,
        };
        Ok(RenderedChat {
            pieces,
            starts_with_bos,
        })
    }

    fn choose_sentinel(&self, messages: &[Json]) -> Result<char, TemplateError> {
        let special = [&self.special.bos, &self.special.eos];
        let own = special
            .into_iter()
            .flatten()
            .chain([&self.source])
            .map(String::as_str);
        unused_sentinel(messages, own).ok_or(TemplateError::NoSentinel)
    }

    fn context(&self, request: &RenderRequest<'_>, sentinel: char) -> Value {
        let messages: Value = request
            .messages
            .iter()
            .map(|message| self.message(message, sentinel))
            .collect();
        let token = |text: &Option<String>| text.as_deref().map_or(Value::UNDEFINED, Value::from);
        Value::from_pairs([
            ("messages", messages),
            (
                "add_generation_prompt",
                request.add_generation_prompt.into(),
            ),
            ("enable_thinking", request.enable_thinking.into()),
            ("tools", ().into()),
            ("bos_token", token(&self.special.bos)),
            ("eos_token", token(&self.special.eos)),
        ])
    }

    fn message(&self, message: &Json, sentinel: char) -> Value {
        let mut message = message.clone();
        if let Some(content) = message.get_mut("content") {
            join_text_parts(content);
        }
        self.control.mark(&mut message, sentinel);
        Serde(message).into()
    }
}

fn hugging_face_syntax() -> Result<SyntaxConfig, minijinja::Error> {
    SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
}

/// Most templates of text models take content as a string only, so parts become one, line by line as vLLM joins them.
fn join_text_parts(content: &mut Json) {
    let text_of = |part: &Json| match part["type"].as_str() {
        Some("text") => part["text"].as_str().map(str::to_owned),
        _ => None,
    };
    if let Some(texts) = content
        .as_array()
        .and_then(|parts| parts.iter().map(text_of).collect::<Option<Vec<_>>>())
    {
        *content = texts.join("\n").into();
    }
}

/// A message of the template may quote user text: no sentinel leaves with it.
fn explain(error: &minijinja::Error, sentinel: char) -> TemplateError {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(Raised(message)) = cause.downcast_ref() {
            return TemplateError::Raised(message.replace(sentinel, ""));
        }
        source = cause.source();
    }
    match error.kind() {
        ErrorKind::OutOfFuel => TemplateError::OutOfFuel,
        _ => TemplateError::Render(error.to_string().replace(sentinel, "")),
    }
}
