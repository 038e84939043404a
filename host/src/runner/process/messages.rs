//! What the server and a worker tell each other. Each message is a frame (`frames.rs`).

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tenon_plugin_api::{EncodeFlags, Error};

use crate::{
    config::{self, LogFormat},
    engine::{ClientId, DryOptions, EmbeddingError, Event, PromptTokens, Request, SubmitError},
    grammar::{Grammar, GrammarError},
    metrics::Figures,
    plugin::ModelFacts,
    runner::Recipe,
};

/// The number of a call, a runner, a grammar or a sequence. The server chooses it, and uses it once in the life of a worker.
pub type Id = u64;

/// The first message to a worker.
#[derive(Clone, Serialize, Deserialize)]
pub struct Start {
    /// What the model is made from.
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
    /// What the plugin may do.
    pub sandbox: config::Sandbox,
    /// How long a forward may take before the worker counts as stuck.
    pub stuck_timeout: Duration,
}

/// What the server asks of a worker.
#[derive(Serialize, Deserialize)]
pub enum Order {
    /// Load the model at a level.
    Load {
        call: Id,
        runner: Id,
        level: Option<String>,
    },
    /// Make the model at another level beside the runner `of`.
    Beside {
        call: Id,
        runner: Id,
        of: Id,
        level: String,
    },
    Tokenize {
        call: Id,
        runner: Id,
        texts: Vec<(String, EncodeFlags)>,
    },
    Compile {
        call: Id,
        runner: Id,
        grammar: Id,
        source: Grammar,
    },
    /// Queue `copies` sequences for each prompt. Their numbers begin with `first`.
    Submit {
        call: Id,
        runner: Id,
        first: Id,
        request: Arc<Request>,
        dry: Option<DryOptions>,
        grammar: Option<Id>,
        prompts: Vec<PromptTokens>,
        copies: u32,
    },
    Embed {
        call: Id,
        runner: Id,
        client: ClientId,
        texts: Vec<Vec<u32>>,
    },
    /// Estimate the memory of the model at a level.
    Estimate {
        call: Id,
        runner: Id,
        level: Option<String>,
    },
    /// Tell the metrics.
    Figures { call: Id },
    /// The reader of a sequence took events.
    Took { sequence: Id, events: u32 },
    /// The reader of a sequence left.
    Left { sequence: Id },
    /// Nobody waits for the answer to a call any more.
    Cancel { call: Id },
    /// Nobody uses a grammar any more.
    ForgetGrammar { grammar: Id },
    /// Nobody uses a runner any more. It ends with its last sequence.
    Release { runner: Id },
}

/// What a worker tells the server.
#[derive(Serialize, Deserialize)]
pub enum News {
    /// The answer to a call. It is the last word about it.
    Answer { call: Id, answer: Answer },
    /// How far a call is.
    Progress {
        call: Id,
        fraction: Option<f32>,
        what: String,
    },
    /// Events of sequences, in their order.
    Events(Vec<(Id, Event)>),
    /// The metrics of all runners.
    Figures(Figures),
    /// What the kernel cannot restrict, in a sentence.
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
    /// The worker has told its metrics before.
    Told,
}
