//! Tenon's host: an OpenAI-compatible LLM server whose model backends are shared libraries.
//!
//! A request passes through `layers` → [`routes`] → [`openai`] or [`anthropic`] types → [`conversation`] → [`prompt`] (template,
//! tokens) → [`engine`] (one thread for each model, with [`mod@grammar`]) → [`reply`] (text, stop strings) → `routes`. Errors
//! become HTTP in `error` and nowhere else.
//!
//! The rest of the host: [`config`] (what the operator decides), [`plugin`] (from a file to a backend), [`models`] (the
//! served models: loading and requantizing), [`hub`] (models that are fetched first), [`shutdown`], [`telemetry`], [`metrics`],
//! [`otel`].
//!
//! [`serve()`] serves the models of a configuration until the process is told to stop.

pub mod anthropic;
pub mod app;
pub mod config;
mod connections;
pub mod conversation;
mod detokenize;
pub mod engine;
pub mod error;
pub mod grammar;
pub mod hub;
pub mod kept_responses;
pub mod keys;
mod layers;
pub mod markup;
pub mod metrics;
pub mod models;
pub mod openai;
pub mod otel;
pub mod plugin;
pub mod prompt;
pub mod reasoning_budget;
pub mod reply;
mod reread;
pub mod rereading;
pub mod routes;
pub mod runner;
mod serve;
pub mod shutdown;
pub mod system;
pub mod telemetry;
mod text;
pub mod tools;

use std::{
    future::Future,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::Context;
use futures_util::future::join_all;
use tokio::{
    task,
    time::{sleep, timeout},
};
use tracing::{info, warn};

pub use self::serve::serve;
use crate::{
    app::App,
    config::{Config, Source},
    connections::{Limits, Listener, Register, Tls},
    hub::Hub,
    metrics::Metrics,
    models::{Serving, Snapshot},
    otel::Otel,
    reread::ConfigReader,
    rereading::Rereading,
    routes::router,
};

/// The time that clients get to read the end of an answer that was cut off.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Serves until `stop` is ready or an administrator drains the server, then until the drain delay is over, and then until the
/// running requests have finished or the drain timeout is over.
///
/// # Errors
/// No model can be loaded, or the file of responses cannot be used.
async fn run(
    source: Source,
    config: Config,
    hub: Arc<dyn Hub>,
    (listeners, tls): (Vec<Listener>, Option<Arc<Tls>>),
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let limits = Limits::new(&config.server);
    let (rereading, orders) = Rereading::channel();
    let app = Arc::new(App {
        otel: Otel::start(&config.telemetry)?,
        ..App::new(Snapshot::new(config), Metrics::new()?, rereading)?
    });
    let counters = connections::ConnectionMetrics::register(&app.metrics.registry)?;
    let register = Arc::new(Register::new(limits, counters));
    let serving = Serving::new(app.catalog.clone(), &app.plugins, hub, &app.draining);
    let serving = Arc::new(serving);
    let reader = ConfigReader {
        source,
        app: app.clone(),
        serving: serving.clone(),
        register: register.clone(),
        tls,
    };
    let accepting = listeners.into_iter().map(|listener| {
        let router = router(app.clone(), listener.scope);
        connections::accept(listener, router, register.clone())
    });
    let end = tokio::select! {
        _ = join_all(accepting) => Ok(()),
        () = register.watch() => Ok(()),
        () = watch(stop, &app) => Ok(()),
        () = ended(&app, &register) => Ok(()),
        () = reader.run(orders) => Ok(()),
        () = app.metrics.watch() => Ok(()),
        () = start_up(&app) => Ok(()),
        failure = loading_failure(serving) => Err(failure),
    };
    if let Some(otel) = &app.otel {
        otel.shut_down().await;
    }
    end
}

/// Waits for `stop`, and then begins to stop the server. Never returns.
async fn watch(stop: impl Future<Output = ()>, app: &App) {
    stop.await;
    app.stopping.cancel();
    std::future::pending().await
}

/// Waits for the first load of each model that is loaded at the start, and notes that they are over. Never returns.
async fn start_up(app: &App) {
    for model in &app.now().models {
        // A model that requests load counts as one that answers.
        if !model.on_demand {
            model.tried().await;
        }
    }
    app.started_up.store(true, Ordering::Relaxed);
    std::future::pending().await
}

/// Waits until the server is told to stop, then for the drain delay, and then for the running requests. Requests that outlast the
/// drain timeout are cut off.
async fn ended(app: &App, register: &Register) {
    app.stopping.cancelled().await;
    let server = &app.now().config.server;
    let (drain_delay, drain_timeout) = (server.drain_delay, server.drain_timeout);
    if !drain_delay.is_zero() {
        info!("not ready: requests are still taken for {drain_delay:?}");
        sleep(drain_delay).await;
    }
    app.draining.cancel();
    info!("draining: new requests are refused, running ones get {drain_timeout:?}");
    tokio::select! {
        () = register.stop() => return,
        () = sleep(drain_timeout) => {}
    }
    warn!("requests that did not finish within {drain_timeout:?} are cut off");
    app.cut_off.cancel();
    // A client that does not read has had time enough.
    let _ = timeout(LAST_WORDS, register.stop()).await;
}

/// Loads the models, and loads them again when their plugins change. The future becomes ready only if no model can be served.
async fn loading_failure(serving: Arc<Serving>) -> anyhow::Error {
    let loaded = task::spawn_blocking(move || serving.run());
    match loaded.await.context("the loading of models panicked") {
        Ok(Ok(())) => std::future::pending().await,
        Ok(Err(failure)) | Err(failure) => failure,
    }
}
