//! Tenon's host: an OpenAI-compatible LLM server whose model backends are shared libraries.
//!
//! The way of a request: [`mod@router`] → `routes` → [`openai`] types → [`prompt`] (template, tokens) → [`engine`] (one thread for
//! each model, with [`mod@grammar`]) → [`reply`] (text, stop strings) → `routes`. Errors become HTTP in `error` and nowhere else.
//!
//! Around it: [`cli`] (the program's commands), [`config`] (what the operator says), [`plugin`] (from a file to a backend),
//! [`loading`] (from the configuration to models that answer), [`source`] (how each of them is made), [`requantize`] (changing
//! the level of one), [`shutdown`], [`telemetry`], [`metrics`].
//!
//! 1. [`config::load`] reads what to serve.
//! 2. [`run`] takes it and a listener, and serves until it is told to stop.

pub mod app;
mod auth;
pub mod cli;
pub mod config;
pub mod engine;
pub mod error;
pub mod grammar;
pub mod loading;
mod memory;
pub mod metrics;
pub mod model;
pub mod openai;
pub mod plugin;
mod priority;
pub mod prompt;
pub mod reply;
pub mod requantize;
pub mod router;
pub mod routes;
pub mod shutdown;
pub mod source;
pub mod telemetry;
pub mod tools;

use std::{future::Future, sync::Arc};

use anyhow::Context;
use axum::serve::{ListenerExt, serve};
use futures_util::FutureExt;
use tokio::{net::TcpListener, task, time::sleep};
use tracing::warn;

use crate::{app::App, config::Config, metrics::Metrics, model::ServedModel, router::router};

/// Serves until `stop` is ready and the requests that run then have finished, or their time is up.
///
/// # Errors
/// When no model can be loaded, or the listener breaks.
pub async fn run(
    config: Config,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let models = config.models.iter();
    let models = models.map(|model| ServedModel::new(model.id.clone(), model.aliases.clone()));
    let app = Arc::new(App::new(models.collect(), Metrics::new()?, &config.server));
    let drain_timeout = config.server.drain_timeout;

    // One listener for the work, the same again to refuse work while the last requests finish.
    let listener = listener.into_std()?;
    let again = TcpListener::from_std(listener.try_clone()?)?;
    let listener = TcpListener::from_std(listener)?.tap_io(|stream| {
        // Tokens are small and must not wait for company. Where that is not possible they are only slower.
        let _ = stream.set_nodelay(true);
    });

    let draining = app.clone();
    let stopped = stop.inspect(move |()| draining.drain()).shared();
    let serving = serve(listener, router(app.clone())).with_graceful_shutdown(stopped.clone());
    let refusing = stopped
        .clone()
        .then(|()| async { serve(again, router(app.clone())).await });
    let overdue = stopped.then(|()| sleep(drain_timeout));
    tokio::select! {
        served = serving.into_future() => Ok(served?),
        refused = refusing => Ok(refused?),
        () = overdue => {
            warn!("requests that did not finish within {drain_timeout:?} are cut off");
            Ok(())
        }
        failure = loading_failure(config, app.clone()) => Err(failure),
    }
}

/// Loads the models. Ready only if none can be served.
async fn loading_failure(config: Config, app: Arc<App>) -> anyhow::Error {
    let loaded = task::spawn_blocking(move || loading::load_all(&config, &app));
    match loaded.await.context("the loading of models panicked") {
        Ok(Ok(())) => std::future::pending().await,
        Ok(Err(failure)) | Err(failure) => failure,
    }
}
