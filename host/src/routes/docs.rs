//! The API's documentation: the OpenAPI document, and Swagger UI, which shows it and can send requests.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, rejection::PathRejection},
    http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE},
    response::{Html, IntoResponse, Response},
};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        self,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_swagger_ui::{Config, serve};

use crate::{
    anthropic,
    error::ApiError,
    openai::{ErrorEnvelope, GenerationParameters},
};

/// The OpenAPI document without the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tenon",
        description = "An OpenAI-compatible LLM server. OpenAI's clients work with it: their base URL is this server's with `/v1`.\n\n\
            Anthropic's clients work as well: their base URL is this server's. Every error has the same envelope, at unknown paths \
            (404) and for methods that a path does not take (405) as well. Below `/v1/messages` it is Anthropic's.",
    ),
    servers((url = "/")),
    tags(
        (name = "Generation", description = "What a model answers, whole or in pieces"),
        (name = "Prompts", description = "What a model makes of a text before it answers"),
        (name = "Models", description = "What is being served"),
        (name = "Administration", description = "Loading and unloading. It needs an admin key, or that the request comes from the server's own machine"),
        (name = "Server", description = "How the server is doing, and this documentation"),
    ),
    security((), ("key" = [])),
    components(schemas(anthropic::ErrorEnvelope, ErrorEnvelope, GenerationParameters)),
    modifiers(&KeyScheme),
)]
pub struct ApiDocument;

/// Adds the API key to the document, as a way to authorize.
struct KeyScheme;

impl Modify for KeyScheme {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "One of the keys in the server's configuration. Without any there, none is needed.",
            ));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("key", SecurityScheme::Http(scheme.build()));
    }
}

/// Makes the OpenAPI document available to the handlers of this file.
pub fn with(mut document: openapi::OpenApi) -> Extension<Arc<openapi::OpenApi>> {
    // OpenAPI has no notation for a parameter with slashes in it.
    let paths = std::mem::take(&mut document.paths.paths).into_iter();
    document.paths.paths = paths
        .map(|(path, item)| (path.replace("{*", "{"), item))
        .collect();
    Extension(Arc::new(document))
}

/// Describes this API as an OpenAPI document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "Server",
    security(()),
    responses((status = 200, description = "The document.", body = Object)),
)]
pub async fn openapi(Extension(document): Extension<Arc<openapi::OpenApi>>) -> Response {
    Json(&*document).into_response()
}

/// Shows this API in Swagger UI, which can send requests.
#[utoipa::path(
    get,
    path = "/docs",
    tag = "Server",
    security(()),
    responses((status = 200, description = "The page.", body = String, content_type = "text/html")),
)]
pub async fn page() -> impl IntoResponse {
    // With this policy the browser, too, prevents requests to other hosts.
    let policy = "default-src 'self' 'unsafe-inline'; img-src 'self' data:";
    let headers = [(CONTENT_SECURITY_POLICY, policy)];
    (headers, Html(include_str!("docs.html")))
}

/// Sends a file of the documentation page.
#[utoipa::path(
    get,
    path = "/docs/{*file}",
    tag = "Server",
    security(()),
    params(("file" = String, Path, description = "Its name.", example = "swagger-ui.css")),
    responses(
        (status = 200, description = "The file.", body = String, content_type = "*/*"),
        (status = 400, description = "The path is wrong.", body = ErrorEnvelope),
        (status = 404, description = "There is no such file.", body = ErrorEnvelope),
    ),
)]
pub async fn asset(file: Result<Path<String>, PathRejection>) -> Result<Response, ApiError> {
    let Path(name) = file?;
    match serve(&name, Arc::new(Config::default())) {
        Ok(Some(file)) => Ok(([(CONTENT_TYPE, file.content_type)], file.bytes).into_response()),
        Ok(None) => Err(ApiError::unknown_route(&format!("/docs/{name}"))),
        Err(error) => Err(ApiError::internal(format!(
            "a file of the documentation cannot be read: {error}"
        ))),
    }
}
