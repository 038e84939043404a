//! Reads the kept response that a request continues, and keeps the new one.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    app::App,
    engine::ClientId,
    error::ApiError,
    kept_responses::KeptResponse,
    openai::responses::{ResponseObject, ResponseRequest},
};

/// The parameter that names the response to continue.
pub const EARLIER: &str = "previous_response_id";

/// Keeps a response when it is over.
pub struct Keeper {
    app: Arc<App>,
    client: ClientId,
    /// All items before the response, as JSON.
    input: Arc<str>,
}

impl Keeper {
    /// The keeper of the response to a request. None if the response is not to be kept. `items` are the earlier items, as clients sent
    /// them.
    pub fn new(
        app: &Arc<App>,
        client: ClientId,
        request: &ResponseRequest,
        items: impl Iterator<Item = Value>,
    ) -> Result<Option<Self>, ApiError> {
        if request.store == Some(true) {
            check_is_on(app, "store")?;
        }
        if !request.store.unwrap_or(app.responses.is_on()) {
            return Ok(None);
        }
        let items: Vec<_> = items.map(completed).collect();
        Ok(Some(Self {
            app: app.clone(),
            client,
            input: written(&items).map_err(|error| {
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
            response: written(response).map_err(|error| error.to_string())?,
            input: self.input,
        };
        let done = self.app.responses.keep(response.id.clone(), kept).await;
        done.map_err(|error| error.to_string())
    }
}

fn written(value: &impl Serialize) -> serde_json::Result<Arc<str>> {
    serde_json::to_string(value).map(Arc::from)
}

/// Adds the fields of OpenAI's types that a client left out of an item: a type, an id, a status, and text in parts.
fn completed(mut item: Value) -> Value {
    let Some(fields) = item.as_object_mut() else {
        return item;
    };
    let kind = fields.entry("type").or_insert(json!("message"));
    let prefix = match kind.as_str().unwrap_or_default() {
        "message" => "msg",
        "function_call" => "fc",
        "custom_tool_call" => "ctc",
        "function_call_output" | "custom_tool_call_output" => "fco",
        "reasoning" => "rs",
        _ => "item",
    };
    let is_reasoning = prefix == "rs";
    let is_answer = fields.get("role").is_some_and(|role| role == "assistant");
    let missing = |value: Option<&Value>| value.is_none_or(Value::is_null);
    if missing(fields.get("id")) {
        let id = format!("{prefix}_{}", Uuid::new_v4().simple());
        fields.insert("id".to_owned(), id.into());
    }
    if missing(fields.get("status")) {
        fields.insert("status".to_owned(), json!("completed"));
    }
    if is_reasoning && missing(fields.get("summary")) {
        fields.insert("summary".to_owned(), json!([]));
    }
    if let Some(content) = fields.get_mut("content") {
        put_into_parts(content, is_answer);
    }
    item
}

/// Makes parts of a text. The parts of the model's texts have annotations.
fn put_into_parts(content: &mut Value, is_answer: bool) {
    if let Value::String(text) = content {
        let kind = if is_answer {
            "output_text"
        } else {
            "input_text"
        };
        *content = json!([{"type": kind, "text": text}]);
    }
    let parts = content.as_array_mut().into_iter().flatten();
    for part in parts.filter(|part| part["type"] == "output_text") {
        if part["annotations"].is_null() {
            part["annotations"] = json!([]);
        }
    }
}

/// The items of the response that a request continues: its input and its output.
pub async fn earlier(
    app: &App,
    client: ClientId,
    request: &ResponseRequest,
) -> Result<Vec<Value>, ApiError> {
    let Some(id) = &request.previous_response_id else {
        return Ok(Vec::new());
    };
    check_is_on(app, EARLIER)?;
    let kept = app.responses.get(id, client).await?;
    let kept = kept.ok_or_else(|| ApiError::response_not_found(EARLIER, id))?;
    let (mut all, response) = (list(&kept.input)?, read(&kept.response)?);
    all.extend(response["output"].as_array().into_iter().flatten().cloned());
    Ok(all)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_stay_as_they_were_sent() {
        let text = json!({"type": "output_text", "text": "A", "annotations": [], "logprobs": []});
        for item in [
            json!({"type": "message", "id": "msg_1", "status": "incomplete", "role": "assistant", "content": [text], "phase": "x"}),
            json!({"type": "function_call", "id": "fc_1", "status": "completed", "call_id": "c", "name": "f", "arguments": "{}"}),
            json!({"type": "function_call_output", "id": "o", "status": "completed", "call_id": "c", "output": "1"}),
            json!({"type": "reasoning", "id": "rs_1", "status": "completed", "summary": [], "encrypted_content": "e"}),
        ] {
            assert_eq!(completed(item.clone()), item);
        }
    }

    #[test]
    fn what_is_missing_is_added() {
        let check = |item: Value, prefix: &str, mut expected: Value| {
            let item = completed(item);
            let id = item["id"].as_str().unwrap();
            assert!(id.starts_with(prefix) && id.len() > 20, "{id}");
            expected["id"] = id.into();
            expected["status"] = json!("completed");
            assert_eq!(item, expected);
        };
        let message =
            |role: &str, part: Value| json!({"type": "message", "role": role, "content": [part]});
        check(
            json!({"role": "user", "content": "U"}),
            "msg_",
            message("user", json!({"type": "input_text", "text": "U"})),
        );
        check(
            json!({"role": "assistant", "content": "A", "id": null}),
            "msg_",
            message(
                "assistant",
                json!({"type": "output_text", "text": "A", "annotations": []}),
            ),
        );
        let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"});
        check(call.clone(), "fc_", call);
        check(
            json!({"type": "reasoning", "encrypted_content": "e"}),
            "rs_",
            json!({"type": "reasoning", "encrypted_content": "e", "summary": []}),
        );
    }
}
