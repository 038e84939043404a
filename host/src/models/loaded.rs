//! A model that answers, and the encoding of requests into its tokens.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use tenon_plugin_api::{EncodeFlags, Error, ModelInfo, Vocabulary};

use super::{
    ModelSpec,
    chat::{chat_templates, marks, pair_template},
    checkpoints,
};
use crate::{
    engine::PromptTokens,
    markup::{InPrompt, ReasoningTags},
    plugin::ModelFacts,
    prompt::{
        ChatTemplates, Encoder, Ending, PairTemplate, PastAnswers, Recorder, RenderRequest,
        RenderedChat, Special, TemplateCapabilities, TemplateError, encode_chat, encode_pairs,
        encode_text, encode_texts,
    },
    runner::Runner,
    system::memory,
    tools::Marks,
};

/// A model that answers requests.
pub struct LoadedModel {
    /// How the model was made.
    pub spec: Arc<ModelSpec>,
    /// When it was loaded.
    pub created: SystemTime,
    /// Identifies the model and the server's version. If it differs, the same seed may give other answers.
    pub fingerprint: String,
    /// Computes the answers.
    pub runner: Arc<dyn Runner>,
    /// The plugin's estimate of the model's memory. Empty until the plugin was asked.
    estimated_bytes: OnceLock<u64>,
    /// Level at which the model was loaded. None: that of its file.
    pub level: Option<String>,
    /// The chat templates. Err: why there is no chat, in words.
    templates: Result<ChatTemplates, String>,
    /// The template for the pairs of texts of a cross-encoder. None if the model is none. Err: why it cannot be used, in words.
    pair: Result<Option<PairTemplate>, String>,
    /// Earlier answers, for prompts that continue them.
    past_answers: Arc<PastAnswers>,
    /// Length of the longest token in bytes, at least 1.
    longest_token_bytes: usize,
    /// Tags around reasoning. None if the model does no reasoning.
    reasoning_tags: Option<ReasoningTags>,
    /// Control tokens that are text in answers, because they begin or end tool calls and reasoning.
    marks: Arc<[u32]>,
}

/// The prompt of a chat, encoded for the engine.
pub struct ChatPrompt {
    /// The prompt's tokens and checkpoints.
    pub input: PromptTokens,
    /// The part of the answer's reasoning that the prompt has already.
    pub reasoning: InPrompt,
}

/// Why a request could not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// The model has no usable chat template.
    #[error("this model cannot chat: {0}; use /v1/completions")]
    NoChat(String),
    /// The model is a cross-encoder, but its template for pairs cannot be used.
    #[error("this model cannot judge texts: {0}")]
    NoPair(String),
    /// The chat template refused the messages.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The text cannot fit into the context. This is known before the text is tokenized.
    #[error(
        "the text of {bytes} bytes has at least {at_least} tokens, but the context is {context} tokens long"
    )]
    TooLong {
        bytes: usize,
        at_least: usize,
        context: u32,
    },
    /// The tokenizer refused the text.
    #[error("the prompt cannot be tokenized: {0}")]
    Tokenizer(#[from] Error),
}

impl LoadedModel {
    /// Makes the model that this runner computes.
    pub fn new(spec: Arc<ModelSpec>, runner: Arc<dyn Runner>, level: Option<String>) -> Self {
        let (options, facts) = (&spec.chat, runner.facts());
        let templates = chat_templates(&facts, options);
        let shown = || {
            let of_format = options.tool_format.map(|format| format.texts().concat());
            let of_format = of_format.and_then(|texts| ReasoningTags::of_template(&texts));
            let source = templates.as_ref().ok()?.source();
            ReasoningTags::of_template(source).or(of_format)
        };
        let reasoning_tags = options.reasoning_tags.clone().unwrap_or_else(shown);
        let format = templates
            .as_ref()
            .ok()
            .map(|templates| templates.capabilities().tool_format);
        Self {
            fingerprint: fingerprint(&spec.backend, &facts.info),
            created: SystemTime::now(),
            spec,
            longest_token_bytes: longest_token_bytes(&facts.vocabulary),
            marks: marks(&facts.vocabulary, format, reasoning_tags.as_ref()),
            templates,
            pair: pair_template(&facts),
            past_answers: Arc::default(),
            reasoning_tags,
            estimated_bytes: OnceLock::new(),
            runner,
            level,
        }
    }

