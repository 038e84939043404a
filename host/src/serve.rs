//! The process of a server: its log, its signals, its threads and its end.

use std::{
    io::{self, ErrorKind},
    sync::Arc,
};

use tokio::runtime;

use crate::{
    config::{Config, ListenAddress, Scope, Source},
    connections::{self, Listener, Tls},
    hub::Hub,
    run, shutdown,
    system::{
        memory,
        port_owner::{self, Process},
    },
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
        let listener = Listener::bind(listen, tls.as_ref()).await;
        listeners.push(listener.map_err(|error| cannot_listen(&listen.address, &error))?);
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

/// The sentence about a place at which the server cannot listen.
fn cannot_listen(address: &ListenAddress, error: &io::Error) -> anyhow::Error {
    let advice = match (address, error.kind()) {
        (ListenAddress::Tcp { port, .. }, ErrorKind::AddrInUse) => match port_owner::of(*port) {
            Some(Process { id, command }) => format!(
                "process {id} ({command}) listens there: stop it, or choose another port (--port)"
            ),
            None => "another process listens there: choose another port (--port), or find it with `ss -ltnp` as root".to_owned(),
        },
        (ListenAddress::Tcp { port: 1..1024, .. }, ErrorKind::PermissionDenied) => {
            "ports below 1024 need root or CAP_NET_BIND_SERVICE: choose another one (--port)"
                .to_owned()
        }
        _ => format!("{error}: choose another address (--host, listen) or port (--port)"),
    };
    anyhow::anyhow!("cannot listen at {address}: {advice}")
}
