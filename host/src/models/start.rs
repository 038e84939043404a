//! Makes models and starts their engines.

use std::sync::Arc;

use tenon_plugin_api::{Code, Error};

use super::{LoadedModel, ModelSpec, progress::progress};
use crate::{
    engine::{Engine, Loader},
    grammar::Grammars,
    plugin::{CurrentFacts, Model, ReportProgress},
    system::niceness::{LongWork, giving_way},
};

impl ModelSpec {
    /// Loads the model at a level. None: at that of its file. Compiled `grammars` are reused if the model has the same tokens.
    /// `progress` is for this load, not for a reload after the plugin broke.
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
                // The model's sessions go on, but the model object must not be called again.
                current.set(None);
            }
            new
        })
    }

    /// Starts an engine. `first` makes the model now. If the plugin breaks, the model is loaded again at the same level.
    fn start(
        self: &Arc<Self>,
        level: Option<&str>,
        grammars: Option<Arc<Grammars>>,
        first: impl FnOnce() -> Result<Model, Error> + Send + 'static,
    ) -> Result<LoadedModel, Error> {
        let mut first = Some(first);
        let (backend, args) = (self.backend.clone(), self.args_at(level));
        let (id, draining) = (self.id.clone(), self.draining.clone());
        let sampling = self.sampling;
        let loader: Loader = Box::new(move || {
            let mut model = match first.take() {
                Some(first) => first(),
                None => backend.load(&args, progress(&id, draining.clone())),
            }?;
            model.recommend(sampling);
            Ok(model)
        });
        let metrics = self.metrics.of_another_engine();
        let (engine, facts) = Engine::start(self.engine.clone(), loader, metrics)?;
        let reused = grammars.filter(|grammars| grammars.move_to(&facts));
        let grammars = reused.map_or_else(|| self.grammars(&facts), Ok)?;
        let (spec, level) = (self.clone(), level.map(str::to_owned));
        Ok(LoadedModel::new(spec, engine, facts, grammars, level))
    }

    fn grammars(&self, facts: &CurrentFacts) -> Result<Arc<Grammars>, Error> {
        let metrics = self.grammar_metrics.clone();
        let grammars = Grammars::new(facts, &self.grammar, &self.grammar_threads, metrics);
        grammars
            .map(Arc::new)
            .map_err(|error| Error::new(Code::INTERNAL, error.to_string()))
    }
}
