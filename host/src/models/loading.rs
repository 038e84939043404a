//! Makes the configured models from their parts of the configuration.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
};

use anyhow::Context;
use tenon_plugin_api::{LoadArgs, SessionArgs};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{ChatOptions, ModelSource, ModelSpec, files::ModelFiles};
use crate::{
    config::{self, Config, Isolation, Sandbox, Threads},
    engine::{EngineLimits, EngineMetrics, EngineOptions},
    grammar::{GrammarMetrics, GrammarThreads},
    hub::{DownloadProgress, Hub},
    metrics::Metrics,
    plugin::{CurrentPlugins, EXECUTABLE, InstalledPlugin, Registry, RegistryOptions, TrustedKeys},
    runner::{Recipe, Spawner, Workshop, process::Start},
    system::cores,
};

/// The parts of loading that all models share.
#[derive(Clone)]
pub struct Loading {
    pub config: Config,
    pub metrics: Metrics,
    pub draining: CancellationToken,
    /// The plugins. Each load uses those that are current when it begins.
    pub plugins: CurrentPlugins,
    /// Fetches models that are on a hub.
    hub: Arc<dyn Hub>,
    threads: Arc<OnceLock<Arc<GrammarThreads>>>,
}

/// A model of the configuration.
pub struct ConfiguredModel {
    loading: Arc<Loading>,
    model: config::Model,
    files: ModelFiles,
    /// The workshop that makes the model in this process, and the plugins that its plugin was chosen from. All loads use the same
    /// workshop, because this process keeps the library.
    in_process: OnceLock<(Arc<Registry>, Arc<Workshop>)>,
}

