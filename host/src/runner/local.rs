//! Models that compute in this process.

use std::{
    future::ready,
    iter::repeat_n,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{FutureExt, future::BoxFuture};
use tenon_plugin_api::{Code, EncodeFlags, Error};
use tokio::{runtime::Handle, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::{CompiledForm, Maker, Recipe, Runner, Steering};
use crate::{
    engine::{
        self, ClientId, EmbeddingError, Engine, EngineEnd, EngineMetrics, Generation, Loader,
        OnEvents, PluginCalls, PromptTokens, Request, SubmitError,
    },
    grammar::{CompiledGrammar, Grammar, GrammarError, GrammarMetrics, GrammarThreads, Grammars},
    plugin::{Backend, CurrentFacts, Model, ModelFacts, ReportProgress},
    system::{
        memory,
        niceness::{LongWork, giving_way},
    },
};

/// Makes runners of one model that compute in this process.
pub struct Workshop {
    /// The model's recipe.
    pub recipe: Recipe,
    /// The plugin that loads it.
    pub backend: Arc<Backend>,
    /// Metrics. All engines of the model use the same.
    pub metrics: EngineMetrics,
    /// Called when there may be events.
    pub on_events: OnEvents,
    /// Threads for grammars.
    pub grammar_threads: Arc<GrammarThreads>,
    /// Metrics of grammars. All engines of the model use the same.
    pub grammar_metrics: GrammarMetrics,
    /// Cancels long calls when the process is about to end.
    pub stop: CancellationToken,
    /// Compiled grammars. A later model with the same tokens uses them too.
    pub grammars: Mutex<Option<Arc<Grammars>>>,
}

/// A model that computes in this process.
struct LocalRunner {
    workshop: Arc<Workshop>,
    engine: Engine,
    metrics: EngineMetrics,
    facts: CurrentFacts,
    grammars: Arc<Grammars>,
}

impl Maker for Arc<Workshop> {
    fn load(
        &self,
        level: Option<&str>,
        progress: ReportProgress,
    ) -> Result<Arc<dyn Runner>, Error> {
        self.recipe.check_memory(&self.backend, level)?;
        // An earlier model has left freed memory behind.
        memory::give_back();
        let (backend, args) = (self.backend.clone(), self.recipe.args_at(level));
        self.start(level, move || backend.load(&args, progress))
    }
}

impl Workshop {
    /// Starts an engine. `first` makes the model now. If the plugin breaks, the model is loaded again at the same level.
    fn start(
        self: &Arc<Self>,
        level: Option<&str>,
        first: impl FnOnce() -> Result<Model, Error> + Send + 'static,
    ) -> Result<Arc<dyn Runner>, Error> {
        let mut first = Some(first);
        let (backend, args) = (self.backend.clone(), self.recipe.args_at(level));
        let (sampling, stop) = (self.recipe.sampling, self.stop.clone());
        let loader: Loader = Box::new(move || {
            let stop = stop.clone();
            let mut model = match first.take() {
                Some(first) => first(),
                None => backend.load(&args, Box::new(move |_, _| !stop.is_cancelled())),
            }?;
            model.recommend(sampling);
            Ok(model)
        });
        let metrics = self.metrics.of_another_engine();
        let options = self.recipe.engine.clone();
        let (engine, facts) =
            Engine::start(options, loader, metrics.clone(), self.on_events.clone())?;
        Ok(Arc::new(LocalRunner {
            metrics,
            workshop: self.clone(),
            grammars: self.grammars_of(&facts)?,
            engine,
            facts,
        }))
    }

    /// The compiled grammars so far, if they are for the same tokens. Else new ones.
    fn grammars_of(&self, facts: &CurrentFacts) -> Result<Arc<Grammars>, Error> {
        let grammars = self.grammars.lock();
        let mut grammars = grammars.unwrap_or_else(PoisonError::into_inner);
        if let Some(grammars) = grammars.as_ref().filter(|grammars| grammars.move_to(facts)) {
            return Ok(grammars.clone());
        }
        let (config, metrics) = (&self.recipe.grammar, self.grammar_metrics.clone());
        let new = Grammars::new(facts, config, &self.grammar_threads, metrics);
        let new = new.map_err(|error| Error::new(Code::INTERNAL, error.to_string()))?;
        Ok(grammars.insert(Arc::new(new)).clone())
    }
}

impl Runner for LocalRunner {
    fn facts(&self) -> Arc<ModelFacts> {
        self.facts.get().facts.clone()
    }

    fn tokenize(&self, texts: Vec<(String, EncodeFlags)>) -> Result<Vec<Vec<u32>>, Error> {
        let current = self.facts.get();
        let encode = |(text, flags): &(String, _)| current.tokenizer.encode(text, *flags);
        texts.iter().map(encode).collect()
    }

    fn compile(&self, grammar: Grammar) -> BoxFuture<'_, Result<CompiledForm, GrammarError>> {
        async {
            let compiled = self.grammars.compile(grammar).await?;
            let unenforced = compiled.unenforced().to_vec();
            Ok(CompiledForm::new(unenforced, compiled))
        }
        .boxed()
    }

    fn submit(
        &self,
        request: Arc<Request>,
        steering: Steering,
        prompts: Vec<PromptTokens>,
        copies: u32,
    ) -> BoxFuture<'_, Result<Vec<Generation>, SubmitError>> {
        let steering = engine::Steering {
            dry: steering.dry,
            grammar: steering
                .grammar
                .and_then(|form| form.of::<CompiledGrammar>()),
            reasoning: steering.reasoning,
        };
        let copies_of = |prompt| repeat_n(prompt, copies as usize);
        let prompts = prompts.into_iter().flat_map(copies_of).collect();
        async move { self.engine.submit(&request, &steering, prompts) }.boxed()
    }

    fn embed(
        &self,
        client: ClientId,
        texts: Vec<Vec<u32>>,
    ) -> BoxFuture<'_, Result<Vec<f32>, EmbeddingError>> {
        async move { self.engine.embed(client, texts)?.vectors().await }.boxed()
    }

    fn memory_bytes(&self, level: Option<&str>) -> Result<u64, Error> {
        let Workshop {
            recipe, backend, ..
        } = &*self.workshop;
        recipe.memory_bytes(backend, level, self.facts().granted.kv_tokens)
    }

    fn beside(&self, level: &str, progress: ReportProgress) -> Result<Arc<dyn Runner>, Error> {
        let _work = LongWork::begin();
        let (current, asked) = (self.engine.model(), level.to_owned());
        let backend = self.workshop.backend.clone();
        let args = self.workshop.recipe.args_at(Some(level));
        let new = self.workshop.start(Some(level), move || {
            let Some(model) = current.get() else {
                return backend.load(&args, progress);
            };
            let new = giving_way(|| model.requantize(&asked, progress));
            if matches!(&new, Err(error) if error.code == Code::PANICKED) {
                // The model's sessions go on, but the model object must not be called again.
                current.set(None);
            }
            new
        })?;
        give_memory_back_after(self.engine.end());
        Ok(new)
    }

    fn end(&self) -> EngineEnd {
        self.engine.end()
    }

    fn failure(&self) -> Option<Error> {
        self.engine.failure()
    }

    fn failed(&self) -> BoxFuture<'static, Error> {
        self.engine.failed().boxed()
    }

    fn refresh_metrics(&self) -> BoxFuture<'_, ()> {
        // The metrics of this process are always up to date.
        ready(()).boxed()
    }

    fn process_id(&self) -> Option<u32> {
        None
    }

    fn sequences(&self) -> usize {
        let count = self.metrics.running.get() + self.metrics.waiting.get();
        usize::try_from(count).unwrap_or_default()
    }

    fn plugin_calls(&self) -> Option<PluginCalls> {
        Some(self.engine.plugin_calls())
    }
}

/// Grammars outlive their model. They must not keep it in memory.
impl Drop for LocalRunner {
    fn drop(&mut self) {
        self.grammars.leave(&self.facts);
    }
}

/// Returns freed memory to the system when an engine has ended with its last request.
fn give_memory_back_after(end: EngineEnd) {
    Handle::current().spawn(async move {
        end.wait().await;
        // The task cannot fail.
        let _ = spawn_blocking(memory::give_back).await;
    });
}
