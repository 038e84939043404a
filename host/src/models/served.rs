//! A model's names and state.

use std::{
    future::pending,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::{OwnedMutexGuard, watch},
    time::timeout,
};

use super::{LoadedModel, ModelSpec, source::ModelSource};
use crate::{config, engine::EngineEnd, hub::DownloadProgress, plugin::Current};

/// A served model, loaded or not: its settings and its state. Clones share the state.
#[derive(Clone)]
pub struct ServedModel {
    /// The name that requests use.
    pub id: String,
    /// Other names that requests may use. An alias that ends with `*` stands for all names that begin with the text before the
    /// `*`.
    pub aliases: Vec<String>,
    /// When the server began to serve it, loaded or not.
    pub since: SystemTime,
    /// Whether requests load the model by its settings.
    pub on_demand: bool,
    /// The time without a request after which it is unloaded. None: never.
    pub idle_unload: Option<Duration>,
    /// Limits of what one request may ask for.
    pub bounds: config::RequestBounds,
    /// How many times within ten minutes it is loaded again after its worker ended. None: it has no worker.
    pub max_restarts: Option<u32>,
    /// How it is made. Known once the plugins were tried out.
    source: Current<Option<Arc<dyn ModelSource>>>,
    /// When a request last asked for it.
    last_use: Arc<Mutex<Instant>>,
    /// Number of times that it was started again after its worker ended.
    restarts: Arc<AtomicU32>,
    /// Whether it was unloaded to make room for another model.
    gave_way: Arc<AtomicBool>,
    /// Bytes of memory that it took when it was last loaded. 0: unknown.
    last_bytes: Arc<AtomicU64>,
    /// Bytes of the memory budget that are set aside for a load that is under way.
    reserved_bytes: Arc<AtomicU64>,
    /// Number of tasks that wait to put the model away.
    unwanted: watch::Sender<u32>,
    /// Changes while the server runs. Locked only for a clone.
    state: watch::Sender<ModelState>,
    /// Locked while the model is changed.
    former: Arc<tokio::sync::Mutex<FormerModels>>,
}

/// How long to wait for the permission to change a model. The result of a change is visible a moment before its permission is
/// free.
const LETTING_GO: Duration = Duration::from_millis(100);

/// Permission to change a model: its level, or whether it is loaded. Tracks the previous models until their last request ends.
pub type RightToChange = OwnedMutexGuard<FormerModels>;

/// Says that a model is not to be started again. Whoever does so gives up before the next try.
pub struct NotWanted(watch::Sender<u32>);

impl Drop for NotWanted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Previous models that are about to end.
#[derive(Clone, Default)]
pub struct FormerModels(Vec<(EngineEnd, u64)>);

impl FormerModels {
    /// Adds a model, with the bytes that it takes until it ends.
    pub fn push(&mut self, end: EngineEnd, bytes: u64) {
        self.0.push((end, bytes));
    }

    /// Bytes of the models that have not ended.
    pub fn bytes(&mut self) -> u64 {
        self.0.retain(|(end, _)| !end.has_come());
        self.0.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Waits until one of them has ended. Never ready if there is none.
    pub async fn one_ended(&self) {
        let ends = self.0.iter().map(|(end, _)| end.clone().wait());
        let mut ends: FuturesUnordered<_> = ends.collect();
        if ends.next().await.is_none() {
            pending().await
        }
    }

    /// Waits until all of them have ended.
    pub async fn ended(&mut self) {
        for (end, _) in &self.0 {
            end.clone().wait().await;
        }
        self.0.clear();
    }
}

/// Bytes of the memory budget that are set aside for a load. Dropping it gives them back.
pub struct Reserved(Arc<AtomicU64>);

impl Drop for Reserved {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// State of a served model.
#[derive(Clone)]
pub enum ModelState {
    /// The model is being loaded.
    Loading,
    /// The model answers.
    Ready(Arc<LoadedModel>),
    /// The model is not loaded. Why it could not be loaded last time, if a request tried that.
    Unloaded(Option<String>),
    /// The model's worker ended, for this reason, and is started again.
    Restarting(String),
    /// The model does not answer, for this reason.
    Failed(String),
}

impl ServedModel {
    /// A model of the configuration.
    pub fn of(model: &config::Model) -> Self {
        let served = Self::new(model.id.clone(), model.aliases.clone()).with_settings_of(model);
        if model.engine.load == config::Load::OnDemand {
            served.set_state(ModelState::Unloaded(None));
        }
        served
    }

