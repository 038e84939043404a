//! The messages between the server and a worker. Each message is a frame (`frames.rs`).

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tenon_plugin_api::{EncodeFlags, Error};

use crate::{
    config::{self, LogFormat},
    engine::{ClientId, DryOptions, EmbeddingError, Event, PromptTokens, Request, SubmitError},
    grammar::{Grammar, GrammarError},
    metrics::Figures,
    plugin::ModelFacts,
    reasoning_budget::ReasoningBudget,
    runner::Recipe,
};

/// The number of a call, a runner, a grammar or a sequence. The server chooses it, and uses it once in the life of a worker.
pub type Id = u64;

/// The first message to a worker.
#[derive(Clone, Serialize, Deserialize)]
pub struct Start {
    /// The model's recipe.
    pub recipe: Recipe,
    /// The path of the plugin's file. The worker has the open file as its standard input.
    pub plugin: PathBuf,
    /// The plugin's id.
    pub plugin_id: String,
    /// Options of the plugin, a JSON object.
    pub options: String,
    /// Directory for files that plugins can make again.
    pub cache: PathBuf,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// The sandbox of the plugin.
    pub sandbox: config::Sandbox,
    /// How long a step may take before the worker counts as stuck.
    pub stuck_timeout: Option<Duration>,
    /// How long a load may take without a report of its progress before it counts as stuck.
    pub load_timeout: Duration,
    /// Bytes that the worker limits its memory to.
    pub own_limit_bytes: Option<u64>,
}

/// An order of the server to a worker.
#[derive(Serialize, Deserialize)]
pub enum Order {
    /// Answer a question about a runner.
    Ask {
        call: Id,
        runner: Id,
        question: Question,
    },
    /// Nobody waits for the answer to a call any more.
    Cancel { call: Id },
    /// The reader of a sequence took events.
    Took { sequence: Id, events: u32 },
    /// The reader of a sequence left.
    Left { sequence: Id },
    /// Nobody uses a grammar any more.
    ForgetGrammar { grammar: Id },
    /// Nobody uses a runner any more. It ends with its last sequence.
    Release { runner: Id },
}

/// A question of the server. Each has its [`Answer`].
#[derive(Serialize, Deserialize)]
pub enum Question {
    /// Load the model at a level. The runner gets this number.
    Load { level: Option<String> },
    /// Make the model at another level beside the runner `of`. The new runner gets this number.
    Beside { of: Id, level: String },
    /// The tokens of texts.
    Tokenize(Vec<(String, EncodeFlags)>),
    /// The compiled form of a grammar, which gets a number.
    Compile { grammar: Id, source: Grammar },
    /// Queue sequences.
    Submit(Box<Submission>),
    /// The vectors of a client's texts.
    Embed {
        client: ClientId,
        texts: Vec<Vec<u32>>,
    },
    /// The memory that the model takes at a level.
    Estimate { level: Option<String> },
    /// The metrics of all runners.
    Figures,
}

/// Sequences to queue: `copies` for each prompt.
#[derive(Serialize, Deserialize)]
pub struct Submission {
    /// The number of the first sequence. The others follow.
    pub first: Id,
    pub request: Arc<Request>,
    pub dry: Option<DryOptions>,
    pub grammar: Option<Id>,
    pub reasoning: Option<ReasoningBudget>,
    pub prompts: Vec<PromptTokens>,
    pub copies: u32,
}

/// News of a worker for the server.
#[derive(Serialize, Deserialize)]
pub enum News {
    /// The answer to a call. No other news of the call follows.
    Answer { call: Id, answer: Answer },
    /// The progress of a call.
    Progress {
        call: Id,
        fraction: Option<f32>,
        what: String,
    },
    /// Events of sequences, in their order.
    Events(Vec<(Id, Event)>),
    /// The metrics of all runners.
    Figures(Figures),
    /// A sentence about a restriction that the kernel does not support.
    Unrestricted(String),
    /// A runner's model no longer serves.
    Failed { runner: Id, error: Error },
    /// A runner has ended.
    Ended { runner: Id },
}

/// The answer to a call.
#[derive(Serialize, Deserialize)]
pub enum Answer {
    Made(Result<Arc<ModelFacts>, Error>),
    Tokens(Result<Vec<Vec<u32>>, Error>),
    /// Keywords that the grammar does not enforce.
    Compiled(Result<Vec<String>, GrammarError>),
    Submitted(Result<(), SubmitError>),
    Vectors(Result<Vec<f32>, EmbeddingError>),
    Bytes(Result<u64, Error>),
    /// The worker has sent its metrics before this answer.
    Told,
}
