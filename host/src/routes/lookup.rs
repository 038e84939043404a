//! The model that a request is for.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use crate::{
    app::App,
    error::ApiError,
    layers::client::Client,
    models::{LoadedModel, ModelState, ServedModel, state_for_request},
    text::quoted,
};

/// The longest time that a request waits for a model whose worker is started again.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest time that a request waits for a model that is loaded for it.
const LOAD_PATIENCE: Duration = Duration::from_secs(120);

/// The model with this name, loaded. A model that is loaded on demand is loaded first. Waits up to [`LOAD_PATIENCE`] for such a
/// model, and up to [`PATIENCE`] for another one whose worker is started again.
pub async fn loaded(
    app: &App,
    client: &Client,
    name: Option<&str>,
) -> Result<(Arc<ServedModel>, Arc<LoadedModel>), ApiError> {
    let served = served(app, client, name)?;
    let patience = match served.loads_on_request() {
        true => LOAD_PATIENCE,
        false => PATIENCE,
    };
    let state = timeout(patience, state_for_request(&served, &app.catalog)).await;
    let state = state.unwrap_or_else(|_| served.state());
    let model = answering_in(state, &served)?;
    Ok((served, model))
}

/// Like [`loaded`], but refuses a model that generates no text.
pub async fn generating(
    app: &App,
    client: &Client,
    name: Option<&str>,
) -> Result<(Arc<ServedModel>, Arc<LoadedModel>), ApiError> {
    let (served, model) = loaded(app, client, name).await?;
    let facts = model.facts();
    if facts.info.generates_text() {
        return Ok((served, model));
    }
    let instead = match &facts.embedder {
        Some(embedder) if embedder.pair_template().is_some() => {
            "use it with /v1/rerank or /v1/score"
        }
        Some(_) => "use it with /v1/embeddings",
        None => "use another model",
    };
    let message = format!("the model '{}' generates no text: {instead}", served.id);
    Err(ApiError::unsupported("model", message))
}

/// The model with this name, whether it answers or not, if the client may use it. Without a name, the first model that the client
/// may use.
pub fn served(
    app: &App,
    client: &Client,
    name: Option<&str>,
) -> Result<Arc<ServedModel>, ApiError> {
    if app.draining.is_cancelled() {
        return Err(ApiError::draining());
    }
    let now = app.now();
    let allowed = || now.models.iter().filter(|model| may_use(client, model));
    let name = name.filter(|name| !name.is_empty());
    if let (Some(account), Some(name)) = (&client.account, name) {
        account.answers.set_asked_model(&quoted(name));
    }
    let found = match name {
        Some(name) => now.model(Some(name)),
        None => allowed().next(),
    };
    let ids = || allowed().map(|model| model.id.as_str()).collect::<Vec<_>>();
    match found {
        Some(model) if may_use(client, model) => {
            if let Some(account) = &client.account {
                account.set_model(&model.id);
            }
            Ok(model.clone())
        }
        Some(model) => Err(ApiError::model_not_allowed(&model.id, &ids())),
        None => Err(ApiError::model_not_found(name.unwrap_or_default(), &ids())),
    }
}

/// Whether the client's key allows this model.
pub fn may_use(client: &Client, model: &ServedModel) -> bool {
    let names = || [&model.id].into_iter().chain(&model.aliases);
    client
        .key()
        .is_none_or(|key| key.may_use(names().map(String::as_str)))
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
        ModelState::Unloaded(None) if served.loads_on_request() => Err(ApiError::try_later(
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
