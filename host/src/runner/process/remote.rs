//! Models that compute in a worker, as the server sees them.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use tenon_plugin_api::{Code, EncodeFlags, Error, Result};
use tokio::{sync::watch, time::timeout};

use super::{
    connection::{Connection, PendingAnswer},
    messages::{Answer, Id, Order, Question, Submission},
    spawn::Spawner,
};
use crate::{
    engine::{
        ClientId, EmbeddingError, EngineEnd, Generation, PluginCalls, PromptTokens, Request,
        SubmitError,
    },
    grammar::{Grammar, GrammarError},
    plugin::{Current, ModelFacts, ReportProgress},
    runner::{CompiledForm, Maker, Runner, Steering},
};

/// The time that a worker gets to send its metrics.
const SCRAPE: Duration = Duration::from_secs(1);

/// Each load starts a worker.
impl Maker for Spawner {
    fn load(&self, level: Option<&str>, progress: ReportProgress) -> Result<Arc<dyn Runner>> {
        let connection = self.start()?;
        let level = level.map(str::to_owned);
        RemoteRunner::make(&connection, Question::Load { level }, progress)
    }
}

/// A model that computes in a worker.
struct RemoteRunner {
    connection: Arc<Connection>,
    id: Id,
    facts: Arc<ModelFacts>,
    failure: Current<Option<Error>>,
    end: watch::Receiver<()>,
}

impl RemoteRunner {
    /// Has the worker make a runner. Blocks until it is made.
    fn make(
        connection: &Arc<Connection>,
        question: Question,
        progress: ReportProgress,
    ) -> Result<Arc<dyn Runner>> {
        let id = connection.ids(1);
        let (failure, end) = connection.watch(id)?;
        let made = connection.ask(id, question, Some(progress))?;
        let Answer::Made(made) = made.wait()? else {
            return Err(unexpected());
        };
        Ok(Arc::new(Self {
            connection: connection.clone(),
            id,
            facts: made?,
            failure,
            end,
        }))
    }

    /// Asks the worker about this runner.
    fn ask(&self, question: Question) -> Result<PendingAnswer> {
        self.connection.ask(self.id, question, None)
    }

    async fn compile(&self, source: Grammar) -> std::result::Result<CompiledForm, GrammarError> {
        let (grammar, connection) = (self.connection.ids(1), self.connection.clone());
        let form = RemoteGrammar {
            connection,
            grammar,
        };
        let gone = |error: Error| match error.code {
            Code::INVALID => GrammarError::Invalid(error.message),
            _ => GrammarError::Gone(error.message),
        };
        let call = self
            .ask(Question::Compile { grammar, source })
            .map_err(gone)?;
        match call.get().await.map_err(gone)? {
            Answer::Compiled(unenforced) => Ok(CompiledForm::new(unenforced?, Arc::new(form))),
            _ => Err(gone(unexpected())),
        }
    }

    async fn submit(
        &self,
        request: Arc<Request>,
        steering: Steering,
        prompts: Vec<PromptTokens>,
        copies: u32,
    ) -> std::result::Result<Vec<Generation>, SubmitError> {
        let count = prompts.len() as u64 * u64::from(copies);
        let first = self.connection.ids(count);
        let readers = self.connection.readers(first, count);
        let readers = readers.map_err(SubmitError::Stopped)?;
        let form = steering.grammar.and_then(|form| form.of::<RemoteGrammar>());
        let submission = Submission {
            first,
            request,
            dry: steering.dry,
            grammar: form.as_ref().map(|form| form.grammar),
            reasoning: steering.reasoning,
            prompts,
            copies,
        };
        let call = self.ask(Question::Submit(Box::new(submission)));
        let answer = call.map_err(SubmitError::Stopped)?.get().await;
        match answer.map_err(SubmitError::Stopped)? {
            Answer::Submitted(submitted) => submitted.map(|()| readers),
            _ => Err(SubmitError::Stopped(unexpected())),
        }
    }

    async fn embed(
        &self,
        client: ClientId,
        texts: Vec<Vec<u32>>,
    ) -> std::result::Result<Vec<f32>, EmbeddingError> {
        let stopped = |error| EmbeddingError::Submit(SubmitError::Stopped(error));
        let call = self.ask(Question::Embed { client, texts });
        match call.map_err(stopped)?.get().await.map_err(stopped)? {
            Answer::Vectors(vectors) => vectors,
            _ => Err(stopped(unexpected())),
        }
    }
}

impl Runner for RemoteRunner {
    fn facts(&self) -> Arc<ModelFacts> {
        self.facts.clone()
    }

    fn tokenize(&self, texts: Vec<(String, EncodeFlags)>) -> Result<Vec<Vec<u32>>> {
        match self.ask(Question::Tokenize(texts))?.wait()? {
            Answer::Tokens(tokens) => tokens,
            _ => Err(unexpected()),
        }
    }

    fn compile(
        &self,
        grammar: Grammar,
    ) -> BoxFuture<'_, std::result::Result<CompiledForm, GrammarError>> {
        self.compile(grammar).boxed()
    }

    fn submit(
        &self,
        request: Arc<Request>,
        steering: Steering,
        prompts: Vec<PromptTokens>,
        copies: u32,
    ) -> BoxFuture<'_, std::result::Result<Vec<Generation>, SubmitError>> {
        self.submit(request, steering, prompts, copies).boxed()
    }

    fn embed(
        &self,
        client: ClientId,
        texts: Vec<Vec<u32>>,
    ) -> BoxFuture<'_, std::result::Result<Vec<f32>, EmbeddingError>> {
        self.embed(client, texts).boxed()
    }

    fn memory_bytes(&self, level: Option<&str>) -> Result<u64> {
        let level = level.map(str::to_owned);
        match self.ask(Question::Estimate { level })?.wait()? {
            Answer::Bytes(bytes) => bytes,
            _ => Err(unexpected()),
        }
    }

    fn beside(&self, level: &str, progress: ReportProgress) -> Result<Arc<dyn Runner>> {
        let (of, level) = (self.id, level.to_owned());
        Self::make(&self.connection, Question::Beside { of, level }, progress)
    }

    fn refresh_metrics(&self) -> BoxFuture<'_, ()> {
        async {
            let Ok(call) = self.ask(Question::Figures) else {
                return;
            };
            // The metrics of a worker that does not answer stay as they are.
            let _ = timeout(SCRAPE, call.get()).await;
        }
        .boxed()
    }

    fn end(&self) -> EngineEnd {
        EngineEnd::new(self.end.clone())
    }

    fn failure(&self) -> Option<Error> {
        self.failure.get()
    }

    fn failed(&self) -> BoxFuture<'static, Error> {
        self.failure.clone().filled().boxed()
    }

    fn process_id(&self) -> Option<u32> {
        self.connection.process_id
    }

    fn sequences(&self) -> usize {
        self.connection.sequences()
    }

    fn plugin_calls(&self) -> Option<PluginCalls> {
        None
    }
}

impl Drop for RemoteRunner {
    fn drop(&mut self) {
        self.connection.send(Order::Release { runner: self.id });
    }
}

/// A grammar that the worker compiled.
struct RemoteGrammar {
    connection: Arc<Connection>,
    grammar: Id,
}

impl Drop for RemoteGrammar {
    fn drop(&mut self) {
        let grammar = self.grammar;
        self.connection.send(Order::ForgetGrammar { grammar });
    }
}

fn unexpected() -> Error {
    Error::new(
        Code::INTERNAL,
        "the model's worker answered another question",
    )
}
