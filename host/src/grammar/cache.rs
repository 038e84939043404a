//! The grammars of one model: each is compiled once.

use std::{
    io,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use lru::LruCache;
use serde_json::json;
use tenon_plugin_api::Vocabulary;
use tokio::{
    sync::{OnceCell, OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};

use super::{
    CompiledGrammar, Grammar, GrammarError, GrammarMetrics, Workers,
    compile::Compiler,
    environment::{CurrentTokenizer, environment},
};
use crate::{config, engine::Engine};

/// Compiles are deep where schemas are.
const STACK_BYTES: usize = 8 << 20;
/// Compiles give way to the threads that compute.
const NICENESS: libc::c_int = 10;

/// Threads that all models share.
pub struct GrammarThreads {
    workers: Arc<Workers>,
    /// A permit for each grammar that may be compiled at the same time.
    compiling: Arc<Semaphore>,
}

/// The grammars of one model.
pub struct Grammars {
    compiler: Arc<Compiler>,
    shared: Arc<Shared>,
    /// By content. Held for as long as a look-up takes.
    cache: Mutex<LruCache<String, Arc<OnceCell<Arc<CompiledGrammar>>>>>,
    compiling: Arc<Semaphore>,
    compile_timeout: Duration,
    /// What they are about.
    vocabulary: Arc<Vocabulary>,
    eos: Vec<u32>,
    tokenizer: CurrentTokenizer,
}

/// What all grammars of a model have in common.
pub struct Shared {
    pub workers: Arc<Workers>,
    pub metrics: GrammarMetrics,
    /// `ceil(logits_width / 32)`
    pub mask_words: usize,
    pub mask_timeout: Duration,
}

impl GrammarThreads {
    /// Starts them.
    pub fn start(config: &config::Grammar) -> io::Result<Self> {
        Ok(Self {
            workers: Arc::new(Workers::start(config.mask_threads)?),
            compiling: Arc::new(Semaphore::new(config.compile_threads)),
        })
    }
}

impl Grammars {
    /// Takes a while for a large vocabulary.
    pub fn new(
        engine: &Engine,
        config: &config::Grammar,
        threads: &GrammarThreads,
        metrics: GrammarMetrics,
    ) -> anyhow::Result<Self> {
        let tokenizer = CurrentTokenizer::default();
        tokenizer.set(Some(engine.tokenizer().clone()));
        let entries = NonZeroUsize::new(config.cache_entries).unwrap_or(NonZeroUsize::MIN);
        Ok(Self {
            compiler: Arc::new(Compiler::new(
                &environment(engine, tokenizer.clone()),
                config,
            )?),
            shared: Arc::new(Shared {
                workers: threads.workers.clone(),
                metrics,
                mask_words: engine.info().logits_width.div_ceil(32) as usize,
                mask_timeout: config.mask_timeout,
            }),
            cache: Mutex::new(LruCache::new(entries)),
            compiling: threads.compiling.clone(),
            compile_timeout: config.compile_timeout,
            vocabulary: engine.vocabulary().clone(),
            eos: engine.info().eos.clone(),
            tokenizer,
        })
    }

    /// Serves this engine from now on instead of the one before. `false`: its tokens are others.
    pub fn move_to(&self, engine: &Engine) -> bool {
        let info = engine.info();
        let same = *self.vocabulary == **engine.vocabulary()
            && self.eos == info.eos
            && self.shared.mask_words == info.logits_width.div_ceil(32) as usize;
        if same {
            self.tokenizer.set(Some(engine.tokenizer().clone()));
        }
        same
    }

    /// Keeps nothing of the engine, until they move to another one.
    pub fn leave_engine(&self) {
        self.tokenizer.set(None);
    }

    /// The compiled form of a grammar. Requests that need the same one at the same time wait for one compilation.
    pub async fn compile(&self, grammar: Grammar) -> Result<Arc<CompiledGrammar>, GrammarError> {
        let entry = self.entry(key(&grammar));
        if let Some(compiled) = entry.get() {
            self.shared.metrics.cache_hits.inc();
            return Ok(compiled.clone());
        }
        self.shared.metrics.cache_misses.inc();
        let compiled = entry.get_or_try_init(|| self.compile_anew(grammar));
        compiled.await.cloned()
    }

    fn entry(&self, key: String) -> Arc<OnceCell<Arc<CompiledGrammar>>> {
        let cache = self.cache.lock();
        let mut cache = cache.unwrap_or_else(PoisonError::into_inner);
        cache.get_or_insert(key, Default::default).clone()
    }

    async fn compile_anew(&self, grammar: Grammar) -> Result<Arc<CompiledGrammar>, GrammarError> {
        let permit = timeout(self.compile_timeout, self.compiling.clone().acquire_owned()).await;
        let permit = permit.map_err(|_| GrammarError::Busy)?;
        // The semaphore is never closed.
        let permit = permit.map_err(|_| GrammarError::Busy)?;
        let compiled = self.spawn(grammar, permit);
        match timeout(self.compile_timeout, compiled).await {
            Ok(Ok(compiled)) => Ok(Arc::new(compiled?)),
            Ok(Err(_)) => Err(GrammarError::Invalid("compiling it failed".into())),
            Err(_) => Err(GrammarError::Timeout(self.compile_timeout)),
        }
    }

    /// Compiles on a thread of its own. It cannot be stopped, but its fuel ends: until then it keeps its permit.
    fn spawn(
        &self,
        grammar: Grammar,
        permit: OwnedSemaphorePermit,
    ) -> oneshot::Receiver<Result<CompiledGrammar, GrammarError>> {
        let (sender, receiver) = oneshot::channel();
        let (compiler, shared) = (self.compiler.clone(), self.shared.clone());
        let compile = move || {
            give_way();
            let (metrics, started) = (shared.metrics.clone(), Instant::now());
            let compiled = compiler.compile(&grammar, shared);
            let seconds = started.elapsed().as_secs_f64();
            metrics.compile_seconds.observe(seconds);
            // The client may have given up.
            let _ = sender.send(compiled);
            drop(permit);
        };
        let thread = thread::Builder::new().name("grammar".into());
        // Where no thread can be started, the sender is dropped with the closure and the receiver says so.
        let _ = thread.stack_size(STACK_BYTES).spawn(compile);
        receiver
    }
}

/// Grammars with equal keys are equal.
fn key(grammar: &Grammar) -> String {
    match grammar {
        Grammar::Regex(text) => json!(["regex", text]).to_string(),
        Grammar::Lark(text) => json!(["lark", text]).to_string(),
        Grammar::JsonSchema(schema) => json!(["json_schema", schema]).to_string(),
        Grammar::LlGuidance(text) => json!(["llguidance", text]).to_string(),
        Grammar::Pieces(pieces) => format!("{pieces:?}"),
    }
}

/// Lowers the priority of the calling thread; on Linux, that of the thread alone.
fn give_way() {
    // SAFETY: it only changes a number in the kernel. Where that is not allowed, the thread keeps its priority.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS);
    }
}
