//! Loads, unloads and reloads models while they are served. Only one change of a model happens at a time.

use std::{sync::Arc, time::Duration};

use tenon_plugin_api::{Code, Error};
use tokio::{spawn, task::spawn_blocking, time::sleep};
use tracing::{error, info, warn};

use super::{
    Catalog, LoadedModel, ModelState, RightToChange, ServedModel,
    put_away::put_away,
    restart::{Ends, GivenUp, serve},
    room::{make_room, settle},
    served::Reserved,
    weight_warnings,
};

/// The time between two checks for idle models.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The result of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The model was loaded.
    Loaded,
    /// The model was loaded already.
    AlreadyLoaded,
    /// The model was unloaded. It ends with its last request.
    Unloaded,
    /// The model was not loaded.
    AlreadyUnloaded,
    /// The model was loaded again. New requests go to the new model, and the old one ends with its last request.
    Reloaded,
}

/// The level at which a model is loaded again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadLevel {
    /// The level that the model has.
    AsBefore,
    /// The level of the model's configuration.
    Configured,
}

/// Why a model was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Another change is under way.
    #[error("the model '{0}' is being changed or started again already: wait for that to end")]
    Busy(String),
    /// There is nothing to reload.
    #[error("the model '{0}' does not answer, so it cannot be reloaded: load it")]
    NotLoaded(String),
    /// The model cannot be loaded.
    #[error("the model '{id}' cannot be loaded: {why}")]
    Failed {
        /// Name of the model.
        id: String,
        /// The reason that the plugin or the host gives.
        why: String,
    },
}

/// The state in which a request finds the model. If requests load the model, it is loaded first, once for all requests that wait.
pub async fn state_for_request(served: &Arc<ServedModel>, catalog: &Catalog) -> ModelState {
    served.note_use();
    if served.begin_load() {
        let (served, catalog) = (served.clone(), catalog.clone());
        spawn(async move {
            if let Err(why) = load_begun(&served, &catalog).await {
                error!(model = served.id, "model failed: {why:#}");
            }
        });
    }
    served.settled().await
}

/// Loads a model whose state is `Loading`. Does nothing if another change has set another state since.
///
/// # Errors
/// Why the model cannot be loaded.
pub async fn load_begun(served: &Arc<ServedModel>, catalog: &Catalog) -> anyhow::Result<()> {
    let _right = served.change().await;
    match served.state() {
        ModelState::Loading => finish_load(served, catalog).await.or_else(unless_unwanted),
        _ => Ok(()),
    }
}

/// Loads a model that is not loaded.
///
/// # Errors
/// Another change is under way, or the model cannot be loaded.
pub async fn load(served: &Arc<ServedModel>, catalog: &Catalog) -> Result<Change, ChangeError> {
    load_with(begin(served).await?, served, catalog).await
}

/// Loads a model that is not loaded, with the permission to change it.
///
/// # Errors
/// The model cannot be loaded.
pub async fn load_with(
    _right: RightToChange,
    served: &Arc<ServedModel>,
    catalog: &Catalog,
) -> Result<Change, ChangeError> {
    if let ModelState::Ready(_) = served.state() {
        return Ok(Change::AlreadyLoaded);
    }
    served.set_state(ModelState::Loading);
    let loaded = finish_load(served, catalog).await;
    loaded.map_err(|why| failed(served, &why, "the model cannot be loaded"))?;
    Ok(Change::Loaded)
}

/// Unloads a model. Its running requests finish on it, and its memory is free once they have.
///
/// # Errors
/// Another change is under way.
pub async fn unload(served: &Arc<ServedModel>, catalog: &Catalog) -> Result<Change, ChangeError> {
    let _unwanted = served.not_wanted();
    let right = match served.state() {
        // It is started again, which ends with the try that is under way.
        ModelState::Restarting(_) => served.change().await,
        _ => begin(served).await?,
    };
    if let ModelState::Unloaded(None) = served.state() {
        return Ok(Change::AlreadyUnloaded);
    }
    served.note_gave_way(false);
    put_away(right, served, catalog, ModelState::Unloaded(None)).await;
    info!(model = served.id, "model unloaded");
    Ok(Change::Unloaded)
}