    /// Facts about the model.
    pub fn facts(&self) -> Arc<ModelFacts> {
        self.runner.facts()
    }

    /// The id of the plugin that runs the model, for example `org.tenon.echo`.
    pub fn backend(&self) -> &str {
        &self.spec.backend
    }

    /// Bytes of memory that the model's worker uses now. None if it has none, or has just ended.
    pub fn resident_bytes(&self) -> Option<u64> {
        self.runner.process_id().and_then(memory::resident_bytes)
    }

    /// Bytes of memory that the model takes: its plugin's estimate, or what its worker uses if that is more. Blocks.
    pub fn memory_bytes(&self) -> u64 {
        let estimate = || {
            let estimate = self.runner.memory_bytes(self.level.as_deref());
            estimate.unwrap_or_else(|_| self.facts().info.weight_bytes)
        };
        let estimated = *self.estimated_bytes.get_or_init(estimate);
        self.resident_bytes().unwrap_or(0).max(estimated)
    }

    /// Why the model cannot chat. None if it can.
    pub fn why_no_chat(&self) -> Option<&str> {
        self.templates.as_ref().err().map(String::as_str)
    }

    /// Capabilities of the chat template.
    pub fn capabilities(&self) -> Result<&TemplateCapabilities, PromptError> {
        Ok(self.templates()?.capabilities())
    }

    /// Tags around reasoning. None if the model does no reasoning.
    pub fn reasoning_tags(&self) -> Option<&ReasoningTags> {
        self.reasoning_tags.as_ref()
    }

    /// Control tokens that are text in answers to chats, because they begin or end tool calls and reasoning.
    pub fn marks(&self) -> &Arc<[u32]> {
        &self.marks
    }

    /// The tokens of [`marks`](Self::marks) with their texts.
    pub fn written_marks(&self) -> Marks {
        let facts = self.facts();
        let text = |token| String::from_utf8_lossy(facts.vocabulary.bytes(token)).into_owned();
        let marks = self.marks.iter().map(|&token| (text(token), token));
        marks.collect()
    }

    /// Renders the prompt of a chat. Takes a while for a long one.
    pub fn render_chat(&self, request: &RenderRequest) -> Result<RenderedChat, PromptError> {
        Ok(self.templates()?.render(request)?)
    }

    /// Renders and encodes a chat. Takes a while for a long one. With `recalls`, earlier answers get the tokens that the model
    /// wrote them with, so that more of the prompt is cached.
    pub fn encode_chat(
        &self,
        request: &RenderRequest,
        recalls: bool,
    ) -> Result<ChatPrompt, PromptError> {
        let chat = self.render_chat(request)?;
        self.check_length(chat.pieces().iter().map(String::len).sum())?;
        let facts = self.facts();
        let encoded = encode_chat(&chat, &*self.runner)?;
        let ends = match facts.forks_whole_only() {
            true => self.passing_ends(request, &encoded),
            false => Vec::new(),
        };
        let tokens = match recalls {
            true => self.as_written(encoded),
            false => encoded,
        };
        Ok(ChatPrompt {
            input: PromptTokens {
                checkpoints: checkpoints::beginnings(&tokens, &ends),
                tokens,
            },
            reasoning: self.reasoning_in(request, &chat),
        })
    }

    /// For each expected later prompt, the number of tokens at this prompt's end that the two do not share. Renders the later prompts
    /// for that.
    fn passing_ends(&self, request: &RenderRequest, tokens: &[u32]) -> Vec<u32> {
        let later = checkpoints::later_requests(request).into_iter();
        let later = later.filter_map(|request| {
            let rendered = self.render_chat(&request).ok()?;
            encode_chat(&rendered, &*self.runner).ok()
        });
        later
            .map(|later| checkpoints::passing_end(tokens, &later))
            .collect()
    }

    /// Gives earlier answers in a prompt the tokens that the model wrote them with.
    fn as_written(&self, prompt: Vec<u32>) -> Vec<u32> {
        let facts = self.facts();
        let longest = facts.context_length() as usize;
        let written = self
            .past_answers
            .as_written(prompt.clone(), &facts.vocabulary);
        // The result may have more tokens than the text needs.
        match written.len() < longest {
            true => written,
            false => prompt,
        }
    }

