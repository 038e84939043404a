//! Where a served model comes from, kept so that it can be made again: after the plugin broke, or at another level.

use std::{
    io::IsTerminal,
    sync::{Arc, Weak},
};

use indicatif::{ProgressBar, ProgressStyle};
use tenon_plugin_api::{
    Code, Error, Interrupt, LoadArgs, ModelInfo, SamplingDefaults, SessionArgs, levels,
};

use crate::{
    app::App,
    config,
    engine::{Engine, EngineMetrics, EngineOptions, Loader},
    grammar::{GrammarMetrics, GrammarThreads, Grammars},
    model::{ChatOptions, LoadedModel},
    plugin::{Backend, Model, ReportProgress},
    priority::{LongWork, giving_way},
};

/// How a model is made.
pub struct Source {
    /// What requests call it.
    pub id: String,
    /// The plugin that loads it.
    pub backend: Arc<Backend>,
    /// What to load; each load has a level of its own.
    pub args: LoadArgs,
    /// Instead of what the model recommends.
    pub sampling: SamplingDefaults,
    /// How the engine runs.
    pub engine: EngineOptions,
    /// The same for each engine of the model.
    pub metrics: EngineMetrics,
    /// What grammars of requests may cost.
    pub grammar: config::Grammar,
    /// Shared by all models.
    pub grammar_threads: Arc<GrammarThreads>,
    /// The same for each engine of the model.
    pub grammar_metrics: GrammarMetrics,
    /// Instead of what the model says of its chats.
    pub chat: ChatOptions,
    /// Most memory that it may take.
    pub memory_limit_bytes: Option<u64>,
    /// Whether it may stop answering for a while where the memory is too small for two.
    pub in_place: bool,
    /// Ends long calls when the server stops.
    pub app: Weak<App>,
}

impl Source {
    /// Loads the model at a level; None: as its file is. It goes on with compiled `grammars` if it has the same tokens.
    /// `progress` is for this time, not for when the plugin breaks.
    pub fn load(
        self: &Arc<Self>,
        level: Option<&str>,
        grammars: Option<Arc<Grammars>>,
        progress: ReportProgress,
    ) -> Result<LoadedModel, Error> {
        let (backend, args) = (self.backend.clone(), self.args_at(level));
        self.start(level, grammars, move || backend.load(&args, progress))
    }

    /// Makes the model at another level while `current` goes on answering.
    pub fn beside(
        self: &Arc<Self>,
        current: &LoadedModel,
        level: &str,
        progress: ReportProgress,
    ) -> Result<LoadedModel, Error> {
        let _work = LongWork::begin();
        let grammars = Some(current.grammars.clone());
        let (current, asked) = (current.engine.model(), level.to_owned());
        let (backend, args) = (self.backend.clone(), self.args_at(Some(level)));
        self.start(Some(level), grammars, move || {
            let Some(model) = current.get() else {
                return backend.load(&args, progress);
            };
            let new = giving_way(|| model.requantize(&asked, progress));
            if matches!(&new, Err(error) if error.code == Code::PANICKED) {
                // Its sessions go on, but the object itself is not to be called again.
                current.clear();
            }
            new
        })
    }

    /// Memory that the model takes at a level, with a KV pool of `kv_tokens`.
    ///
    /// # Errors
    /// `UNSUPPORTED` for a backend that gives no estimates.
    pub fn memory_bytes(&self, level: Option<&str>, kv_tokens: u32) -> Result<u64, Error> {
        let session = &self.engine.session;
        let estimates = self.backend.estimate(&self.args_at(level), session)?;
        let bytes = estimates.iter().map(|estimate| {
            let kv = estimate.kv_bytes_per_token * u64::from(kv_tokens);
            let sequences = estimate.sequence_bytes * u64::from(session.max_sequences);
            estimate.weight_bytes + kv + sequences + estimate.compute_bytes
        });
        Ok(bytes.sum())
    }

    /// Shows progress on a terminal, and stops when the server stops.
    pub fn progress(&self) -> ReportProgress {
        progress(&self.id, self.app.clone())
    }

    fn args_at(&self, level: Option<&str>) -> LoadArgs {
        LoadArgs {
            quantize: level.map(str::to_owned),
            ..self.args.clone()
        }
    }

    /// `first` makes the model now; if the plugin breaks, it is loaded at the same level.
    fn start(
        self: &Arc<Self>,
        level: Option<&str>,
        grammars: Option<Arc<Grammars>>,
        first: impl FnOnce() -> Result<Model, Error> + Send + 'static,
    ) -> Result<LoadedModel, Error> {
        let mut first = Some(first);
        let (backend, args) = (self.backend.clone(), self.args_at(level));
        let (id, app) = (self.id.clone(), self.app.clone());
        let sampling = self.sampling;
        let loader: Loader = Box::new(move || {
            let mut model = match first.take() {
                Some(first) => first(),
                None => backend.load(&args, progress(&id, app.clone())),
            }?;
            model.recommend(sampling);
            Ok(model)
        });
        let options = EngineOptions {
            session: SessionArgs {
                interrupt: Interrupt::default(),
                ..self.engine.session.clone()
            },
            ..self.engine.clone()
        };
        let engine = Engine::start(options, loader, self.metrics.of_another_engine())?;
        let kept = grammars.filter(|grammars| grammars.move_to(&engine));
        let grammars = kept.map_or_else(|| self.grammars(&engine), Ok)?;
        let level = level.map(str::to_owned);
        Ok(LoadedModel::new(self.clone(), engine, grammars, level))
    }

    fn grammars(&self, engine: &Engine) -> Result<Arc<Grammars>, Error> {
        let metrics = self.grammar_metrics.clone();
        let grammars = Grammars::new(engine, &self.grammar, &self.grammar_threads, metrics);
        grammars
            .map(Arc::new)
            .map_err(|error| Error::new(Code::INTERNAL, error.to_string()))
    }
}

/// What somebody who runs this model should know about its weights, a sentence each.
pub fn weight_warnings(info: &ModelInfo) -> Vec<String> {
    let (level, source) = (&info.quantization, &info.source_quantization);
    let mut warnings = Vec::new();
    let known = levels::find(level).zip(levels::find(source));
    if let Some((to, from)) = known.filter(|(to, from)| to != from && from.tensor.block > 1) {
        warnings.push(match to.rank() < from.rank() {
            true => format!(
                "the model's file is at {source}: {level} takes more memory, but cannot restore what was lost"
            ),
            false => format!(
                "the model's file is at {source}: {level} made of it is worse than {level} made of the original weights"
            ),
        });
    }
    if info.fallback_tensors > 0 {
        warnings.push(format!(
            "tensors at another type than {level}, because their shape does not divide into its blocks: {}",
            info.fallback_tensors
        ));
    }
    warnings
}

fn progress(id: &str, app: Weak<App>) -> ReportProgress {
    let go_on = move || app.upgrade().is_some_and(|app| !app.is_draining());
    if !std::io::stderr().is_terminal() {
        return Box::new(move |_, _| go_on());
    }
    let bar = progress_bar(format!("loading {id}"));
    Box::new(move |fraction, _| {
        if let Some(fraction) = fraction {
            bar.set_position((fraction * 100.0) as u64);
        }
        go_on()
    })
}

/// A bar from 0 to 100 for a terminal.
pub fn progress_bar(message: String) -> ProgressBar {
    let bar = ProgressBar::new(100).with_message(message);
    // The template is a constant that parses.
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:40}] {percent}% {elapsed}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}
