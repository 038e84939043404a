//! The routes that read and delete kept responses.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use serde_json::Value;

use super::{super::checks::within, create::example, keep::list};
use crate::{
    app::App,
    engine::ClientId,
    error::{AnyError, ApiError},
    kept_responses::KeptResponse,
    layers::client::Client,
    openai::{
        ErrorEnvelope,
        responses::{
            DeletedResponse, InputItemList, InputItemsQuery, ItemOrder, ResponseObject,
            RetrieveQuery,
        },
    },
};

const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: usize = 100;

/// Returns a kept response.
#[utoipa::path(
    get,
    path = "/v1/responses/{response_id}",
    tag = "Generation",
    params(
        ("response_id" = String, Path, description = "The id of the response.", example = "resp_4aec860564224a67873b0a0e3837a4bf"),
        RetrieveQuery,
    ),
    responses(
        (status = 200, description = "The response.", body = ResponseObject, example = json!(example(true))),
        (status = 400, description = "A parameter is wrong.", body = ErrorEnvelope),
        (status = 404, description = "There is no such response.", body = ErrorEnvelope),
        AnyError,
    ),
)]
pub async fn retrieve_response(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<RetrieveQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Path(id) = id?;
    let Query(query) = query.map_err(|error| ApiError::invalid(error.body_text()))?;
    if query.stream == Some(true) {
        let message = "'stream' is not possible here, because a kept response is over: leave it out to get the whole response";
        return Err(ApiError::unsupported("stream", message));
    }
    let kept = kept(&app, &id, client.id).await?;
    let headers = [(CONTENT_TYPE, "application/json")];
    Ok((headers, kept.response.to_string()).into_response())
}

/// Deletes a kept response.
#[utoipa::path(
    delete,
    path = "/v1/responses/{response_id}",
    tag = "Generation",
    params(("response_id" = String, Path, description = "The id of the response.", example = "resp_4aec860564224a67873b0a0e3837a4bf")),
    responses(
        (status = 200, description = "It is deleted.", body = DeletedResponse, example = json!({
            "id": "resp_4aec860564224a67873b0a0e3837a4bf", "object": "response", "deleted": true,
        })),
        (status = 400, description = "The path is wrong.", body = ErrorEnvelope),
        (status = 404, description = "There is no such response.", body = ErrorEnvelope),
        AnyError,
    ),
)]
pub async fn delete_response(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<DeletedResponse>, ApiError> {
    let Path(id) = id?;
    match app.responses.remove(&id, client.id).await? {
        true => Ok(Json(DeletedResponse {
            id,
            object: "response",
            deleted: true,
        })),
        false => Err(ApiError::response_not_found("response_id", &id)),
    }
}

/// Refuses to cancel a response: none is made in the background. Closing the connection cancels a response that is being made.
#[utoipa::path(
    post,
    path = "/v1/responses/{response_id}/cancel",
    tag = "Generation",
    params(("response_id" = String, Path, description = "The id of the response.", example = "resp_4aec860564224a67873b0a0e3837a4bf")),
    responses(
        (status = 400, description = "The response is complete.", body = ErrorEnvelope, example = json!({"error": {
            "message": "only a response in the background can be cancelled, and this one is over",
            "type": "invalid_request_error",
            "param": "response_id",
            "code": null,
        }})),
        (status = 404, description = "There is no such response.", body = ErrorEnvelope),
        AnyError,
    ),
)]
pub async fn cancel_response(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    id: Result<Path<String>, PathRejection>,
) -> Result<(), ApiError> {
    let Path(id) = id?;
    kept(&app, &id, client.id).await?;
    let message = "only a response in the background can be cancelled, and this one is over";
    Err(ApiError::invalid_parameter("response_id", message))
}

/// Lists the input of a kept response: all items before it.
#[utoipa::path(
    get,
    path = "/v1/responses/{response_id}/input_items",
    tag = "Generation",
    params(
        ("response_id" = String, Path, description = "The id of the response.", example = "resp_4aec860564224a67873b0a0e3837a4bf"),
        InputItemsQuery,
    ),
    responses(
        (status = 200, description = "The items.", body = InputItemList, example = json!({
            "object": "list",
            "data": [{
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "What is the capital of Japan?"}],
                "id": "msg_873b0a0e3837a4bf4aec860564224a67",
            }],
            "first_id": "msg_873b0a0e3837a4bf4aec860564224a67",
            "last_id": "msg_873b0a0e3837a4bf4aec860564224a67",
            "has_more": false,
        })),
        (status = 400, description = "A parameter is wrong.", body = ErrorEnvelope),
        (status = 404, description = "There is no such response.", body = ErrorEnvelope),
        AnyError,
    ),
)]
pub async fn input_items(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<InputItemsQuery>, QueryRejection>,
) -> Result<Json<InputItemList>, ApiError> {
    let Path(id) = id?;
    let Query(query) = query.map_err(|error| ApiError::invalid(error.body_text()))?;
    within("limit", query.limit, 1..=MAX_LIMIT)?;
    let kept = kept(&app, &id, client.id).await?;
    page(list(&kept.input)?, &query).map(Json)
}

async fn kept(app: &App, id: &str, client: ClientId) -> Result<KeptResponse, ApiError> {
    let kept = app.responses.get(id, client).await?;
    kept.ok_or_else(|| ApiError::response_not_found("response_id", id))
}

fn page(mut items: Vec<Value>, query: &InputItemsQuery) -> Result<InputItemList, ApiError> {
    if query.order != Some(ItemOrder::Asc) {
        items.reverse();
    }
    if let Some(after) = &query.after {
        let at = items.iter().position(|item| item["id"] == *after);
        let at = at.ok_or_else(|| {
            ApiError::invalid_parameter("after", "'after' is the id of no item of this response")
        })?;
        items.drain(..=at);
    }
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    let has_more = items.len() > limit;
    items.truncate(limit);
    let id = |item: Option<&Value>| Some(item?["id"].as_str()?.to_owned());
    Ok(InputItemList {
        object: "list",
        first_id: id(items.first()),
        last_id: id(items.last()),
        has_more,
        data: items,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn items_are_listed_in_pages() {
        let items = || -> Vec<Value> {
            let items = (0..5).map(|number| {
                let content = json!([{"type": "input_text", "text": number.to_string()}]);
                json!({"type": "message", "role": "user", "content": content, "id": format!("msg_{number}")})
            });
            items.collect()
        };
        let page = |query: Value| {
            let list = page(items(), &serde_json::from_value(query).unwrap()).unwrap();
            let texts = list
                .data
                .iter()
                .map(|item| item["content"][0]["text"].as_str().unwrap());
            (
                texts.collect::<String>(),
                list.last_id.unwrap(),
                list.has_more,
            )
        };
        assert_eq!(
            page(json!({})),
            ("43210".to_owned(), "msg_0".to_owned(), false)
        );
        let first = page(json!({"order": "asc", "limit": 2}));
        assert_eq!(first, ("01".to_owned(), "msg_1".to_owned(), true));
        let second = page(json!({"order": "asc", "limit": 3, "after": "msg_1"}));
        assert_eq!(second, ("234".to_owned(), "msg_4".to_owned(), false));
        let unknown = InputItemsQuery {
            after: Some("msg_9".to_owned()),
            ..InputItemsQuery::default()
        };
        assert!(super::page(items(), &unknown).is_err());
    }
}
