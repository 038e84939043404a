//! A model that is being served: its names, its state, and what turns requests into its tokens.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, PoisonError, RwLock},
};

use tenon_plugin_api::{EncodeFlags, Error, ModelInfo, TokenKind, Vocabulary};
use tokio::sync::OwnedMutexGuard;

use crate::{
    engine::{End, Engine},
    grammar::Grammars,
    prompt::{
        ChatTemplate, ControlTokens, Dialect, Encoder, Ending, RenderRequest, RenderedChat,
        SpecialTokens, TemplateError, encode_chat, encode_text,
    },
    reply::ReasoningTags,
    source::Source,
    tools::ToolFormat,
};

/// A name under which a model is served, whatever state the model is in.
pub struct ServedModel {
    /// What requests call it.
    pub id: String,
    /// What they may call it as well.
    pub aliases: Vec<String>,
    /// Changes while the server runs; held for a clone only.
    state: RwLock<ModelState>,
    /// Held by whoever changes its level.
    former: Arc<tokio::sync::Mutex<FormerModels>>,
}

/// The right to change the level of a model, and what it answered with before, as long as requests run on that.
pub type RightToChange = OwnedMutexGuard<FormerModels>;

/// Models that are about to end.
#[derive(Default)]
pub struct FormerModels(Vec<(End, u64)>);

impl FormerModels {
    /// One more, with the memory that it takes.
    pub fn push(&mut self, end: End, bytes: u64) {
        self.0.push((end, bytes));
    }

    /// Memory that they take.
    pub fn bytes(&mut self) -> u64 {
        self.0.retain(|(end, _)| !end.has_come());
        self.0.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Waits until none is left.
    pub async fn ended(&mut self) {
        for (end, _) in &self.0 {
            end.clone().wait().await;
        }
        self.0.clear();
    }
}

/// Where a model is on its way to answering.
#[derive(Clone)]
pub enum ModelState {
    /// It will be ready.
    Loading,
    /// It answers.
    Ready(Arc<LoadedModel>),
    /// It does not answer, for this reason.
    Failed(String),
}

impl ServedModel {
    /// A model that is about to be loaded.
    pub fn new(id: String, aliases: Vec<String>) -> Self {
        Self {
            id,
            aliases,
            state: RwLock::new(ModelState::Loading),
            former: Arc::default(),
        }
    }

    /// The right to change its level, until it is dropped. None: somebody has it.
    pub fn begin_change(&self) -> Option<RightToChange> {
        self.former.clone().try_lock_owned().ok()
    }

    /// Whether this is one of its names.
    pub fn is_called(&self, name: &str) -> bool {
        self.id == name || self.aliases.iter().any(|alias| alias == name)
    }

    /// Where it is now.
    pub fn state(&self) -> ModelState {
        let state = self
            .state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match &state {
            ModelState::Ready(model) => match model.engine.failure() {
                Some(error) => ModelState::Failed(error.message.clone()),
                None => state,
            },
            _ => state,
        }
    }

