//! Where models compute. Everything else uses them through the trait [`Runner`], and cannot tell where they compute.
//!
//! 1. A [`Recipe`] says what a model is made from, as plain data.
//! 2. A [`Maker`] makes runners from it. A [`Workshop`] makes them in this process (`local.rs`). A [`Spawner`] makes each in a
//!    worker, a process of its own (`process/`).
//!
//! Invariant: nothing here knows HTTP, text of answers or templates.

mod fit;
mod local;
pub mod process;
mod recipe;

use std::{any::Any, sync::Arc};

use futures_util::future::BoxFuture;
use tenon_plugin_api::{EncodeFlags, Error};

use crate::{
    engine::{
        ClientId, EmbeddingError, EngineEnd, Generation, PluginCalls, PromptTokens, Request,
        SubmitError,
    },
    grammar::{Grammar, GrammarError},
    plugin::{ModelFacts, ReportProgress},
};

pub use local::Workshop;
pub use process::Spawner;
pub use recipe::Recipe;

/// Makes runners of one model.
pub trait Maker: Send + Sync {
    /// Loads the model at a level. None: at that of its file. Blocks. `progress` is for this load, not for a reload after the
    /// plugin broke.
    ///
    /// # Errors
    /// The model cannot be loaded, or would take more memory than it may.
    fn load(&self, level: Option<&str>, progress: ReportProgress)
    -> Result<Arc<dyn Runner>, Error>;
}

/// A loaded model that computes. It ends when the last handle is dropped and its last request is over.
pub trait Runner: Send + Sync {
    /// Facts about the model. They are replaced if the model is loaded again after its plugin broke.
    fn facts(&self) -> Arc<ModelFacts>;

    /// Encodes texts, each by itself. Blocks; a long text takes a while.
    ///
    /// # Errors
    /// The tokenizer refuses a text.
    fn tokenize(&self, texts: Vec<(String, EncodeFlags)>) -> Result<Vec<Vec<u32>>, Error>;

    /// Compiles a grammar. Requests that need the same one share the result.
    ///
    /// # Errors
    /// The grammar cannot be used.
    fn compile(&self, grammar: Grammar) -> BoxFuture<'_, Result<CompiledForm, GrammarError>>;

    /// Queues `copies` sequences for each of a request's prompts, or none of them. The copies of a prompt come one after the
    /// other. Prompts that begin alike share the common prefix.
    ///
    /// # Errors
    /// The queue is full, or a prompt does not fit.
    fn submit(
        &self,
        request: Arc<Request>,
        steering: Steering,
        prompts: Vec<PromptTokens>,
        copies: u32,
    ) -> BoxFuture<'_, Result<Vec<Generation>, SubmitError>>;

    /// Embeds texts, each of 1 to `max_tokens` known tokens: `[texts, dimensions]`, each vector normalized to length 1.
    /// Dropping the future cancels the request, even while it is computed.
    ///
    /// # Errors
    /// The queue is full, or the backend failed.
    fn embed(
        &self,
        client: ClientId,
        texts: Vec<Vec<u32>>,
    ) -> BoxFuture<'_, Result<Vec<f32>, EmbeddingError>>;

    /// Memory that the model takes at a level, as its plugin estimates it. Blocks.
    ///
    /// # Errors
    /// `UNSUPPORTED` for a backend that gives no estimates.
    fn memory_bytes(&self, level: Option<&str>) -> Result<u64, Error>;

    /// Makes the model at another level while this one goes on answering. Blocks.
    ///
    /// # Errors
    /// The plugin cannot make it. This runner then goes on as before.
    fn beside(&self, level: &str, progress: ReportProgress) -> Result<Arc<dyn Runner>, Error>;

    /// The end of the runner: it comes after the last handle is dropped and the last sequence has ended.
    fn end(&self) -> EngineEnd;

    /// Why the model no longer serves. None while it does.
    fn failure(&self) -> Option<Error>;

    /// Waits until the model no longer serves. Never ready if it ends as intended.
    fn failed(&self) -> BoxFuture<'static, Error>;

    /// Updates the metrics of the model in `/metrics`.
    fn refresh_metrics(&self) -> BoxFuture<'_, ()>;

    /// The id of the worker's process. None if the model computes in this one.
    fn process_id(&self) -> Option<u32>;

    /// Number of sequences that wait or are computed.
    fn sequences(&self) -> usize;

    /// The stopwatches of the plugin's calls. None for a worker, which watches its own calls.
    fn plugin_calls(&self) -> Option<PluginCalls>;
}

/// The parts of a request that restrict the next token depending on the tokens so far.
pub type Steering = crate::engine::Steering<CompiledForm>;

/// A compiled grammar, as the runner that compiled it knows it. Only that runner can use it.
#[derive(Clone)]
pub struct CompiledForm {
    /// Keywords of a lenient schema that the grammar does not enforce.
    pub unenforced: Arc<[String]>,
    form: Arc<dyn Any + Send + Sync>,
}

impl CompiledForm {
    fn new(unenforced: Vec<String>, form: Arc<dyn Any + Send + Sync>) -> Self {
        let unenforced = unenforced.into();
        Self { unenforced, form }
    }

    /// The form that a runner of this kind compiled. None if it was another kind.
    fn of<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.form.clone().downcast().ok()
    }
}
