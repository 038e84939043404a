//! The model that a request is for.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use crate::{
    app::App,
    error::ApiError,
    layers::client::Client,
    models::{Catalog, LoadedModel, ModelState, ServedModel, state_for_request},
    text::quoted,
};

/// The longest times that a request waits for its model.
struct Patience {
    /// For a model whose worker is started again.
    restart: Duration,
    /// For a model that is loaded on demand.
    load: Duration,
}

const PATIENCE: Patience = Patience {
    restart: Duration::from_secs(20),
    load: Duration::from_secs(120),
};

/// The model with this name, loaded. Waits for it as long as [`PATIENCE`] allows: a model that is loaded on demand is loaded first,
/// and the worker of another one may be about to start again.
pub async fn loaded(
    app: &App,
    client: &Client,
    name: Option<&str>,
) -> Result<(Arc<ServedModel>, Arc<LoadedModel>), ApiError> {
    let served = served(app, client, name)?;
    let model = PATIENCE.wait_for(&served, &app.catalog).await?;
    Ok((served, model))
}

impl Patience {
    async fn wait_for(
        &self,
        served: &Arc<ServedModel>,
        catalog: &Catalog,
    ) -> Result<Arc<LoadedModel>, ApiError> {
        let longest = match served.loads_on_request {
            true => self.load,
            false => self.restart,
        };
        let state = timeout(longest, state_for_request(served, catalog)).await;
        answering_in(state.unwrap_or_else(|_| served.state()), served)
    }
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::join;

    use super::*;
    use crate::{config::tests::defaults, metrics::Metrics, models::Snapshot};

    const SHORT: Duration = Duration::from_millis(50);
    /// Longer than a test may take.
    const LONG: Duration = Duration::from_secs(3600);

    /// A model in this state. It is never known how to make it, so a load of it does not end.
    fn model(state: ModelState, loads_on_request: bool) -> Arc<ServedModel> {
        let mut served = ServedModel::new("m".to_owned(), Vec::new());
        served.loads_on_request = loads_on_request;
        served.set_state(state);
        Arc::new(served)
    }

    fn restarting() -> ModelState {
        ModelState::Restarting("its worker ended".to_owned())
    }

    /// The error of a request that waits in vain, and how long it waited.
    async fn refused(patience: Patience, served: &Arc<ServedModel>) -> (ApiError, Duration) {
        let catalog = Catalog::new(Snapshot::new(defaults()), Metrics::new().unwrap());
        let begun = Instant::now();
        let refused = patience.wait_for(served, &catalog).await.err().unwrap();
        (refused, begun.elapsed())
    }

    /// Checks that a request is told to try again after it has waited this long.
    async fn check_later(
        patience: Patience,
        served: &Arc<ServedModel>,
        least: Duration,
        why: &str,
    ) {
        let (error, waited) = refused(patience, served).await;
        assert!(waited >= least, "{waited:?}");
        assert!(error.retry_after_secs().is_some());
        let message = error.into_envelope().error.message;
        assert!(message.contains(why), "{message}");
    }

    #[tokio::test]
    async fn a_request_waits_for_a_restart_as_long_as_it_may() {
        let patience = Patience {
            restart: SHORT,
            load: LONG,
        };
        let served = model(restarting(), false);
        check_later(
            patience,
            &served,
            SHORT,
            "is being started again: its worker",
        )
        .await;
    }

    #[tokio::test]
    async fn a_request_waits_for_a_load_as_long_as_it_may() {
        for state in [ModelState::Unloaded(None), ModelState::Loading] {
            let patience = Patience {
                restart: LONG,
                load: SHORT,
            };
            let served = model(state, true);
            check_later(patience, &served, SHORT, "is still loading").await;
            assert!(matches!(served.state(), ModelState::Loading));
        }
    }

    #[tokio::test]
    async fn a_request_does_not_wait_for_the_load_of_the_start() {
        let patience = Patience {
            restart: LONG,
            load: LONG,
        };
        let served = model(ModelState::Loading, false);
        check_later(patience, &served, Duration::ZERO, "is still loading").await;
    }

    #[tokio::test]
    async fn a_request_waits_no_longer_than_the_model_takes() {
        let patience = Patience {
            restart: LONG,
            load: LONG,
        };
        let served = model(restarting(), false);
        let fails = async { served.set_state(ModelState::Failed("no such file".to_owned())) };
        let ((error, _), ()) = join!(refused(patience, &served), fails);
        assert!(error.retry_after_secs().is_none());
        let message = error.into_envelope().error.message;
        assert!(message.ends_with("failed: no such file"), "{message}");
    }
}
