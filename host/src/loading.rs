//! From the configuration to models that answer, while the server is up already.

use std::{fs, io::IsTerminal, num::NonZero, sync::Arc, thread::available_parallelism};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use tenon_plugin_api::{LoadArgs, SessionArgs};
use tracing::{error, info, warn};

use crate::{
    app::App,
    config::{self, Config, Threads},
    engine::{Engine, EngineLimits, EngineMetrics, EngineOptions, Loader},
    grammar::{GrammarMetrics, GrammarThreads, Grammars},
    model::{LoadedModel, ModelState},
    plugin::{Backend, Registry, RegistryOptions, ReportProgress},
};

/// Loads every model, one after the other. Those that fail say so in `/health`; an error if all of them do.
pub fn load_all(config: &Config, app: &Arc<App>) -> anyhow::Result<()> {
    let registry = registry(config)?;
    let threads = GrammarThreads::start(&config.grammar)?;
    let mut failures = Vec::new();
    for (model, served) in config.models.iter().zip(app.models()) {
        match load(model, config, &threads, &registry, app) {
            Ok(loaded) => {
                let backend = loaded.backend.clone();
                let why_no_chat = loaded.why_no_chat().map(str::to_owned);
                served.set_state(ModelState::Ready(Arc::new(loaded)));
                info!(model = served.id, backend, "model ready");
                if let Some(why) = why_no_chat {
                    warn!(model = served.id, "no chat with this model: {why}");
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
    Ok(Registry::load(&options))
}

fn load(
    model: &config::Model,
    config: &Config,
    threads: &GrammarThreads,
    registry: &Registry,
    app: &Arc<App>,
) -> anyhow::Result<LoadedModel> {
    let backend = registry.choose(&model.path, model.backend.as_deref())?;
    let template = model.chat_template.as_ref();
    let template = template
        .map(|path| {
            fs::read_to_string(path)
                .with_context(|| format!("cannot read the chat template {}", path.display()))
        })
        .transpose()?;
    let metrics = EngineMetrics::register(&app.metrics.registry, &model.id)?;
    let options = engine_options(model, &app.server);
    let engine = Engine::start(options, loader(model, backend, app), metrics)?;
    let metrics = GrammarMetrics::register(&app.metrics.registry, &model.id)?;
    let grammars = Grammars::new(&engine, &config.grammar, threads, metrics)?;
    let id = backend.descriptor().id.clone();
    Ok(LoadedModel::new(id, engine, grammars, template))
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
        tune_threads: threads == Threads::Auto,
    }
}

fn loader(model: &config::Model, backend: &Arc<Backend>, app: &Arc<App>) -> Loader {
    let args = LoadArgs {
        path: model.path.clone(),
        devices: model.devices.clone(),
        quantize: None,
        threads: thread_count(model.engine.threads),
        options: model.options.to_string(),
    };
    let (id, backend, app) = (model.id.clone(), backend.clone(), Arc::downgrade(app));
    Box::new(move || {
        let stop = {
            let app = app.clone();
            move || app.upgrade().is_none_or(|app| app.is_draining())
        };
        backend.load(&args, progress(&id, stop))
    })
}

/// Shows progress on a terminal and stops loading when the server stops.
fn progress(id: &str, stop: impl Fn() -> bool + Send + Sync + 'static) -> ReportProgress {
    if !std::io::stderr().is_terminal() {
        return Box::new(move |_, _| !stop());
    }
    let bar = ProgressBar::new(100).with_message(format!("loading {id}"));
    // The template is a constant that parses.
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:40}] {percent}% {elapsed}") {
        bar.set_style(style.progress_chars("=> "));
    }
    Box::new(move |fraction, _| {
        if let Some(fraction) = fraction {
            bar.set_position((fraction * 100.0) as u64);
        }
        !stop()
    })
}

/// At most: affinity and the limits of control groups are respected.
fn thread_count(threads: Threads) -> u32 {
    match threads {
        Threads::Auto => available_parallelism().map_or(1, NonZero::get) as u32,
        Threads::Fixed(count) => count.get(),
    }
}