/// Unloads a model that is no longer served, as soon as nobody else changes it. No request loads it again.
pub async fn retire(served: &Arc<ServedModel>, catalog: &Catalog) {
    let _unwanted = served.not_wanted();
    let right = served.change().await;
    let state = ModelState::Failed("it was removed from the configuration".to_owned());
    put_away(right, served, catalog, state).await;
}

/// Loads a model again, at the level that it has, while it goes on answering. New requests go to the new model as soon as it is
/// loaded. If it cannot be loaded, the old one stays.
///
/// # Errors
/// Another change is under way, or the model does not answer or cannot be loaded.
pub async fn reload(served: &Arc<ServedModel>, catalog: &Catalog) -> Result<Change, ChangeError> {
    reload_at(ReloadLevel::AsBefore, begin(served).await?, served, catalog).await
}

/// Loads a model again at a level, with the permission to change it.
///
/// # Errors
/// The model does not answer or cannot be loaded.
pub async fn reload_at(
    level: ReloadLevel,
    mut right: RightToChange,
    served: &Arc<ServedModel>,
    catalog: &Catalog,
) -> Result<Change, ChangeError> {
    let ModelState::Ready(current) = served.state() else {
        return Err(ChangeError::NotLoaded(served.id.clone()));
    };
    let like = (level == ReloadLevel::AsBefore).then(|| current.clone());
    let new = make(served, like, catalog).await;
    let what = "the model cannot be loaded again and goes on as before";
    let (new, _reserved) = new.map_err(|why| failed(served, &why, what))?;
    let info = &current.facts().info;
    catalog.metrics.unloaded(&served.id, info);
    right.push(current.runner.end(), info.weight_bytes);
    answer_with(served, catalog, new);
    Ok(Change::Reloaded)
}

/// Unloads models that have had no request for as long as their settings say. Never returns.
pub async fn unload_idle(catalog: Catalog) {
    loop {
        for served in &catalog.now().models {
            let idle = served.last_use().map(|last| last.elapsed());
            let most = served.idle_unload;
            if idle.zip(most).is_some_and(|(idle, most)| idle >= most) {
                // If another change is under way, the model is not idle.
                let _ = unload(served, &catalog).await;
            }
        }
        sleep(LOOK_INTERVAL).await;
    }
}

async fn begin(served: &ServedModel) -> Result<RightToChange, ChangeError> {
    let right = served.begin_change().await;
    right.ok_or_else(|| ChangeError::Busy(served.id.clone()))
}

/// Loads a model. If its worker dies during the load, the load is repeated as often as after a later death.
async fn finish_load(served: &Arc<ServedModel>, catalog: &Catalog) -> anyhow::Result<()> {
    let mut ends = Ends::default();
    loop {
        let why = match make(served, None, catalog).await {
            Ok((model, reserved)) => {
                answer_with(served, catalog, model);
                drop(reserved);
                settle(served, catalog).await;
                return Ok(());
            }
            Err(why) => why,
        };
        let Some((death, most)) = death(&why).zip(served.max_restarts) else {
            let told = format!("{why:#}");
            served.set_state(match served.loads_on_request() {
                true => ModelState::Unloaded(Some(told)),
                false => ModelState::Failed(told),
            });
            return Err(why);
        };
        ends.pause_after(death, most, served).await?;
    }
}

/// A load that ends because someone unloads the model has not failed.
fn unless_unwanted(why: anyhow::Error) -> anyhow::Result<()> {
    match why.downcast_ref() {
        Some(GivenUp::NotWanted(_)) => Ok(()),
        _ => Err(why),
    }
}

/// The end of the worker that was to load a model. None: the load failed for another reason.
fn death(why: &anyhow::Error) -> Option<&Error> {
    let error = why.downcast_ref::<Error>()?;
    (error.code == Code::DEVICE_LOST).then_some(error)
}

