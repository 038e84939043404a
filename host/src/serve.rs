//! The process of a server: its log, its signals, its threads and its end.

use std::sync::Arc;

use anyhow::Context;
use tokio::runtime;

use crate::{
    config::{Config, Scope, Source},
    connections::{self, Listener, Tls},
    hub::Hub,
    run, shutdown,
    system::memory,
    telemetry,
};

/// Threads of the HTTP side. They only pass on what models compute, and the models need the cores.
const HTTP_THREADS: usize = 2;
/// Most threads for blocking work: rendering templates, and waiting for workers that load or tokenize. Many, because a worker that
/// hangs must not hold up the requests to others.
const BLOCKING_THREADS: usize = 128;

/// Serves over HTTP until a signal tells the process to stop, and then ends the process. `hub` fetches the models that the
/// configuration names by their place on a hub.
///
/// # Errors
/// The configuration is wrong, the server cannot start, or no model can be loaded.
pub fn serve(source: Source, hub: Arc<dyn Hub>) -> anyhow::Result<()> {
    let config = source.load()?;
    memory::do_not_keep_large_pieces();
    shutdown::too_large_files_are_errors()?;
    shutdown::ignore_other_signals()?;
    telemetry::start(config.server.log_format)?;
    connections::raise_limit();
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(HTTP_THREADS)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()?;
    runtime.block_on(listen(source, config, hub))?;
    shutdown::exit_now(0)
}

async fn listen(source: Source, config: Config, hub: Arc<dyn Hub>) -> anyhow::Result<()> {
    let tls = config.tls.as_ref().map(Tls::load).transpose()?;
    let tls = tls.map(Arc::new);
    let mut listeners = Vec::new();
    for listen in &config.server.listen {
        let listener = Listener::bind(listen, tls.as_ref()).await.with_context(|| {
            let place = &listen.place;
            format!(
                "cannot listen at {place}: choose another address (--host, listen) or port (--port)"
            )
        })?;
        listeners.push(listener);
    }
    tokio::spawn(shutdown::log_ignored_signals());
    for listener in &listeners {
        let purpose = match listener.scope {
            Scope::Everything | Scope::Clients => "",
            Scope::Administration => " for administration and metrics",
        };
        tracing::info!("listening at {}{purpose}", listener.url()?);
    }
    run(source, config, hub, (listeners, tls), shutdown::requested()).await
}