    /// Says where it is from now on. Requests that run keep the model they began with.
    pub fn set_state(&self, state: ModelState) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

/// A model that answers.
pub struct LoadedModel {
    /// How it was made.
    pub source: Arc<Source>,
    /// When it was loaded, in Unix seconds.
    pub created: u64,
    /// Differs where model or server differ, so that the same seed may give other answers.
    pub fingerprint: String,
    /// What computes.
    pub engine: Engine,
    /// What its answers may have to look like.
    pub grammars: Arc<Grammars>,
    /// Level that it was loaded at; None: that of its file.
    pub level: Option<String>,
    /// Err: why there is no chat, in words.
    template: Result<ChatTemplate, String>,
    /// Bytes of the longest token, at least 1.
    longest_token_bytes: usize,
    /// None if it does not think.
    reasoning_tags: Option<ReasoningTags>,
    /// Tokens that are text here though they are control tokens: they begin or end calls and thoughts.
    marks: Arc<[u32]>,
}

/// What is said of a model's chats instead of what it says itself.
#[derive(Clone, Debug, Default)]
pub struct ChatOptions {
    /// A chat template.
    pub template: Option<String>,
    /// How it writes calls of tools.
    pub tool_format: Option<&'static ToolFormat>,
    /// What it writes around its thoughts; Some of None: it has none.
    pub reasoning_tags: Option<Option<ReasoningTags>>,
}

/// A chat, ready for the engine.
pub struct ChatPrompt {
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// Whether the answer begins within thoughts.
    pub opens_reasoning: bool,
}

/// Why a request could not be turned into tokens.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// The model is not made for chats.
    #[error("this model cannot chat: {0}; use /v1/completions")]
    NoChat(String),
    /// The chat template did not take the messages.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The text cannot fit, which is known before it is tokenized.
    #[error(
        "the text of {bytes} bytes has at least {at_least} tokens, but the context is {context} tokens long"
    )]
    TooLong {
        bytes: usize,
        at_least: usize,
        context: u32,
    },
    /// The tokenizer did not take the text.
    #[error("the prompt cannot be tokenized: {0}")]
    Tokenizer(#[from] Error),
}

impl LoadedModel {
    /// Makes a running engine ready for requests.
    pub fn new(
        source: Arc<Source>,
        engine: Engine,
        grammars: Arc<Grammars>,
        level: Option<String>,
    ) -> Self {
        let options = &source.chat;
        let template = chat_template(&engine, options);
        let shown = || ReasoningTags::of_template(template.as_ref().ok()?.source());
        let reasoning_tags = options.reasoning_tags.clone().unwrap_or_else(shown);
        let format = template
            .as_ref()
            .ok()
            .map(|template| template.dialect().tool_format);
        Self {
            fingerprint: fingerprint(&source.backend.descriptor().id, engine.info()),
            created: crate::app::unix_seconds(),
            source,
            longest_token_bytes: longest_token_bytes(engine.vocabulary()),
            marks: marks(engine.vocabulary(), format, reasoning_tags.as_ref()),
            template,
            reasoning_tags,
            engine,
            grammars,
            level,
        }
    }

    /// The plugin that runs it, for example `org.tenon.echo`.
    pub fn backend(&self) -> &str {
        &self.source.backend.descriptor().id
    }

    /// Why it cannot chat, if so.
    pub fn why_no_chat(&self) -> Option<&str> {
        self.template.as_ref().err().map(String::as_str)
    }

    /// What its chat template knows.
    pub fn dialect(&self) -> Result<&Dialect, PromptError> {
        Ok(self.template()?.dialect())
    }

    /// What it writes around its thoughts. None if it does not think.
    pub fn reasoning_tags(&self) -> Option<&ReasoningTags> {
        self.reasoning_tags.as_ref()
    }

    /// Control tokens that are text in its answers to chats: they begin or end calls and thoughts.
    pub fn marks(&self) -> &Arc<[u32]> {
        &self.marks
    }

    /// The one of these that is written like this.
    pub fn mark(&self, text: &str) -> Option<u32> {
        let vocabulary = self.engine.vocabulary();
        let is_it = |&token: &u32| vocabulary.bytes(token) == text.as_bytes();
        self.marks.iter().copied().find(is_it)
    }

    /// The prompt of a chat. Takes a while for a long one.
    pub fn render_chat(&self, request: &RenderRequest) -> Result<RenderedChat, PromptError> {
        Ok(self.template()?.render(request)?)
    }

    /// Tokens of a chat. Takes a while for a long one.
    pub fn encode_chat(&self, request: &RenderRequest) -> Result<ChatPrompt, PromptError> {
        let chat = self.render_chat(request)?;
        self.check_length(chat.pieces().iter().map(String::len).sum())?;
        Ok(ChatPrompt {
            tokens: encode_chat(&chat, &self.engine)?,
            opens_reasoning: self.opens_reasoning(request, &chat),
        })
    }