/// Makes a model, in memory that is set aside for it if there is a memory budget.
async fn make(
    served: &ServedModel,
    like: Option<Arc<LoadedModel>>,
    catalog: &Catalog,
) -> anyhow::Result<(LoadedModel, Option<Reserved>)> {
    let source = served.source().await;
    let fetched = source.clone();
    spawn_blocking(move || fetched.fetch()).await??;
    let reserved = make_room(served, catalog).await?;
    let model = spawn_blocking(move || source.load(like.as_deref())).await??;
    Ok((model, reserved))
}

fn answer_with(served: &Arc<ServedModel>, catalog: &Catalog, model: LoadedModel) {
    served.note_use();
    served.note_gave_way(false);
    let backend = model.backend().to_owned();
    let why_no_chat = model.why_no_chat().map(str::to_owned);
    let info = model.facts().info.clone();
    catalog.metrics.loaded(&served.id, &info);
    serve(served, model);
    info!(model = served.id, backend, "model ready");
    if let Some(why) = why_no_chat {
        warn!(model = served.id, "no chat with this model: {why}");
    }
    for warning in weight_warnings(&info) {
        warn!(model = served.id, "{warning}");
    }
}

fn failed(served: &ServedModel, why: &anyhow::Error, what: &str) -> ChangeError {
    error!(model = served.id, "{what}: {why:#}");
    ChangeError::Failed {
        id: served.id.clone(),
        why: format!("{why:#}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use anyhow::bail;
    use futures_util::future::join_all;

    use super::*;
    use crate::{
        config::tests::defaults,
        metrics::Metrics,
        models::{ModelSource, ModelSpec, Snapshot},
    };

    /// A model that cannot be made. Counts the tries.
    #[derive(Default)]
    struct Broken(AtomicU32);

    impl ModelSource for Broken {
        fn spec(&self) -> anyhow::Result<ModelSpec> {
            self.0.fetch_add(1, Ordering::Relaxed);
            bail!("no such file")
        }
    }

    fn catalog() -> Catalog {
        Catalog::new(Snapshot::new(defaults()), Metrics::new().unwrap())
    }

    fn unloaded(loads_on_request: bool) -> Arc<ServedModel> {
        let mut served = ServedModel::new("m".to_owned(), Vec::new());
        served.on_demand = loads_on_request;
        served.set_state(ModelState::Unloaded(None));
        Arc::new(served)
    }

    #[tokio::test]
    async fn one_load_serves_all_requests_that_wait_and_the_next_request_tries_again() {
        let (served, catalog) = (unloaded(true), catalog());
        let broken = Arc::new(Broken::default());
        for tries in 1..3 {
            let asked = (0..5).map(|_| state_for_request(&served, &catalog));
            let known = async { served.set_source(broken.clone()) };
            let (states, ()) = tokio::join!(join_all(asked), known);
            for state in states {
                let ModelState::Unloaded(Some(why)) = state else {
                    panic!("a model was made");
                };
                assert_eq!(why, "no such file");
            }
            assert_eq!(broken.0.load(Ordering::Relaxed), tries);
        }
    }

    #[tokio::test]
    async fn a_request_does_not_load_what_an_administrator_has_to_load() {
        let (served, catalog) = (unloaded(false), catalog());
        let state = state_for_request(&served, &catalog).await;
        assert!(matches!(state, ModelState::Unloaded(None)));
        served.set_source(Arc::new(Broken::default()));
        let failed = load(&served, &catalog).await;
        assert!(matches!(failed, Err(ChangeError::Failed { .. })));
        assert!(matches!(served.state(), ModelState::Failed(_)));
    }

    #[tokio::test]
    async fn only_one_change_happens_at_a_time() {
        let (served, catalog) = (unloaded(false), catalog());
        let right = served.begin_change().await;
        for changed in [
            load(&served, &catalog).await,
            unload(&served, &catalog).await,
            reload(&served, &catalog).await,
        ] {
            assert!(matches!(changed, Err(ChangeError::Busy(_))));
        }
        drop(right);
        let unloaded = unload(&served, &catalog).await;
        assert_eq!(unloaded.unwrap(), Change::AlreadyUnloaded);
        let reloaded = reload(&served, &catalog).await;
        assert!(matches!(reloaded, Err(ChangeError::NotLoaded(_))));
    }
}