impl ModelSource for ConfiguredModel {
    fn spec(&self) -> anyhow::Result<ModelSpec> {
        let Self { loading, model, .. } = self;
        let template = model.chat_template.as_ref();
        let template = template
            .map(|path| {
                fs::read_to_string(path)
                    .with_context(|| format!("cannot read the chat template {}", path.display()))
            })
            .transpose()?;
        let path = self.files.path();
        let path = path.context("its files were not fetched so far: load it")?;
        let plugins = self.plugins();
        let plugin = plugins.plugin_for(&path, model.backend.as_deref())?;
        let options = &plugin.facts.options;
        let checked = options.check_model(&model.id, &model.options);
        checked.map_err(anyhow::Error::msg)?;
        let is_isolated = model.engine.isolation == Isolation::Process;
        Ok(ModelSpec {
            id: model.id.clone(),
            backend: plugin.facts.id.clone(),
            plugin_version: plugin.facts.version.clone(),
            plugin_path: plugin.path.clone(),
            level: model.quantize.clone(),
            maker: match is_isolated {
                true => Box::new(loading.spawner(model, &path, &plugins, plugin)),
                false => Box::new(self.workshop(&path, &plugins)?),
            },
            max_restarts: model.engine.max_restarts(),
            restarts: loading.metrics.worker_restarts(&model.id),
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

    fn fetch(&self) -> anyhow::Result<()> {
        self.files.fetch(&self.model.id, &self.loading.draining)
    }

    fn path(&self) -> Option<PathBuf> {
        self.files.path()
    }

    fn download(&self) -> Option<DownloadProgress> {
        self.files.download()
    }
}

impl ConfiguredModel {
    /// A model of `loading`'s configuration.
    pub fn new(loading: &Arc<Loading>, model: &config::Model) -> Self {
        warn_of_threads(model);
        Self {
            loading: loading.clone(),
            model: model.clone(),
            files: ModelFiles::new(&model.path, &loading.hub),
            in_process: OnceLock::new(),
        }
    }

    /// The plugins that the model's plugin is chosen from.
    fn plugins(&self) -> Arc<Registry> {
        match self.in_process.get() {
            Some((plugins, _)) => plugins.clone(),
            None => self.loading.plugins.get(),
        }
    }

    fn workshop(&self, path: &Path, plugins: &Arc<Registry>) -> anyhow::Result<Arc<Workshop>> {
        if let Some((_, workshop)) = self.in_process.get() {
            return Ok(workshop.clone());
        }
        let workshop = Arc::new(self.loading.workshop(&self.model, path, plugins)?);
        let in_process = || (plugins.clone(), workshop);
        Ok(self.in_process.get_or_init(in_process).1.clone())
    }
}

impl Loading {
    /// Everything that is needed to load the models of this configuration with these plugins.
    pub fn new(
        config: Config,
        metrics: &Metrics,
        draining: &CancellationToken,
        plugins: &CurrentPlugins,
        hub: Arc<dyn Hub>,
    ) -> Self {
        Self {
            hub,
            config,
            metrics: metrics.clone(),
            draining: draining.clone(),
            plugins: plugins.clone(),
            threads: Arc::default(),
        }
    }

    /// Everything that is needed to load the models of another configuration.
    pub fn of(&self, config: Config) -> Self {
        Self {
            config,
            ..self.clone()
        }
    }

    /// Shows the metrics of a model before its first load.
    ///
    /// # Errors
    /// The metrics cannot be registered.
    pub fn announce(&self, model: &config::Model) -> anyhow::Result<()> {
        // Metrics that have ended stay in `/metrics` with their counts, which are 0.
        drop(counted(&model.id, &self.metrics)?);
        Ok(())
    }

    fn spawner(
        &self,
        model: &config::Model,
        path: &Path,
        plugins: &Registry,
        plugin: &InstalledPlugin,
    ) -> Spawner {
        Spawner {
            executable: EXECUTABLE.into(),
            plugins: self.plugins.clone(),
            start: Start {
                recipe: recipe(model, path, &self.config),
                plugin: plugin.path.clone(),
                plugin_id: plugin.facts.id.clone(),
                options: plugins.options_of(&plugin.facts.id),
                cache: plugins.cache().to_owned(),
                log_format: self.config.server.log_format,
                sandbox: model.engine.sandbox,
                stuck_timeout: model.engine.stuck_timeout,
                load_timeout: model.engine.load_timeout,
                // Each worker's is set when it starts.
                own_limit_bytes: None,
            },
            metrics: self.metrics.models.clone(),
        }
    }

    fn workshop(
        &self,
        model: &config::Model,
        path: &Path,
        plugins: &Registry,
    ) -> anyhow::Result<Workshop> {
        let backend = plugins.choose(path, model.backend.as_deref())?;
        let (metrics, grammar_metrics) = counted(&model.id, &self.metrics)?;
        Ok(Workshop {
            recipe: recipe(model, path, &self.config),
            backend,
            grammar_threads: self.threads()?,
            metrics,
            grammar_metrics,
            stop: self.draining.clone(),
            grammars: Mutex::default(),
            // Readers in this process are tasks, which the events wake by themselves.
            on_events: Arc::new(|| {}),
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
    options.sandbox = sandbox_of_trials(config);
    options.trusted_keys = TrustedKeys(config.plugins.trusted_keys.clone());
    let models = config.models.iter();
    // Plugins are asked about models on a hub once these are fetched.
    let paths = models.filter_map(|model| model.path.local());
    options.models = paths.map(Path::to_owned).collect();
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

/// The sandbox of plugins while they are tried out: off if it is off for a model.
fn sandbox_of_trials(config: &Config) -> Sandbox {
    let of_folders = config.folders.iter().map(|folder| &folder.model);
    let mut models = config.models.iter().chain(of_folders);
    match models.any(|model| model.engine.sandbox == Sandbox::Off) {
        true => Sandbox::Off,
        false => Sandbox::Strict,
    }
}

/// Metrics of a model in this process, which `metrics` show.
fn counted(model: &str, metrics: &Metrics) -> prometheus::Result<(EngineMetrics, GrammarMetrics)> {
    let registry = prometheus::Registry::new();
    let engine = EngineMetrics::register(&registry, model)?;
    let grammars = GrammarMetrics::register(&registry, model)?;
    let shown = metrics.models.counted_in(registry);
    Ok((engine.shown_by(shown), grammars))
}

fn recipe(model: &config::Model, path: &Path, config: &Config) -> Recipe {
    Recipe {
        model: model.id.clone(),
        args: LoadArgs {
            path: path.to_owned(),
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
            // A new worker is started instead.
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
