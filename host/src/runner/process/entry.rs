//! The beginning of a worker: from the open library to the first order.

use std::{
    fs::File,
    process::abort,
    sync::{Arc, Mutex},
    time::Duration,
};

use prometheus::Registry;
use tenon_plugin_api::{Code, Error, Result};
use tokio::runtime;
use tokio_util::sync::CancellationToken;

use super::{
    frames,
    line::Line,
    messages::{News, Start},
    outbox::Outbox,
    relays::Relays,
    socket::halves,
    worker::{End, Worker},
};
use crate::{
    engine::EngineMetrics,
    grammar::{GrammarMetrics, GrammarThreads},
    plugin::{
        child::{Confinement, Given},
        start_plugin,
    },
    runner::{Maker, Workshop},
    shutdown,
    system::memory,
    telemetry,
};

/// Most threads for blocking work: loading, and tokenizing long prompts.
const BLOCKING_THREADS: usize = 16;

/// Runs the worker of the server whose socket is this process's standard output. Returns only if there is no such
/// server.
///
/// # Errors
/// The other side is not a server.
pub fn run() -> anyhow::Result<()> {
    memory::do_not_keep_large_pieces();
    shutdown::too_large_files_are_errors()?;
    shutdown::ignore_other_signals()?;
    let Given { library, socket } = Given::take()?;
    let start: Start = frames::read_one(&socket)?;
    // The process must be confined before its first thread starts, because threads that exist already would stay
    // unconfined.
    let unrestricted = confinement(&start).enter(&library)?;
    telemetry::start_in_worker(start.log_format)?;
    let registry = Registry::new();
    let stuck_timeout = start.stuck_timeout;
    let runtime = runtime::Builder::new_current_thread()
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()?;
    let _entered = runtime.enter();
    let (receiving, sending) = halves(socket)?;
    let line = Arc::new(Line::new(sending));
    let (outbox, relays) = (Outbox::new(line.clone()), Relays::new(line));
    for what in unrestricted {
        outbox.tell(&News::Unrestricted(what));
    }
    let worker = Worker {
        maker: workshop(library, start, &registry, relays.clone()),
        outbox,
        relays,
        registry,
        stuck_timeout,
    };
    match runtime.block_on(worker.serve(receiving)) {
        End::Dismissed => shutdown::exit_now(0),
        End::Stuck(age) => end_stuck(age),
    }
}

fn confinement(start: &Start) -> Confinement {
    Confinement {
        sandbox: start.sandbox,
        memory_bytes: start.own_limit_bytes,
        plugin: start.plugin.clone(),
        models: vec![start.recipe.args.path.clone()],
        cache: start.cache.join(&start.plugin_id),
    }
}

fn workshop(
    library: File,
    start: Start,
    registry: &Registry,
    relays: Relays,
) -> Result<Arc<dyn Maker>> {
    let Start {
        recipe,
        plugin,
        options,
        cache,
        ..
    } = start;
    let backend = start_plugin(library, recipe.args.threads, &cache, &options);
    let backend =
        backend.map_err(|why| Error::new(Code::INTERNAL, format!("{} {why}", plugin.display())))?;
    tracing::info!(id = backend.descriptor().id, path = %plugin.display(), "plugin loaded");
    let internal = |error: anyhow::Error| Error::new(Code::INTERNAL, error.to_string());
    Ok(Arc::new(Arc::new(Workshop {
        metrics: EngineMetrics::register(registry, &recipe.model)
            .map_err(|e| internal(e.into()))?,
        grammar_threads: Arc::new(
            GrammarThreads::start(&recipe.grammar).map_err(|e| internal(e.into()))?,
        ),
        grammar_metrics: GrammarMetrics::register(registry, &recipe.model)
            .map_err(|e| internal(e.into()))?,
        recipe,
        backend,
        stop: CancellationToken::new(),
        grammars: Mutex::default(),
        on_events: Arc::new(move || relays.deliver()),
    })))
}

/// Ends this process because a call of the plugin does not return. The printed line tells the server why.
fn end_stuck(age: Duration) -> ! {
    telemetry::flush();
    eprintln!(
        "it was stuck: a forward, or the tokenizer, did not return within {} s; raise stuck_timeout_secs if the model is that slow",
        age.as_secs()
    );
    abort()
}
