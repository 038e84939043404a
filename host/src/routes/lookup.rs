//! The model that a request is for.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use crate::{
    app::App,
    error::ApiError,
    models::{LoadedModel, ModelState, ServedModel, state_for_request},
};

/// The longest time that a request waits for a model whose worker is started again.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest time that a request waits for a model that is loaded for it.
const LOAD_PATIENCE: Duration = Duration::from_secs(120);

/// The model with this name, if it answers. Loads it first if requests do that. Waits for a while for that, or if the model is being
/// started again.
pub async fn loaded(
    app: &App,
    name: Option<&str>,
) -> Result<(Arc<ServedModel>, Arc<LoadedModel>), ApiError> {
    let served = served(app, name)?;
    let patience = match served.loads_on_request {
        true => LOAD_PATIENCE,
        false => PATIENCE,
    };
    let state = timeout(patience, state_for_request(&served, &app.catalog)).await;
    let state = state.unwrap_or_else(|_| served.state());
    let model = answering_in(state, &served)?;
    Ok((served, model))
}

/// The model with this name, whether it answers or not.
pub fn served(app: &App, name: Option<&str>) -> Result<Arc<ServedModel>, ApiError> {
    if app.draining.is_cancelled() {
        return Err(ApiError::draining());
    }
    let now = app.now();
    now.model(name).cloned().ok_or_else(|| {
        let ids: Vec<&str> = now.models.iter().map(|model| model.id.as_str()).collect();
        ApiError::model_not_found(name.unwrap_or_default(), &ids)
    })
}

/// The loaded model that answers at the moment, or why there is none.
pub fn answering(served: &ServedModel) -> Result<Arc<LoadedModel>, ApiError> {
    answering_in(served.state(), served)
}

fn answering_in(state: ModelState, served: &ServedModel) -> Result<Arc<LoadedModel>, ApiError> {
    let id = &served.id;
    match state {
        ModelState::Ready(model) => Ok(model),
        ModelState::Restarting(why) => Err(ApiError::try_later(
            "model_unavailable",
            format!("the model '{id}' is being started again: {why}"),
        )),
        ModelState::Loading => Err(ApiError::try_later(
            "model_loading",
            format!("the model '{id}' is still loading"),
        )),
        ModelState::Unloaded(Some(why)) => Err(ApiError::unavailable(
            "model_failed",
            format!("the model '{id}' could not be loaded: {why}"),
        )),
        ModelState::Unloaded(None) if served.loads_on_request => Err(ApiError::try_later(
            "model_unloaded",
            format!("the model '{id}' is not loaded: a request that it is to answer loads it"),
        )),
        ModelState::Unloaded(None) => Err(ApiError::unavailable(
            "model_unloaded",
            format!("the model '{id}' was unloaded: ask the server's administrator to load it"),
        )),
        ModelState::Failed(why) => Err(ApiError::unavailable(
            "model_failed",
            format!("the model '{id}' failed: {why}"),
        )),
    }
}
