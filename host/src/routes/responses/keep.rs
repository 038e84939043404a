//! Reads the kept response that a request continues, and keeps the new one.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::read::items;
use crate::{
    app::App,
    engine::ClientId,
    error::ApiError,
    kept_responses::KeptResponse,
    openai::responses::{InputItem, ResponseObject, ResponseRequest},
};

/// Keeps a response once it has ended.
pub struct Keeper {
    app: Arc<App>,
    client: ClientId,
    /// All items before the response, as JSON.
    input: Arc<str>,
}

impl Keeper {
    /// The keeper of the response to a request. None if the response is not to be kept. `earlier` and `input` are the items before
    /// the response.
    pub fn new(
        app: &Arc<App>,
        client: ClientId,
        request: &ResponseRequest,
        earlier: &[InputItem],
        input: &[InputItem],
    ) -> Result<Option<Self>, ApiError> {
        if request.store == Some(true) {
            check_is_on(app, "store")?;
        }
        if !request.store.unwrap_or(app.responses.is_on()) {
            return Ok(None);
        }
        let all: Vec<_> = earlier.iter().chain(input).collect();
        Ok(Some(Self {
            app: app.clone(),
            client,
            input: json(&all).map_err(|error| {
                ApiError::internal(format!("a conversation cannot be written: {error}"))
            })?,
        }))
    }

    /// Keeps the response.
    ///
    /// # Errors
    /// Says why the response is not kept.
    pub async fn keep(self, response: &ResponseObject) -> Result<(), String> {
        let kept = KeptResponse {
            client: self.client,
            response: json(response).map_err(|error| error.to_string())?,
            input: self.input,
        };
        let done = self.app.responses.keep(response.id.clone(), kept).await;
        done.map_err(|error| error.to_string())
    }
}

fn json(value: &impl Serialize) -> serde_json::Result<Arc<str>> {
    serde_json::to_string(value).map(Arc::from)
}

/// The items of the response that a request continues: its input and its output.
pub async fn earlier(
    app: &App,
    client: ClientId,
    request: &ResponseRequest,
) -> Result<Vec<InputItem>, ApiError> {
    const PARAM: &str = "previous_response_id";
    let Some(id) = &request.previous_response_id else {
        return Ok(Vec::new());
    };
    check_is_on(app, PARAM)?;
    let kept = app.responses.get(id, client).await?;
    let kept = kept.ok_or_else(|| ApiError::response_not_found(PARAM, id))?;
    let (mut all, response) = (list(&kept.input)?, read(&kept.response)?);
    all.extend(response["output"].as_array().into_iter().flatten().cloned());
    items(PARAM, &all)
}

/// Reads the list of items of a kept response.
pub fn list(json: &str) -> Result<Vec<Value>, ApiError> {
    match read(json)? {
        Value::Array(items) => Ok(items),
        _ => Ok(Vec::new()),
    }
}

fn read(json: &str) -> Result<Value, ApiError> {
    serde_json::from_str(json)
        .map_err(|error| ApiError::internal(format!("a kept response cannot be read: {error}")))
}

/// Refuses a parameter if no responses are kept.
fn check_is_on(app: &App, param: &str) -> Result<(), ApiError> {
    if app.responses.is_on() {
        return Ok(());
    }
    let message = format!(
        "'{param}' needs kept responses, and this server keeps none: leave it out and send earlier items in 'input', or set max_kept_bytes in [responses] of the server's configuration"
    );
    Err(ApiError::unsupported(param, message))
}
