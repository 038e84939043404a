//! From the configuration to models that answer, while the server is up already.

use std::{fs, num::NonZero, sync::Arc, thread::available_parallelism};

use anyhow::{Context, bail};
use tenon_plugin_api::{Code, LoadArgs, SessionArgs};
use tracing::{error, info, warn};

use crate::{
    app::App,
    config::{self, Config, Threads},
    engine::{EngineLimits, EngineMetrics, EngineOptions},
    grammar::{GrammarMetrics, GrammarThreads},
    model::{ChatOptions, LoadedModel, ModelState},
    plugin::{Registry, RegistryOptions},
    source::{Source, weight_warnings},
};

/// Loads every model, one after the other. Those that fail say so in `/health`; an error if all of them do.
pub fn load_all(config: &Config, app: &Arc<App>) -> anyhow::Result<()> {
    let registry = registry(config)?;
    let threads = Arc::new(GrammarThreads::start(&config.grammar)?);
    let mut failures = Vec::new();
    for (model, served) in config.models.iter().zip(app.models()) {
        match load(model, config, &threads, &registry, app) {
            Ok(loaded) => {
                let backend = loaded.backend().to_owned();
                let why_no_chat = loaded.why_no_chat().map(str::to_owned);
                let warnings = weight_warnings(loaded.engine.info());
                app.metrics.loaded(&served.id, loaded.engine.info());
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
    // A plugin that has one pool of threads for all its models makes it now.
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

fn load(
    model: &config::Model,
    config: &Config,
    threads: &Arc<GrammarThreads>,
    registry: &Registry,
    app: &Arc<App>,
) -> anyhow::Result<LoadedModel> {
    let source = Arc::new(source(model, config, threads, registry, app)?);
    let level = model.quantize.as_deref();
    check_memory(&source, level, model.engine.kv_tokens)?;
    Ok(source.load(level, None, source.progress())?)
}

fn source(
    model: &config::Model,
    config: &Config,
    threads: &Arc<GrammarThreads>,
    registry: &Registry,
    app: &Arc<App>,
) -> anyhow::Result<Source> {
    let template = model.chat_template.as_ref();
    let template = template
        .map(|path| {
            fs::read_to_string(path)
                .with_context(|| format!("cannot read the chat template {}", path.display()))
        })
        .transpose()?;
    Ok(Source {
        id: model.id.clone(),
        backend: registry
            .choose(&model.path, model.backend.as_deref())?
            .clone(),
        args: LoadArgs {
            path: model.path.clone(),
            devices: model.devices.clone(),
            quantize: None,
            threads: thread_count(model.engine.threads),
            options: model.options.to_string(),
        },
        sampling: model.sampling,
        engine: engine_options(model, &app.server),
        metrics: EngineMetrics::register(&app.metrics.registry, &model.id)?,
        grammar: config.grammar.clone(),
        grammar_threads: threads.clone(),
        grammar_metrics: GrammarMetrics::register(&app.metrics.registry, &model.id)?,
        chat: ChatOptions {
            template,
            tool_format: model.tool_format,
            reasoning_tags: model.reasoning_tags.clone(),
        },
        memory_limit_bytes: model.memory_limit_bytes,
        in_place: model.requantize == config::Requantize::InPlace,
        app: Arc::downgrade(app),
    })
}

/// As far as it can be known before loading: a backend that gives no estimates is not held to it.
fn check_memory(source: &Source, level: Option<&str>, kv_tokens: u32) -> anyhow::Result<()> {
    let Some(limit) = source.memory_limit_bytes else {
        return Ok(());
    };
    match source.memory_bytes(level, kv_tokens) {
        Ok(bytes) if bytes > limit => bail!(
            "it takes about {bytes} bytes, more than its memory_limit_bytes of {limit}: raise that, or choose a smaller level (quantize)"
        ),
        Ok(_) => Ok(()),
        Err(error) if error.code == Code::UNSUPPORTED => Ok(()),
        Err(error) => Err(error.into()),
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
            write_timeout: server.write_timeout,
        },
        calibration: (threads == Threads::Auto).then(Arc::default),
    }
}

/// At most: affinity and the limits of control groups are respected.
fn thread_count(threads: Threads) -> u32 {
    match threads {
        Threads::Auto => available_parallelism().map_or(1, NonZero::get) as u32,
        Threads::Fixed(count) => count.get(),
    }
}
