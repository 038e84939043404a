//! A model's chat template, with the semantics of Hugging Face transformers.

use std::error::Error as _;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, ErrorKind, Value};
use serde_json::Value as Json;

use super::capabilities::TemplateCapabilities;
use super::control_tokens::{SplitText, unused_sentinels};
use super::jinja::{self, Raised};
use super::render_request::{Ending, RenderRequest};
use super::turns::Note;
use super::{ControlTokens, default_variables, quoted_tags};
use crate::markup::{ReasoningTags, ToolFormat};

const NAME: &str = "chat_template";

/// The fuel of one rendering. A unit of fuel pays for one instruction or for 64 bytes of text. This is enough for some 10,000
/// messages, and is used up in about half a second.
const FUEL: u64 = 20_000_000;

/// Fuel of one of the small requests that a template is probed with.
const PROBE_FUEL: u64 = 1_000_000;

/// A parsed chat template. It is made once per model and rendered once per request.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    special: SpecialTokens,
    control: ControlTokens,
    capabilities: TemplateCapabilities,
    /// Tags around reasoning, at which the template may cut earlier answers.
    tags: Option<ReasoningTags>,
}

/// Texts of special tokens that templates use by name.
#[derive(Clone, Debug, Default)]
pub struct SpecialTokens {
    /// Beginning of sequence: `bos_token`.
    pub bos: Option<String>,
    /// End of sequence: `eos_token`.
    pub eos: Option<String>,
}

/// A rendered prompt. The text is cut where user text would have formed a control token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedChat {
    pieces: Vec<String>,
    starts_with_bos: bool,
    notes: Vec<Note>,
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

    /// Changes that were made to the messages because the template does not take them as they are.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Whether the prompt ends with this text, apart from white space.
    pub fn ends_with(&self, text: &str) -> bool {
        let last = self.pieces.last();
        last.is_some_and(|piece| piece.trim_end().ends_with(text))
    }
}

/// Why a template could not be parsed or rendered.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The template is not Jinja. Occurs when a model is loaded.
    #[error("the chat template does not parse: {0}; correct it or give another one")]
    Syntax(#[source] minijinja::Error),
    /// The template refused the messages with `raise_exception`. This is the client's error, in the template's words.
    #[error("{0}")]
    Raised(String),
    /// The template failed on these messages.
    #[error("the chat template failed on these messages: {0}")]
    Render(String),
    /// The rendering ran out of fuel.
    #[error("the chat template took too long on these messages: send fewer or shorter ones")]
    OutOfFuel,
    /// No unused character is left to mark user text with.
    #[error("the messages use every private-use character of Unicode: leave some of them out")]
    NoSentinel,
    /// The last message has no text that an answer could continue.
    #[error(
        "the last message cannot be continued: it must have a text that the chat template writes"
    )]
    NothingToContinue,
}

