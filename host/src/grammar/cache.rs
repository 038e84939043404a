//! Compiles the grammars of one model, each once, and keeps them for later requests.

use std::{
    io,
    num::NonZeroUsize,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use llguidance::{CancellationHandle, api::TopLevelGrammar};
use lru::LruCache;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tenon_plugin_api::Vocabulary;
use tokio::{
    sync::{OnceCell, OwnedSemaphorePermit, Semaphore, oneshot},
    task::spawn_blocking,
    time::timeout,
};

use super::{
    CompiledGrammar, Grammar, GrammarError, GrammarMetrics, Workers,
    compile::Compiler,
    compiled::GrammarRuntime,
    environment::{ServedFacts, environment},
    matcher::STACK_BYTES,
    trial::{Tokens, Trials},
};
use crate::{
    config,
    plugin::CurrentFacts,
    system::{memory, niceness::give_way},
};

/// After a longer grammar text was compiled, free memory is given back to the operating system.
const LONG_TEXT_BYTES: usize = 64 << 10;

/// A compiled grammar, or why it could not be compiled. Empty until that is known.
type CacheEntry = Arc<OnceCell<Result<Arc<CompiledGrammar>, GrammarError>>>;
/// A hash of a grammar. Grammars with equal hashes are equal.
type GrammarHash = [u8; 32];

/// The threads and processes for grammars. All models share them.
pub struct GrammarThreads {
    workers: Arc<Workers>,
    /// A permit for each grammar that may be compiled at the same time.
    compiling: Arc<Semaphore>,
    trials: Arc<Trials>,
}

/// The compiled grammars of one model.
pub struct Grammars {
    compiler: Arc<Compiler>,
    runtime: Arc<GrammarRuntime>,
    /// The grammars by their hashes. Locked only while one is looked up or old ones are dropped.
    cache: Mutex<LruCache<GrammarHash, CacheEntry>>,
    compiling: Arc<Semaphore>,
    trials: Arc<Trials>,
    /// Time limit of a trial, and of compiling after the trial.
    compile_timeout: Duration,
    max_text_bytes: usize,
    cache_bytes: usize,
    /// The facts about the vocabulary that trials need.
    tokens: Arc<Tokens>,
    /// The vocabulary and the end tokens that the compiled grammars are made for.
    vocabulary: Arc<Vocabulary>,
    eos: Vec<u32>,
    served: ServedFacts,
}

/// A grammar that is to be compiled.
struct UncompiledGrammar {
    grammar: Grammar,
    key: GrammarHash,
    /// Whether the grammar's text is long.
    is_long: bool,
}

impl UncompiledGrammar {
    /// Hashes a grammar. This takes a while if its text is long; the text may be as long as a request.
    fn of(grammar: Grammar, max_bytes: usize) -> Result<Self, GrammarError> {
        let text = json(&grammar)?;
        let bytes = match &grammar {
            Grammar::Regex(text)
            | Grammar::Lark(text)
            | Grammar::Gbnf(text)
            | Grammar::LlGuidance(text) => text.len(),
            Grammar::JsonSchema(schema) => json(schema)?.len(),
            // The text of patterns is not written yet, and the patterns are longer: they repeat parts that the text has once.
            Grammar::Patterns(_) => 0,
        };
        check_length(bytes, max_bytes)?;
        Ok(Self {
            key: Sha256::digest(&text).into(),
            grammar,
            is_long: text.len() > LONG_TEXT_BYTES,
        })
    }
}

impl GrammarThreads {
    /// Starts the threads that match sequences. Threads that compile are started when they are needed.
    pub fn start(config: &config::Grammar) -> io::Result<Self> {
        Ok(Self {
            workers: Arc::new(Workers::start(config.mask_threads)?),
            compiling: Arc::new(Semaphore::new(config.compile_threads)),
            trials: Arc::default(),
        })
    }
}

impl Grammars {
    /// The grammars of a model, none compiled so far. Takes a while for a large vocabulary.
    pub fn new(
        current: &CurrentFacts,
        config: &config::Grammar,
        threads: &GrammarThreads,
        metrics: GrammarMetrics,
    ) -> anyhow::Result<Self> {
        let (facts, served) = (current.get(), ServedFacts::new(Some(current.clone())));
        let environment = environment(&facts, served.clone());
        let entries = NonZeroUsize::new(config.cache_entries).unwrap_or(NonZeroUsize::MIN);
        Ok(Self {
            compiler: Arc::new(Compiler::new(&environment, config)?),
            runtime: Arc::new(GrammarRuntime {
                workers: threads.workers.clone(),
                metrics,
                mask_words: facts.mask_words(),
                mask_timeout: config.mask_timeout,
            }),
            cache: Mutex::new(LruCache::new(entries)),
            compiling: threads.compiling.clone(),
            trials: threads.trials.clone(),
            compile_timeout: config.compile_timeout,
            max_text_bytes: config.max_text_bytes,
            cache_bytes: config.cache_bytes,
            tokens: Arc::new(Tokens::of(environment.tok_trie())),
            vocabulary: facts.vocabulary.clone(),
            eos: facts.info.eos.clone(),
            served,
        })
    }

    /// Uses the grammars for this model from now on, in place of the one before. Returns false, and changes nothing, if
    /// the model has other tokens.
    pub fn move_to(&self, current: &CurrentFacts) -> bool {
        let facts = current.get();
        let same = *self.vocabulary == *facts.vocabulary
            && self.eos == facts.info.eos
            && self.runtime.mask_words == facts.mask_words();
        if same {
            self.served.set(Some(current.clone()));
        }
        same
    }

    /// Drops the facts of a model that ends, unless another model has replaced it.
    pub fn leave(&self, current: &CurrentFacts) {
        let served = self.served.get();
        if served.is_some_and(|served| served.is_same(current)) {
            self.served.set(None);
        }
    }

    /// The compiled form of a grammar. Requests that need the same one at the same time wait for one compilation.
    pub async fn compile(&self, grammar: Grammar) -> Result<Arc<CompiledGrammar>, GrammarError> {
        let max_bytes = self.max_text_bytes;
        let uncompiled = spawn_blocking(move || UncompiledGrammar::of(grammar, max_bytes)).await;
        let uncompiled =
            uncompiled.map_err(|_| GrammarError::Invalid("reading it failed".into()))??;
        let is_long = uncompiled.is_long;
        let compiled = self.compile_once(uncompiled).await;
        if is_long {
            memory::give_back_soon();
        }
        compiled
    }

    async fn compile_once(
        &self,
        uncompiled: UncompiledGrammar,
    ) -> Result<Arc<CompiledGrammar>, GrammarError> {
        let entry = self.entry(uncompiled.key);
        if let Some(compiled) = entry.get() {
            self.runtime.metrics.cache_hits.inc();
            return compiled.clone();
        }
        self.runtime.metrics.cache_misses.inc();
        let compiled =
            entry.get_or_try_init(async || match self.compile_anew(uncompiled.grammar).await {
                // These errors may not occur again when the server is less busy.
                Err(error @ (GrammarError::Busy | GrammarError::Timeout(_))) => Err(error),
                compiled => Ok(compiled.map(Arc::new)),
            });
        let compiled = compiled.await?.clone();
        self.forget_oldest();
        compiled
    }

    /// Drops the least recently used grammars until the rest fits into `cache_bytes`. The latest one is kept whatever
    /// its size.
    fn forget_oldest(&self) {
        let size = |entry: &CacheEntry| match entry.get() {
            Some(Ok(compiled)) => compiled.bytes,
            _ => 0,
        };
        let cache = self.cache.lock();
        let mut cache = cache.unwrap_or_else(PoisonError::into_inner);
        let mut bytes: usize = cache.iter().map(|(_, entry)| size(entry)).sum();
        while bytes > self.cache_bytes && cache.len() > 1 {
            let oldest = cache.pop_lru();
            bytes -= oldest.map_or(0, |(_, entry)| size(&entry));
        }
    }

    fn entry(&self, key: GrammarHash) -> CacheEntry {
        let cache = self.cache.lock();
        let mut cache = cache.unwrap_or_else(PoisonError::into_inner);
        cache.get_or_insert(key, Default::default).clone()
    }

    async fn compile_anew(&self, grammar: Grammar) -> Result<CompiledGrammar, GrammarError> {
        // The longest time that another compilation may take.
        let longest = self.compile_timeout * 2;
        let permit = timeout(longest, self.compiling.clone().acquire_owned()).await;
        let permit = permit.map_err(|_| GrammarError::Busy)?;
        // The semaphore is never closed.
        let permit = permit.map_err(|_| GrammarError::Busy)?;
        let stop = Arc::new(OnceLock::new());
        let compiled = self.spawn(grammar, stop.clone(), permit);
        match timeout(longest, compiled).await {
            Ok(Ok(compiled)) => compiled,
            Ok(Err(_)) => Err(GrammarError::Invalid("compiling it failed".into())),
            Err(_) => {
                if let Some(stop) = stop.get() {
                    stop.cancel();
                }
                Err(GrammarError::Timeout(self.compile_timeout))
            }
        }
    }

    /// Compiles on a new thread, after a trial in another process, which can be stopped. Compiling here takes about as
    /// long as the trial did.
    fn spawn(
        &self,
        grammar: Grammar,
        stop: Arc<OnceLock<CancellationHandle>>,
        permit: OwnedSemaphorePermit,
    ) -> oneshot::Receiver<Result<CompiledGrammar, GrammarError>> {
        let (sender, receiver) = oneshot::channel();
        let (compiler, runtime) = (self.compiler.clone(), self.runtime.clone());
        let (trials, tokens) = (self.trials.clone(), self.tokens.clone());
        let (limit, max_text_bytes) = (self.compile_timeout, self.max_text_bytes);
        let compile = move || {
            give_way();
            let (metrics, started) = (runtime.metrics.clone(), Instant::now());
            let source = source(&grammar, &compiler, max_text_bytes);
            let compiled = source.and_then(|source| {
                let bytes = trials.run(&source, compiler.limits(), &tokens, limit)?;
                compiler.compile(source, runtime, bytes, &stop)
            });
            let seconds = started.elapsed().as_secs_f64();
            metrics.compile_seconds.observe(seconds);
            // The permit is free before anyone can know the result.
            drop(permit);
            // The client may have given up.
            let _ = sender.send(compiled);
        };
        let thread = thread::Builder::new().name("grammar".into());
        // If no thread can be started, the closure and its sender are dropped, and the receiver reports that.
        let _ = thread.stack_size(STACK_BYTES).spawn(compile);
        receiver
    }
}

/// A grammar in llguidance's form, the text of which has a limited length.
fn source(
    grammar: &Grammar,
    compiler: &Compiler,
    max_bytes: usize,
) -> Result<TopLevelGrammar, GrammarError> {
    let source = compiler.source(grammar)?;
    check_length(json(&source)?.len(), max_bytes)?;
    Ok(source)
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, GrammarError> {
    let json = serde_json::to_vec(value);
    json.map_err(|error| GrammarError::Invalid(error.to_string()))
}

fn check_length(bytes: usize, limit: usize) -> Result<(), GrammarError> {
    match bytes > limit {
        true => Err(GrammarError::TooLong { bytes, limit }),
        false => Ok(()),
    }
}