    fn opens_reasoning(&self, request: &RenderRequest, chat: &RenderedChat) -> bool {
        let Some(tags) = &self.reasoning_tags else {
            return false;
        };
        let last = request
            .messages
            .last()
            .and_then(|message| message["content"].as_str());
        match request.ending {
            Ending::OpenMessage => last.is_some_and(|text| tags.are_open_in(text)),
            Ending::GenerationPrompt => chat.ends_with(&tags.open),
            Ending::LastMessage => false,
        }
    }

    fn template(&self) -> Result<&ChatTemplate, PromptError> {
        let template = self.template.as_ref();
        template.map_err(|why| PromptError::NoChat(why.clone()))
    }

    /// Tokens of a prompt of plain text. Takes a while for a long one.
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>, PromptError> {
        self.check_length(text.len())?;
        Ok(encode_text(text, &self.engine)?)
    }

    /// Tokens of any text. Takes a while for a long one.
    pub fn tokenize(&self, text: &str, flags: EncodeFlags) -> Result<Vec<u32>, PromptError> {
        self.check_length(text.len())?;
        Ok(self.engine.encode(text, flags)?)
    }

    /// Refuses what has more tokens than the context for certain: the time that tokenizers take may grow with the square of
    /// a text's length.
    fn check_length(&self, bytes: usize) -> Result<(), PromptError> {
        let (context, at_least) = (
            self.engine.context_length(),
            bytes.div_ceil(self.longest_token_bytes),
        );
        match at_least > context as usize {
            true => Err(PromptError::TooLong {
                bytes,
                at_least,
                context,
            }),
            false => Ok(()),
        }
    }
}

impl Encoder for Engine {
    type Error = Error;

    fn encode(&self, text: &str, flags: EncodeFlags) -> Result<Vec<u32>, Error> {
        Engine::encode(self, text, flags)
    }
}

fn fingerprint(backend: &str, info: &ModelInfo) -> String {
    let mut hasher = DefaultHasher::new();
    let version = env!("CARGO_PKG_VERSION");
    let sizes = (info.parameters, info.weight_bytes, info.vocab_size);
    (
        version,
        backend,
        &info.architecture,
        &info.quantization,
        sizes,
    )
        .hash(&mut hasher);
    format!("fp_{:016x}", hasher.finish())
}

fn chat_template(engine: &Engine, options: &ChatOptions) -> Result<ChatTemplate, String> {
    let (info, vocabulary) = (engine.info(), engine.vocabulary());
    let source = options
        .template
        .as_deref()
        .or(info.chat_template.as_deref());
    let source = source.ok_or("it has no chat template")?;
    let text = |token: u32| String::from_utf8(vocabulary.bytes(token).to_vec()).ok();
    let special = SpecialTokens {
        bos: info.bos.and_then(text),
        eos: info.eos.first().copied().and_then(text),
    };
    let control = ControlTokens::new(control_texts(vocabulary)).map_err(|e| e.to_string())?;
    ChatTemplate::parse(source, special, control, options.tool_format).map_err(|e| e.to_string())
}

/// Control tokens that are a mark of the format or a tag.
fn marks(
    vocabulary: &Vocabulary,
    format: Option<&ToolFormat>,
    tags: Option<&ReasoningTags>,
) -> Arc<[u32]> {
    let of_format = format.map(ToolFormat::marks).unwrap_or_default();
    let of_tags = tags.map(|tags| [tags.open.as_str(), &tags.close]);
    let texts: Vec<&str> = of_format
        .into_iter()
        .chain(of_tags.into_iter().flatten())
        .collect();
    let is_mark = |&token: &u32| {
        let bytes = vocabulary.bytes(token);
        vocabulary.kind(token) == TokenKind::CONTROL
            && texts.iter().any(|text| text.as_bytes() == bytes)
    };
    (0..vocabulary.len() as u32).filter(is_mark).collect()
}

/// What the tokenizer reads as control tokens.
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

fn longest_token_bytes(vocabulary: &Vocabulary) -> usize {
    let lengths = (0..vocabulary.len() as u32).map(|token| vocabulary.bytes(token).len());
    lengths.max().unwrap_or(0).max(1)
}