impl ChatTemplate {
    /// Parses a template. `control` has the texts that users must not be able to write as tokens. `tools` is the model's format
    /// of tool calls, and overrides the one that the template shows.
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
        environment.set_syntax(jinja::syntax().map_err(TemplateError::Syntax)?);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(PROBE_FUEL));
        jinja::extend(&mut environment);
        environment
            .add_template_owned(NAME, jinja::prepare(source))
            .map_err(TemplateError::Syntax)?;
        let mut template = Self {
            environment,
            source: source.to_owned(),
            special,
            control,
            capabilities: TemplateCapabilities::default(),
            tags: ReasoningTags::of_template(source),
        };
        template.capabilities =
            TemplateCapabilities::probe(source, tools, |request| template.write(request).ok());
        template.environment.set_fuel(Some(FUEL));
        Ok(template)
    }

    /// The template's capabilities.
    pub fn capabilities(&self) -> &TemplateCapabilities {
        &self.capabilities
    }

    /// The template's source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Replaces the tags around reasoning, which are otherwise those that the template shows.
    pub fn with_reasoning_tags(mut self, tags: Option<ReasoningTags>) -> Self {
        self.tags = tags;
        self
    }

    /// Renders a prompt.
    ///
    /// # Errors
    /// All except [`TemplateError::Syntax`].
    pub fn render(&self, request: &RenderRequest) -> Result<RenderedChat, TemplateError> {
        let refused = match self.render_as(&self.capabilities, request) {
            Err(error @ (TemplateError::Raised(_) | TemplateError::Render(_))) => error,
            done => return done,
        };
        let mut others = self.capabilities.stricter();
        let rendered = others.find_map(|capabilities| self.render_as(&capabilities, request).ok());
        rendered.ok_or(refused)
    }

    fn render_as(
        &self,
        capabilities: &TemplateCapabilities,
        request: &RenderRequest,
    ) -> Result<RenderedChat, TemplateError> {
        let sentinels @ [mark, end, veil] = self.choose_sentinels(request)?;
        let mut notes = Vec::new();
        let plain = capabilities.adapt(request, &mut notes);
        let mut marked = plain.clone();
        let user_supplied = marked.messages.iter_mut().chain(&mut marked.tools);
        for value in user_supplied.chain(marked.variables.values_mut()) {
            self.control.mark(value, mark);
        }
        let write = |mut request: RenderRequest| {
            if let Some(tags) = &self.tags {
                quoted_tags::hide(&mut request.messages, tags, veil);
            }
            let mut text = self.write_until(request, end, sentinels)?;
            text.retain(|c| c != veil);
            Ok::<_, TemplateError>(text)
        };
        let is_marked = marked != plain;
        let mut split = self.control.split(&write(marked)?, mark);
        // A template that counts or compares text may have seen the marks.
        if is_marked && let Ok(plain) = write(plain) {
            split = self.control.transfer(split, plain);
        }
        Ok(self.rendered(split, notes))
    }

    /// Renders a request, up to the place where the answer continues.
    fn write_until(
        &self,
        mut request: RenderRequest,
        end: char,
        sentinels: [char; 3],
    ) -> Result<String, TemplateError> {
        let is_open = request.ending == Ending::OpenMessage;
        if is_open {
            append_to_last(&mut request.messages, end).ok_or(TemplateError::NothingToContinue)?;
        }
        let is_prompted = request.ending == Ending::GenerationPrompt;
        let written = self.write(request);
        let mut written = written.map_err(|error| explain(&error, sentinels))?;
        if is_prompted
            && let Some(mark) = self.capabilities.tool_format.prompted()
            && written.ends_with(mark)
        {
            written.truncate(written.len() - mark.len());
        }
        if is_open {
            let at = written.rfind(end).ok_or(TemplateError::NothingToContinue)?;
            written.truncate(at);
            written.retain(|c| c != end);
        }
        Ok(written)
    }

    fn choose_sentinels(&self, request: &RenderRequest) -> Result<[char; 3], TemplateError> {
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
        let defaults = default_variables::of(&self.source, &request.tools);
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
        // If a name occurs twice, the later value counts.
        let defaults = defaults.into_iter();
        let context = Value::from_pairs(defaults.chain(variables).chain(own));
        self.environment.get_template(NAME)?.render(context)
    }

    fn rendered(&self, split: SplitText, notes: Vec<Note>) -> RenderedChat {
        let pieces: Vec<String> = split.pieces().map(str::to_owned).collect();
        let starts_with_bos = match (&self.special.bos, pieces.first()) {
            (Some(bos), Some(piece)) => !bos.is_empty() && piece.starts_with(bos),
            _ => false,
        };
        RenderedChat {
            pieces,
            starts_with_bos,
            notes,
        }
    }
}

/// Appends a character to the last message's text.
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

/// Converts an error. A template's message may quote user text, so the sentinels are removed from it.
fn explain(error: &minijinja::Error, sentinels: [char; 3]) -> TemplateError {
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