    /// Records the answer to this prompt while it is generated.
    pub fn recorder(&self, prompt: &[u32]) -> Recorder {
        Recorder::new(self.past_answers.clone(), prompt.to_vec())
    }

    /// The part of an answer's reasoning that the prompt has already.
    fn reasoning_in(&self, request: &RenderRequest, chat: &RenderedChat) -> InPrompt {
        let Some(tags) = &self.reasoning_tags else {
            return InPrompt::Nothing;
        };
        let last = request
            .messages
            .last()
            .and_then(|message| message["content"].as_str());
        match request.ending {
            Ending::OpenMessage => last.map_or(InPrompt::Nothing, |text| tags.in_begun(text)),
            Ending::GenerationPrompt if chat.ends_with(&tags.open) => InPrompt::Opened,
            Ending::GenerationPrompt if chat.ends_with(&tags.close) => InPrompt::Closed,
            Ending::GenerationPrompt | Ending::LastMessage => InPrompt::Nothing,
        }
    }

    fn templates(&self) -> Result<&ChatTemplates, PromptError> {
        let templates = self.templates.as_ref();
        templates.map_err(|why| PromptError::NoChat(why.clone()))
    }

    /// Encodes a plain text prompt, with the tokens that the model puts around it. Takes a while for a long text.
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>, PromptError> {
        let bos = self.facts().info.bos;
        self.encode_plain(text, Special::Added { bos })
    }

    /// Encodes plain texts as [`encode_text`](Self::encode_text) does.
    pub fn encode_texts(&self, texts: Vec<String>) -> Result<Vec<Vec<u32>>, PromptError> {
        for text in &texts {
            self.check_length(text.len())?;
        }
        let bos = self.facts().info.bos;
        Ok(encode_texts(texts, Special::Added { bos }, &*self.runner)?)
    }

    /// Encodes a plain text prompt with nothing around it.
    pub fn encode_bare_text(&self, text: &str) -> Result<Vec<u32>, PromptError> {
        self.encode_plain(text, Special::Left)
    }

    fn encode_plain(&self, text: &str, special: Special) -> Result<Vec<u32>, PromptError> {
        self.check_length(text.len())?;
        Ok(encode_text(text, special, &*self.runner)?)
    }

    /// Encodes pairs of a query and a document for a cross-encoder. None if the model is none.
    pub fn encode_pairs(
        &self,
        pairs: &[(Arc<str>, Arc<str>)],
    ) -> Result<Option<Vec<Vec<u32>>>, PromptError> {
        let pair = self.pair.as_ref();
        let Some(template) = pair.map_err(|why| PromptError::NoPair(why.clone()))? else {
            return Ok(None);
        };
        let render = |(query, document): &(Arc<str>, Arc<str>)| {
            self.check_length(query.len() + document.len())?;
            let pieces = template.render(query, document);
            pieces.ok_or(PromptError::Template(TemplateError::NoSentinel))
        };
        let rendered = pairs.iter().map(render).collect::<Result<_, _>>()?;
        Ok(Some(encode_pairs(rendered, &*self.runner)?))
    }

    /// Encodes any text. Takes a while for a long one.
    pub fn tokenize(&self, text: &str, flags: EncodeFlags) -> Result<Vec<u32>, PromptError> {
        self.check_length(text.len())?;
        Ok(self.runner.encode(text, flags)?)
    }

    /// Refuses text that certainly has more tokens than the context. The time of tokenizers may grow with the square of a
    /// text's length.
    fn check_length(&self, bytes: usize) -> Result<(), PromptError> {
        let (context, at_least) = (
            self.facts().context_length(),
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

impl Encoder for dyn Runner {
    type Error = Error;

    fn encode(&self, text: &str, flags: EncodeFlags) -> Result<Vec<u32>, Error> {
        Ok(self.tokenize(vec![(text.to_owned(), flags)])?.concat())
    }

    fn encode_all(&self, texts: Vec<(String, EncodeFlags)>) -> Result<Vec<Vec<u32>>, Error> {
        self.tokenize(texts)
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

fn longest_token_bytes(vocabulary: &Vocabulary) -> usize {
    let lengths = (0..vocabulary.len() as u32).map(|token| vocabulary.bytes(token).len());
    lengths.max().unwrap_or(0).max(1)
}
