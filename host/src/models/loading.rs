//! Loads the configured models while the server already runs.

use std::{
    fs,
    sync::{Arc, Mutex, OnceLock},
};

use anyhow::{Context, bail};
use tenon_plugin_api::{LoadArgs, SessionArgs};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{
    ChatOptions, ModelSpec, ServedModel, Source,
    lifecycle::{load_begun, unload_when_idle},
};
use crate::{
    config::{self, Config, Isolation, Load, Threads},
    engine::{EngineLimits, EngineMetrics, EngineOptions},
    grammar::{GrammarMetrics, GrammarThreads},
    metrics::{Figures, Metrics, WorkerMetrics},
    plugin::{EXECUTABLE, InstalledPlugin, Registry, RegistryOptions},
    runner::{Recipe, Spawner, Workshop, process::Start},
    system::cores,
};

/// Loads every model that is to be loaded at the start, one after the other. `/health` shows those that fail. An error only if all
/// models are to be loaded and fail.
pub fn load_all(
    config: Config,
    models: &[Arc<ServedModel>],
    metrics: &Metrics,
    draining: &CancellationToken,
) -> anyhow::Result<()> {
    let loading = Arc::new(Loading {
        metrics: metrics.clone(),
        draining: draining.clone(),
        registry: registry(&config)?,
        threads: OnceLock::new(),
        config,
    });
    for (model, served) in loading.config.models.iter().zip(models) {
        warn_of_threads(model);
        if model.engine.isolation == Isolation::Process {
            announce(&metrics.workers, &model.id)?;
        }
        served.set_source(Arc::new(ConfiguredModel {
            loading: loading.clone(),
            model: model.clone(),
            workshop: OnceLock::new(),
        }));
        if let Some(after) = model.engine.idle_unload {
            let unload = unload_when_idle(served.clone(), metrics.clone(), after);
            Handle::current().spawn(unload);
        }
    }
    load_at_start(models, &loading)
}

fn load_at_start(models: &[Arc<ServedModel>], loading: &Loading) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    for (model, served) in loading.config.models.iter().zip(models) {
        if model.engine.load == Load::OnDemand {
            continue;
        }
        let loaded = Handle::current().block_on(load_begun(served, &loading.metrics));
        if let Err(why) = loaded {
            failures.push((&served.id, why));
        }
    }
    if failures.len() == models.len() {
        let why: Vec<_> = failures.into_iter().map(|(_, why)| why).collect();
        bail!("no model can be served: {}", why.join("; "));
    }
    for (model, why) in failures {
        error!(model, "model failed: {why}");
    }
    Ok(())
}

fn registry(config: &Config) -> anyhow::Result<Registry> {
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
    Ok(Registry::load(&options))
}

/// What loading needs besides a model's own part of the configuration.
struct Loading {
    config: Config,
    metrics: Metrics,
    draining: CancellationToken,
    registry: Registry,
    threads: OnceLock<Arc<GrammarThreads>>,
}

/// A model of the configuration.
struct ConfiguredModel {
    loading: Arc<Loading>,
    model: config::Model,
    /// What makes the model in this process. All loads use the same one, because its metrics are registered once.
    workshop: OnceLock<Arc<Workshop>>,
}

impl Source for ConfiguredModel {
    fn spec(&self) -> anyhow::Result<ModelSpec> {
        let Self { loading, model, .. } = self;
        let template = model.chat_template.as_ref();
        let template = template
            .map(|path| {
                fs::read_to_string(path)
                    .with_context(|| format!("cannot read the chat template {}", path.display()))
            })
            .transpose()?;
        let plugin = loading
            .registry
            .plugin_for(&model.path, model.backend.as_deref())?;
        let is_isolated = model.engine.isolation == Isolation::Process;
        Ok(ModelSpec {
            id: model.id.clone(),
            backend: plugin.facts.id.clone(),
            plugin_version: plugin.facts.version.clone(),
            plugin_path: plugin.path.clone(),
            level: model.quantize.clone(),
            maker: match is_isolated {
                true => Box::new(loading.spawner(model, plugin)?),
                false => Box::new(self.workshop()?),
            },
            max_restarts: is_isolated.then_some(model.engine.max_restarts),
            bounds: model.engine.requests,
            max_queue: model.engine.max_queue,
            chat: ChatOptions {
                template,
                tool_format: model.tool_format,
                reasoning_tags: model.reasoning_tags.clone(),
                volatile_lines: loading.config.prompts.volatile_lines.clone(),
            },
            memory_limit_bytes: model.memory_limit_bytes,
            in_place: model.requantize == config::Requantize::InPlace,
            draining: loading.draining.clone(),
        })
    }
}

impl ConfiguredModel {
    fn workshop(&self) -> anyhow::Result<Arc<Workshop>> {
        if let Some(workshop) = self.workshop.get() {
            return Ok(workshop.clone());
        }
        let workshop = Arc::new(self.loading.workshop(&self.model)?);
        Ok(self.workshop.get_or_init(|| workshop).clone())
    }
}

impl Loading {
    fn spawner(&self, model: &config::Model, plugin: &InstalledPlugin) -> anyhow::Result<Spawner> {
        let library = plugin.library();
        Ok(Spawner {
            executable: EXECUTABLE.into(),
            library: library.with_context(|| format!("cannot open {}", plugin.path.display()))?,
            start: Start {
                recipe: recipe(model, &self.config),
                plugin: plugin.path.clone(),
                plugin_id: plugin.facts.id.clone(),
                options: self.registry.options_of(&plugin.facts.id),
                cache: self.registry.cache().to_owned(),
                log_format: self.config.server.log_format,
                sandbox: model.engine.sandbox,
                stuck_timeout: model.engine.stuck_timeout,
            },
            metrics: self.metrics.workers.clone(),
        })
    }

    fn workshop(&self, model: &config::Model) -> anyhow::Result<Workshop> {
        let registered = &self.metrics.registry;
        let backend = self
            .registry
            .choose(&model.path, model.backend.as_deref())?;
        Ok(Workshop {
            recipe: recipe(model, &self.config),
            backend,
            grammar_threads: self.threads()?,
            metrics: EngineMetrics::register(registered, &model.id)?,
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
