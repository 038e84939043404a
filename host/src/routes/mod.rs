//! All routes on one screen, with one file for each subject.
//!
//! Every route may use `body` and `checks` (reading a request), `lookup` (its model), `accept` (the form of its answer), `blocking`,
//! and `sse` (streams). The routes that take a conversation share `chat`, those that generate text `generation`. They translate an
//! API's wire types to what these two know, and no API knows another's types. The APIs: `chat_completions`, `completions` (both with
//! `openai`), `responses`, and `messages` and `count_tokens` (both with `anthropic`). `rerank` and `score` share `relevance`.

mod accept;
mod admin;
mod admin_config;
mod admin_drain;
mod admin_plugins;
mod anthropic;
mod apply_template;
mod blocking;
mod body;
mod chat;
mod chat_completions;
mod checks;
mod completions;
mod count_tokens;
mod detokenize;
mod docs;
mod embeddings;
mod generation;
mod health;
mod lookup;
mod messages;
mod metrics;
mod models;
mod openai;
mod page;
mod relevance;
mod requantize;
mod rerank;
mod responses;
mod scope;
mod score;
mod sse;
mod status;
#[cfg(test)]
mod tests;
mod tokenize;
mod waiting;

use std::sync::Arc;

use axum::{Router, middleware::from_fn_with_state};
use tower_http::{CompressionLevel, compression::CompressionLayer};
use utoipa::OpenApi;
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};

use crate::{app::App, config::Scope, layers};

/// The router of the server, with the routes that this scope serves and their middleware.
pub fn router(app: Arc<App>, scope: Scope) -> Router {
    let (routes, document) = routes().split_for_parts();
    let routes = routes.layer(docs::with(document));
    let routes = match scope {
        Scope::Everything => routes,
        Scope::Clients | Scope::Administration => {
            routes.layer(from_fn_with_state(scope, scope::only))
        }
    };
    layers::surround(routes, &app).with_state(app)
}

/// The routes. Each handler states its path and method, for the router and for the API's documentation.
fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(docs::ApiDocument::openapi())
        .routes(routes!(chat_completions::chat_completions))
        .routes(routes!(completions::completions))
        .routes(routes!(responses::create::create_response))
        .routes(routes!(
            responses::kept::retrieve_response,
            responses::kept::delete_response
        ))
        .routes(routes!(responses::kept::input_items))
        .routes(routes!(responses::kept::cancel_response))
        .routes(routes!(messages::messages))
        .routes(routes!(count_tokens::count_tokens))
        .routes(routes!(embeddings::embeddings))
        .routes(routes!(rerank::rerank))
        .routes(routes!(rerank::rerank_alias))
        .routes(routes!(score::score))
        .routes(routes!(tokenize::tokenize))
        .routes(routes!(detokenize::detokenize))
        .routes(routes!(apply_template::apply_template))
        .routes(routes!(models::list_models))
        .routes(routes!(models::retrieve_model))
        .routes(routes!(requantize::requantize))
        .routes(routes!(admin::list_models))
        .routes(routes!(admin::load_model))
        .routes(routes!(admin::unload_model))
        .routes(routes!(admin::reload_model))
        .routes(routes!(admin_plugins::list_plugins))
        .routes(routes!(admin_drain::drain))
        .routes(routes!(admin_config::reload_config))
        .routes(routes!(status::status))
        .routes(routes!(metrics::metrics).layer(compression()))
        .routes(routes!(health::health))
        .routes(routes!(page::root))
        .routes(routes!(page::asset).layer(compression()))
        .routes(routes!(health::ready))
        .routes(routes!(health::live))
        .routes(routes!(docs::openapi))
        .routes(routes!(docs::page))
        .routes(routes!(docs::asset))
}

/// Compresses answers for clients that accept it. Schedulers ask for metrics many times a second, so it must be fast.
fn compression() -> CompressionLayer {
    CompressionLayer::new().quality(CompressionLevel::Fastest)
}
