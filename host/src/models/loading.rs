//! Loads the configured models while the server already runs.

use std::{
    fs,
    sync::{Arc, Mutex, OnceLock},
};

use anyhow::{Context, bail};
use tenon_plugin_api::{LoadArgs, SessionArgs};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    ChatOptions, LoadedModel, ModelSpec, ModelState, ServedModel, restart::serve, weight_warnings,
};
use crate::{
    config::{self, Config, Isolation, Threads},
    engine::{EngineLimits, EngineMetrics, EngineOptions},
    grammar::{GrammarMetrics, GrammarThreads},
    metrics::{Figures, Metrics, WorkerMetrics},
    plugin::{EXECUTABLE, InstalledPlugin, Registry, RegistryOptions},
    runner::{Recipe, Spawner, Workshop, process::Start},
    system::cores,
};

/// Loads every model, one after the other. `/health` shows those that fail. An error only if all of them fail.
pub fn load_all(
    config: &Config,
    models: &[Arc<ServedModel>],
    metrics: &Metrics,
    draining: &CancellationToken,
) -> anyhow::Result<()> {
    let loading = Loading {
        config,
        metrics,
        draining,
        registry: registry(config)?,
        threads: OnceLock::new(),
    };
    let mut failures = Vec::new();
    for (model, served) in config.models.iter().zip(models) {
        warn_of_threads(model);
        match loading.load(model) {
            Ok(loaded) => {
                let backend = loaded.backend().to_owned();
                let why_no_chat = loaded.why_no_chat().map(str::to_owned);
                let warnings = weight_warnings(&loaded.facts().info);
                metrics.loaded(&served.id, &loaded.facts().info);
                serve(served, loaded);
                info!(model = served.id, backend, "model ready");
                if let Some(why) = why_no_chat {
                    warn!(model = served.id, "no chat with this model: {why}");
                }
                for warning in warnings {
                    warn!(model = served.id, "{warning}");
                }
            }
            Err(why) => {
                let why = format!("{why:#}");
                served.set_state(ModelState::Failed(why.clone()));
                failures.push((&served.id, why));
            }
        }
    }
    if failures.len() == config.models.len() {
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
struct Loading<'a> {
    config: &'a Config,
    metrics: &'a Metrics,
    draining: &'a CancellationToken,
    registry: Registry,
    threads: OnceLock<Arc<GrammarThreads>>,
}

impl Loading<'_> {
    fn load(&self, model: &config::Model) -> anyhow::Result<LoadedModel> {
        let spec = Arc::new(self.spec(model)?);
        let level = model.quantize.as_deref();
        Ok(spec.load(level, spec.progress())?)
    }

    fn spec(&self, model: &config::Model) -> anyhow::Result<ModelSpec> {
        let template = model.chat_template.as_ref();
        let template = template
            .map(|path| {
                fs::read_to_string(path)
                    .with_context(|| format!("cannot read the chat template {}", path.display()))
            })
            .transpose()?;
        let plugin = self
            .registry
            .plugin_for(&model.path, model.backend.as_deref())?;
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
        let library = plugin.library();
        announce(&self.metrics.workers, &model.id)?;
        Ok(Spawner {
            executable: EXECUTABLE.into(),
            library: library.with_context(|| format!("cannot open {}", plugin.path.display()))?,
            start: Start {
                recipe: recipe(model, self.config),
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
