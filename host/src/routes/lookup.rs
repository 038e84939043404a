//! The model that a request is for.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use crate::{
    app::App,
    error::ApiError,
    models::{LoadedModel, ModelState, ServedModel},
};

/// The longest time that a request waits for a model whose worker is started again.
const PATIENCE: Duration = Duration::from_secs(20);

/// The model with this name, if it answers. Waits for a while if it is being started again.
pub async fn loaded<'a>(
    app: &'a App,
    name: Option<&str>,
) -> Result<(&'a Arc<ServedModel>, Arc<LoadedModel>), ApiError> {
    let served = served(app, name)?;
    let state = timeout(PATIENCE, served.settled()).await;
    let state = state.unwrap_or_else(|_| served.state());
    Ok((served, answering_in(state, served)?))
}

/// The model with this name, whether it answers or not.
pub fn served<'a>(app: &'a App, name: Option<&str>) -> Result<&'a Arc<ServedModel>, ApiError> {
    if app.draining.is_cancelled() {
        return Err(ApiError::draining());
    }
    app.model(name).ok_or_else(|| {
        let ids: Vec<&str> = app.models().iter().map(|model| model.id.as_str()).collect();
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
        ModelState::Failed(why) => Err(ApiError::unavailable(
            "model_failed",
            format!("the model '{id}' failed: {why}"),
        )),
    }
}