    /// The same model with the settings of its entry in the configuration.
    pub fn with_settings_of(&self, model: &config::Model) -> Self {
        Self {
            aliases: model.aliases.clone(),
            on_demand: model.engine.loads_on_request(),
            idle_unload: model.engine.idle_unload,
            bounds: model.engine.requests,
            max_restarts: model.engine.max_restarts(),
            ..self.clone()
        }
    }

    /// A model that is about to be loaded.
    pub fn new(id: String, aliases: Vec<String>) -> Self {
        Self {
            id,
            aliases,
            since: SystemTime::now(),
            on_demand: false,
            idle_unload: None,
            bounds: config::RequestBounds::default(),
            max_restarts: None,
            source: Current::default(),
            last_use: Arc::new(Mutex::new(Instant::now())),
            restarts: Arc::default(),
            gave_way: Arc::default(),
            last_bytes: Arc::default(),
            reserved_bytes: Arc::default(),
            unwanted: watch::Sender::new(0),
            state: watch::Sender::new(ModelState::Loading),
            former: Arc::default(),
        }
    }

    /// Sets how the model is made from now on.
    pub fn set_source(&self, source: Arc<dyn ModelSource>) {
        self.source.set(Some(source));
    }

    /// How the model is made. Waits until that is known.
    pub async fn source(&self) -> Arc<dyn ModelSource> {
        self.source.clone().filled().await
    }

    /// How the model is made now by the plugin that made it before. If that cannot be said, because a file of it is gone: as before. Blocks.
    pub fn spec_now(&self, before: &Arc<ModelSpec>) -> Arc<ModelSpec> {
        let spec = self.source.get().and_then(|source| source.spec().ok());
        let spec = spec.filter(|spec| spec.backend == before.backend);
        spec.map_or_else(|| before.clone(), Arc::new)
    }

    /// Its file or directory. None if that is not on this machine, or not known so far.
    pub fn path(&self) -> Option<PathBuf> {
        self.source.get()?.path()
    }

    /// The progress of the download of its files. None if no download runs.
    pub fn download(&self) -> Option<DownloadProgress> {
        self.source.get()?.download()
    }

    /// The permission to change the model, held until it is dropped. None if someone else holds it.
    pub async fn begin_change(&self) -> Option<RightToChange> {
        timeout(LETTING_GO, self.change()).await.ok()
    }

    /// The permission to change the model, as soon as nobody else holds it.
    pub async fn change(&self) -> RightToChange {
        self.former.clone().lock_owned().await
    }

    /// Says that the model is not to be started again, for as long as the result exists.
    pub fn not_wanted(&self) -> NotWanted {
        self.unwanted.send_modify(|count| *count += 1);
        NotWanted(self.unwanted.clone())
    }

    /// Waits until someone says that the model is not to be started again.
    pub async fn unwanted(&self) {
        // The sender is in `self`.
        let _ = self.unwanted.subscribe().wait_for(|count| *count > 0).await;
    }

    /// Marks an unloaded model as being loaded, if requests load it. Returns whether the caller has to load it.
    pub fn begin_load(&self) -> bool {
        let begin = |state: &mut ModelState| {
            let begins = self.loads_on_request() && matches!(state, ModelState::Unloaded(_));
            if begins {
                *state = ModelState::Loading;
            }
            begins
        };
        self.state.send_if_modified(begin)
    }

    /// Whether a request loads the model if it is not loaded: by its settings, or because it was unloaded to make room.
    pub fn loads_on_request(&self) -> bool {
        self.on_demand || self.gave_way.load(Ordering::Relaxed)
    }

    /// Notes whether the model was unloaded to make room for another one.
    pub fn note_gave_way(&self, gave_way: bool) {
        self.gave_way.store(gave_way, Ordering::Relaxed);
    }

    /// Sets bytes of the memory budget aside for a load, until the result is dropped.
    pub fn reserve(&self, bytes: u64) -> Reserved {
        self.reserved_bytes.store(bytes, Ordering::Relaxed);
        Reserved(self.reserved_bytes.clone())
    }

