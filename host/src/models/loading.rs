//! Makes the configured models from their parts of the configuration.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex, OnceLock},
};

use anyhow::Context;
use tenon_plugin_api::{LoadArgs, SessionArgs};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{ChatOptions, LoadedModel, ModelSpec};
use crate::{
    config::{self, Config, Isolation, Threads},
    engine::{EngineLimits, EngineMetrics, EngineOptions},
    grammar::{GrammarMetrics, GrammarThreads},
    metrics::{Figures, Metrics, WorkerMetrics},
    plugin::{CurrentPlugins, EXECUTABLE, InstalledPlugin, RegistryOptions},
    runner::{Recipe, Spawner, Workshop, process::Start},
    system::cores,
};

/// What loading needs besides a model's own part of the configuration.
pub struct Loading<'a> {
    pub config: &'a Config,
    pub metrics: &'a Metrics,
    pub draining: &'a CancellationToken,
    pub plugins: &'a CurrentPlugins,
    threads: OnceLock<Arc<GrammarThreads>>,
    /// How each model is made, once a plugin was found that can.
    specs: RefCell<BTreeMap<String, Arc<ModelSpec>>>,
}

impl<'a> Loading<'a> {
    pub fn new(
        config: &'a Config,
        metrics: &'a Metrics,
        draining: &'a CancellationToken,
        plugins: &'a CurrentPlugins,
    ) -> Self {
        Self {
            config,
            metrics,
            draining,
            plugins,
            threads: OnceLock::new(),
            specs: RefCell::default(),
        }
    }

    /// Loads a model.
    ///
    /// # Errors
    /// No plugin can load it, or the one that can failed.
    pub fn load(&self, model: &config::Model) -> anyhow::Result<LoadedModel> {
        warn_of_threads(model);
        let spec = self.spec(model)?;
        let level = model.quantize.as_deref();
        Ok(spec.load(level, spec.progress())?)
    }

    /// How a model is made, which never changes once it is known.
    ///
    /// # Errors
    /// No plugin can load it, or its template cannot be read.
    pub fn spec(&self, model: &config::Model) -> anyhow::Result<Arc<ModelSpec>> {
        if let Some(spec) = self.specs.borrow().get(&model.id) {
            return Ok(spec.clone());
        }
        let spec = Arc::new(self.new_spec(model)?);
        let mut specs = self.specs.borrow_mut();
        specs.insert(model.id.clone(), spec.clone());
        Ok(spec)
    }

    fn new_spec(&self, model: &config::Model) -> anyhow::Result<ModelSpec> {
        let template = model.chat_template.as_ref();
        let template = template
            .map(|path| {
                fs::read_to_string(path)
                    .with_context(|| format!("cannot read the chat template {}", path.display()))
            })
            .transpose()?;
        let plugins = self.plugins.get();
        let plugin = plugins.plugin_for(&model.path, model.backend.as_deref())?;
        let is_isolated = model.engine.isolation == Isolation::Process;
        Ok(ModelSpec {
            id: model.id.clone(),
            backend: plugin.facts.id.clone(),
            maker: match is_isolated {
                true => Box::new(self.spawner(model, plugin)?),
                false => Box::new(Arc::new(self.workshop(model)?)),
            },
            max_restarts: is_isolated.then_some(model.engine.max_restarts),
            bounds: model.engine.requests,
            max_queue: model.engine.max_queue,
            chat: ChatOptions {
                template,
                tool_format: model.tool_format,
                reasoning_tags: model.reasoning_tags.clone(),
                volatile_lines: self.config.prompts.volatile_lines.clone(),
            },
            memory_limit_bytes: model.memory_limit_bytes,
            in_place: model.requantize == config::Requantize::InPlace,
            draining: self.draining.clone(),
        })
    }

    fn spawner(&self, model: &config::Model, plugin: &InstalledPlugin) -> anyhow::Result<Spawner> {
        let plugins = self.plugins.get();
        announce(&self.metrics.workers, &model.id)?;
        Ok(Spawner {
            executable: EXECUTABLE.into(),
            plugins: self.plugins.clone(),
            start: Start {
                recipe: recipe(model, self.config),
                plugin: plugin.path.clone(),
                plugin_id: plugin.facts.id.clone(),
                options: plugins.options_of(&plugin.facts.id),
                cache: plugins.cache().to_owned(),
                log_format: self.config.server.log_format,
                sandbox: model.engine.sandbox,
                stuck_timeout: model.engine.stuck_timeout,
            },
            metrics: self.metrics.workers.clone(),
        })
    }

