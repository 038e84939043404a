//! Loads the configured models while the server already runs.

use std::{fs, sync::Arc};

use anyhow::{Context, bail};
use tenon_plugin_api::{Code, Error, LoadArgs, SessionArgs};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{ChatOptions, LoadedModel, ModelSpec, ModelState, ServedModel, weight_warnings};
use crate::{
    config::{self, Config, Threads},
    engine::{EngineLimits, EngineMetrics, EngineOptions},
    grammar::{GrammarMetrics, GrammarThreads},
    metrics::Metrics,
    plugin::{Registry, RegistryOptions},
    system::{cores, memory},
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
        threads: Arc::new(GrammarThreads::start(&config.grammar)?),
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
                served.set_state(ModelState::Ready(Arc::new(loaded)));
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
    threads: Arc<GrammarThreads>,
}

impl Loading<'_> {
    fn load(&self, model: &config::Model) -> anyhow::Result<LoadedModel> {
        let spec = Arc::new(self.spec(model)?);
        let level = model.quantize.as_deref();
        check_kv_pool(&spec, level, model.engine.kv_tokens)?;
        check_memory(&spec, level, model.engine.kv_tokens)?;
        Ok(spec.load(level, None, spec.progress())?)
    }

    fn spec(&self, model: &config::Model) -> anyhow::Result<ModelSpec> {
        let registered = &self.metrics.registry;
        let template = model.chat_template.as_ref();
        let template = template
            .map(|path| {
                fs::read_to_string(path)
                    .with_context(|| format!("cannot read the chat template {}", path.display()))
            })
            .transpose()?;
        Ok(ModelSpec {
            id: model.id.clone(),
            backend: self
                .registry
                .choose(&model.path, model.backend.as_deref())?,
            args: LoadArgs {
                path: model.path.clone(),
                devices: model.devices.clone(),
                quantize: None,
                threads: thread_count(model.engine.threads),
                options: model.options.to_string(),
                ..LoadArgs::default()
            },
            sampling: model.sampling,
            bounds: model.engine.requests,
            engine: engine_options(model, &self.config.server),
            metrics: EngineMetrics::register(registered, &model.id)?,
            grammar: self.config.grammar.clone(),
            grammar_threads: self.threads.clone(),
            grammar_metrics: GrammarMetrics::register(registered, &model.id)?,
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
}

/// Refuses a KV pool larger than the machine's memory. The system would grant it, but end the process once too much is
/// used.
fn check_kv_pool(spec: &ModelSpec, level: Option<&str>, kv_tokens: u32) -> anyhow::Result<()> {
    let Some(most) = memory::of_machine().filter(|_| kv_tokens > 0) else {
        return Ok(());
    };
    match estimate(spec.kv_bytes_on_cpu(level, kv_tokens))? {
        Some(bytes) if bytes > most => bail!(
            "a KV pool of {kv_tokens} tokens takes about {bytes} bytes, but the machine has {most}: choose a smaller kv_tokens"
        ),
        _ => Ok(()),
    }
}

/// Checks the memory limit as far as it is possible before loading. A backend that gives no estimates is not checked.
fn check_memory(spec: &ModelSpec, level: Option<&str>, kv_tokens: u32) -> anyhow::Result<()> {
    let Some(limit) = spec.memory_limit_bytes else {
        return Ok(());
    };
    match estimate(spec.memory_bytes(level, kv_tokens))? {
        Some(bytes) if bytes > limit => bail!(
            "it takes about {bytes} bytes, more than its memory_limit_bytes of {limit}: raise that, or choose a smaller level (quantize)"
        ),
        _ => Ok(()),
    }
}

/// A backend's estimate. None if the backend gives none.
fn estimate(bytes: Result<u64, Error>) -> Result<Option<u64>, Error> {
    match bytes {
        Err(error) if error.code == Code::UNSUPPORTED => Ok(None),
        bytes => bytes.map(Some),
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