    /// Bytes of the memory budget that are set aside for a load.
    pub fn reserved_bytes(&self) -> u64 {
        self.reserved_bytes.load(Ordering::Relaxed)
    }

    /// Notes that a request asks for the model.
    pub fn note_use(&self) {
        let mut last = self.last_use.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Instant::now();
    }

    /// Whether requests use the model. None if it does not answer.
    pub fn is_busy(&self) -> Option<bool> {
        match &*self.state.borrow() {
            // Requests hold the model until their sequences are submitted.
            ModelState::Ready(model) => {
                Some(Arc::strong_count(model) > 1 || model.runner.sequences() > 0)
            }
            _ => None,
        }
    }

    /// Notes how many bytes of memory the model takes.
    pub fn note_bytes(&self, bytes: u64) {
        self.last_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Bytes of memory that the model took when it was last loaded. 0: unknown.
    pub fn last_bytes(&self) -> u64 {
        self.last_bytes.load(Ordering::Relaxed)
    }

    /// When a request last used the model: now if one does. None if the model does not answer.
    pub fn last_use(&self) -> Option<Instant> {
        if self.is_busy()? {
            self.note_use();
        }
        Some(*self.last_use.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts that the model was started again after its worker ended.
    pub fn count_restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of times that the model was started again after its worker ended.
    pub fn restarts(&self) -> u32 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Whether this is one of the model's names.
    pub fn is_called(&self, name: &str) -> bool {
        self.id == name || self.aliases.iter().any(|alias| alias == name)
    }

    /// Whether an alias that ends with `*` stands for this name.
    pub fn may_be_called(&self, name: &str) -> bool {
        let aliases = self.aliases.iter();
        let mut beginnings = aliases.filter_map(|alias| alias.strip_suffix('*'));
        beginnings.any(|beginning| name.starts_with(beginning))
    }

    /// The state now. A model that broke no longer counts as ready, even if nothing was done about it so far.
    pub fn state(&self) -> ModelState {
        self.state.borrow().seen_now()
    }

    /// Waits while the model is started again or is loaded for requests. Returns its state then.
    pub async fn settled(&self) -> ModelState {
        let is_settled = |state: &ModelState| match state.seen_now() {
            ModelState::Restarting(_) => false,
            ModelState::Loading => !self.loads_on_request(),
            _ => true,
        };
        self.wait_for(is_settled).await
    }

    /// Waits until the model is loaded, or its first load has failed.
    pub async fn tried(&self) {
        self.wait_for(|state| !matches!(state, ModelState::Loading))
            .await;
    }

    /// Waits until the model answers.
    pub async fn ready(&self) {
        self.wait_for(|state| matches!(state, ModelState::Ready(_)))
            .await;
    }

    async fn wait_for(&self, is_awaited: impl FnMut(&ModelState) -> bool) -> ModelState {
        let mut changes = self.state.subscribe();
        match changes.wait_for(is_awaited).await {
            Ok(state) => state.seen_now(),
            // The sender is in `self`.
            Err(_) => self.state(),
        }
    }

    /// Whether new requests get this model, or would if it had not broken.
    pub fn answers_with(&self, model: &Arc<LoadedModel>) -> bool {
        matches!(&*self.state.borrow(), ModelState::Ready(current) if Arc::ptr_eq(current, model))
    }

    /// Sets the state. Running requests keep the model that they began with.
    pub fn set_state(&self, state: ModelState) {
        self.state.send_replace(state);
    }
}

impl ModelState {
    fn seen_now(&self) -> Self {
        match self {
            Self::Ready(model) => match model.runner.failure() {
                Some(error) if model.spec.max_restarts.is_some() => Self::Restarting(error.message),
                Some(error) => Self::Failed(error.message),
                None => self.clone(),
            },
            other => other.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_may_stand_for_all_names_with_its_beginning() {
        let aliases = ["gpt", "claude-*"].map(str::to_owned);
        let model = ServedModel::new("small".to_owned(), aliases.to_vec());
        for (name, is_called, may_be_called) in [
            ("small", true, false),
            ("gpt", true, false),
            ("gpt-4", false, false),
            ("claude-opus", false, true),
            ("claude-", false, true),
            ("claude", false, false),
        ] {
            assert_eq!(model.is_called(name), is_called, "{name}");
            assert_eq!(model.may_be_called(name), may_be_called, "{name}");
        }
    }
}
