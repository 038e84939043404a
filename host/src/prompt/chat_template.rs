//! A model's chat template, with the semantics of Hugging Face transformers.

use std::error::Error as _;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, ErrorKind, Value};
use serde_json::{Map, Value as Json};

use super::ControlTokens;
use super::control_tokens::unused_sentinels;
use super::dialect::Dialect;
use super::template_functions::{Raised, add_functions, without_generation_tags};
use crate::tools::ToolFormat;

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
    dialect: Dialect,
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
#[derive(Clone, Debug, Default)]
pub struct RenderRequest {
    /// Messages as OpenAI has them: role, content, name, tool_calls …
    pub messages: Vec<Json>,
    /// Tools that the model may call, as OpenAI has them.
    pub tools: Vec<Json>,
    /// How the prompt ends.
    pub ending: Ending,
    /// What else the template may look at, such as `enable_thinking`.
    pub variables: Map<String, Json>,
}

/// How a prompt ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// With the opening of an assistant's reply.
    #[default]
    GenerationPrompt,
    /// Behind the last message.
    LastMessage,
    /// Within the last message, behind its text, so that the answer goes on with it.
    OpenMessage,
}

/// Variables that requests may not set, because the template gets them from the server.
pub const RESERVED_VARIABLES: [&str; 5] = [
    "messages",
    "tools",
    "add_generation_prompt",
    "bos_token",
    "eos_token",
];

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

    /// Whether its last word is this text.
    pub fn ends_with(&self, text: &str) -> bool {
        let last = self.pieces.last();
        last.is_some_and(|piece| piece.trim_end().ends_with(text))
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
    /// There is nothing to go on with.
    #[error(
        "the last message cannot be continued: it must have a text that the chat template writes"
    )]
    NothingToContinue,
}

impl ChatTemplate {
    /// Parses a template. `control` are the texts that its users must not be able to write as tokens; `tools` is how the model
    /// writes calls, where the template does not show it.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`].
    pub fn parse(
        source: &str,
        special: SpecialTokens,
        control: ControlTokens,
        tools: Option<&'static ToolFormat>,
    ) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        environment.set_syntax(hugging_face_syntax().map_err(TemplateError::Syntax)?);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        add_functions(&mut environment);
        environment
            .add_template_owned(NAME, without_generation_tags(source))
            .map_err(TemplateError::Syntax)?;
        let mut template = Self {
            environment,
            source: source.to_owned(),
            special,
            control,
            dialect: Dialect::default(),
        };
        template.dialect = Dialect::probe(source, tools, |request| template.write(request).ok());
        Ok(template)
    }

    /// What it knows.
    pub fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    /// Its text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders a prompt.
    ///
    /// # Errors
    /// All but [`TemplateError::Syntax`].
    pub fn render(&self, request: &RenderRequest) -> Result<RenderedChat, TemplateError> {
        let sentinels @ [mark, end] = self.choose_sentinels(request)?;
        let mut request = self.dialect.adapt(request);
        let user_supplied = request.messages.iter_mut().chain(&mut request.tools);
        for value in user_supplied.chain(request.variables.values_mut()) {
            self.control.mark(value, mark);
        }
        let is_open = request.ending == Ending::OpenMessage;
        if is_open {
            append_to_last(&mut request.messages, end).ok_or(TemplateError::NothingToContinue)?;
        }
        let marked = self.write(request);
        let mut marked = marked.map_err(|error| explain(&error, sentinels))?;
        if is_open {
            let at = marked.rfind(end).ok_or(TemplateError::NothingToContinue)?;
            marked.truncate(at);
            marked.retain(|c| c != end);
        }
        Ok(self.rendered(&marked, mark))
    }

    fn choose_sentinels(&self, request: &RenderRequest) -> Result<[char; 2], TemplateError> {
        let special = [&self.special.bos, &self.special.eos];
        let own = special
            .into_iter()
            .flatten()
            .chain([&self.source])
            .map(String::as_str);
        let values = request.messages.iter().chain(&request.tools);
        let values = values.chain(request.variables.values());
        unused_sentinels(values, own).ok_or(TemplateError::NoSentinel)
    }

    fn write(&self, request: RenderRequest) -> Result<String, minijinja::Error> {
        let json = |value: Json| Value::from(Serde(value));
        let messages: Value = request.messages.into_iter().map(json).collect();
        let tools: Value = match request.tools.is_empty() {
            true => ().into(),
            false => request.tools.into_iter().map(json).collect(),
        };
        let token = |text: &Option<String>| text.as_deref().map_or(Value::UNDEFINED, Value::from);
        let opens_reply = request.ending == Ending::GenerationPrompt;
        let own = [
            ("messages", messages),
            ("add_generation_prompt", opens_reply.into()),
            ("tools", tools),
            ("bos_token", token(&self.special.bos)),
            ("eos_token", token(&self.special.eos)),
        ];
        let variables = request.variables.into_iter();
        let variables = variables.map(|(name, value)| (name, json(value)));
        let own = own.map(|(name, value)| (name.to_owned(), value));
        let context = Value::from_pairs(variables.chain(own));
        self.environment.get_template(NAME)?.render(context)
    }

    fn rendered(&self, marked: &str, sentinel: char) -> RenderedChat {
        let pieces = self.control.split(marked, sentinel);
        let starts_with_bos = match (&self.special.bos, pieces.first()) {
            (Some(bos), Some(piece)) => !bos.is_empty() && piece.starts_with(bos),
            _ => false,
        };
        RenderedChat {
            pieces,
            starts_with_bos,
        }
    }
}

/// Puts a character behind the last message's text.
fn append_to_last(messages: &mut [Json], end: char) -> Option<()> {
    let content = messages.last_mut()?.get_mut("content")?;
    let text = match content {
        Json::Array(parts) => parts.last_mut()?.get_mut("text")?,
        text => text,
    };
    match text {
        Json::String(text) => text.push(end),
        _ => return None,
    }
    Some(())
}

fn hugging_face_syntax() -> Result<SyntaxConfig, minijinja::Error> {
    SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
}

/// A message of the template may quote user text: no sentinel leaves with it.
fn explain(error: &minijinja::Error, sentinels: [char; 2]) -> TemplateError {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(Raised(message)) = cause.downcast_ref() {
            return TemplateError::Raised(message.replace(sentinels, ""));
        }
        source = cause.source();
    }
    match error.kind() {
        ErrorKind::OutOfFuel => TemplateError::OutOfFuel,
        _ => TemplateError::Render(error.to_string().replace(sentinels, "")),
    }
}