    fn workshop(&self, model: &config::Model) -> anyhow::Result<Workshop> {
        let registered = &self.metrics.registry;
        let plugins = self.plugins.get();
        let backend = plugins.choose(&model.path, model.backend.as_deref())?;
        Ok(Workshop {
            recipe: recipe(model, self.config),
            backend,
            metrics: EngineMetrics::register(registered, &model.id)?,
            grammar_threads: self.threads()?,
            grammar_metrics: GrammarMetrics::register(registered, &model.id)?,
            stop: self.draining.clone(),
            grammars: Mutex::default(),
        })
    }

    /// The threads for grammars of this process. They are started when they are first needed.
    fn threads(&self) -> anyhow::Result<Arc<GrammarThreads>> {
        if let Some(threads) = self.threads.get() {
            return Ok(threads.clone());
        }
        let started = Arc::new(GrammarThreads::start(&self.config.grammar)?);
        Ok(self.threads.get_or_init(|| started).clone())
    }
}

/// Settings for the search of plugins.
pub fn registry_options(config: &Config) -> anyhow::Result<RegistryOptions> {
    let mut options = RegistryOptions::new(config.plugins.directories.clone())?;
    options.options = config.plugins.options.clone();
    options.try_timeout = config.plugins.try_timeout;
    let models = config.models.iter();
    options.models = models.map(|model| model.path.clone()).collect();
    // A plugin with one pool of threads for all its models makes the pool now.
    let threads = config
        .models
        .iter()
        .map(|model| thread_count(model.engine.threads));
    options.threads = threads.max().unwrap_or(options.threads);
    if let Some(cache) = &config.plugins.cache_directory {
        options.cache = cache.clone();
    }
    Ok(options)
}

/// Shows the metrics of a model before its first worker tells any.
fn announce(workers: &WorkerMetrics, model: &str) -> anyhow::Result<()> {
    let registry = prometheus::Registry::new();
    EngineMetrics::register(&registry, model)?;
    GrammarMetrics::register(&registry, model)?;
    workers.part().update(Figures::of(&registry));
    Ok(())
}

fn recipe(model: &config::Model, config: &Config) -> Recipe {
    Recipe {
        model: model.id.clone(),
        args: LoadArgs {
            path: model.path.clone(),
            devices: model.devices.clone(),
            quantize: None,
            threads: thread_count(model.engine.threads),
            options: model.options.to_string(),
            ..LoadArgs::default()
        },
        sampling: model.sampling,
        engine: engine_options(model, &config.server),
        grammar: config.grammar.clone(),
        memory_limit_bytes: model.memory_limit_bytes,
    }
}

fn engine_options(model: &config::Model, server: &config::Server) -> EngineOptions {
    let config::Engine {
        context_length,
        max_sequences,
        max_cached_sequences,
        kv_tokens,
        max_batch_tokens,
        max_step,
        max_draft_tokens,
        max_queue,
        requests,
        threads,
        ..
    } = model.engine;
    EngineOptions {
        name: format!("model {}", model.id),
        session: SessionArgs {
            max_sequences: max_sequences.saturating_add(max_cached_sequences),
            kv_tokens,
            context_length,
            max_batch_tokens,
            threads: thread_count(threads),
            ..SessionArgs::default()
        },
        max_queue,
        max_reloads: match model.engine.isolation {
            // Its worker is started again.
            Isolation::Process => 0,
            Isolation::None => 1,
        },
        limits: EngineLimits {
            max_running: max_sequences,
            max_draft_tokens,
            max_step,
            min_priority: requests.min_priority,
            write_timeout: server.write_timeout,
        },
        calibration: (threads == Threads::Auto).then(Arc::default),
    }
}

fn thread_count(threads: Threads) -> u32 {
    match threads {
        Threads::Auto => cores::available(),
        Threads::Fixed(count) => cores::limit(count.get()).0,
    }
}

fn warn_of_threads(model: &config::Model) {
    if let Threads::Fixed(count) = model.engine.threads
        && let (_, Some(warning)) = cores::limit(count.get())
    {
        warn!(model = model.id, "{warning}");
    }
}
