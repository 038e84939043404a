//! The beginning of a worker: from the open library to the first order.

use std::{
    fmt::Display,
    fs::File,
    io::stderr,
    process::abort,
    sync::{Arc, Mutex, OnceLock},
};

use prometheus::Registry;
use rustix::process::{Signal, getpgrp, getpid, kill_current_process_group};
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
    watchdog::{CallLimits, Stuck},
    worker::{Worker, WorkerEnd},
};
use crate::{
    engine::EngineMetrics,
    grammar::{GrammarMetrics, GrammarThreads},
    plugin::{
        Backend, ReportProgress,
        child::{Confinement, Given},
        probe::illegal,
        start_plugin,
    },
    runner::{Maker, Runner, Workshop},
    shutdown,
    system::{memory, resource_limits},
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
    // Without it the kernel still prefers the process with the most memory, which is most often a worker.
    let _ = memory::may_be_ended_first();
    resource_limits::no_core_dump()?;
    shutdown::too_large_files_are_errors()?;
    shutdown::ignore_other_signals()?;
    let Given { library, socket } = Given::take()?;
    let start: Start = frames::read_one(&socket)?;
    // The process must be confined before its first thread starts, because threads that exist already would stay
    // unconfined.
    let unrestricted = confinement(&start).enter(&library)?;
    telemetry::start_in_worker(start.log_format)?;
    illegal::report_to(&stderr())?;
    let registry = Registry::new();
    let limits = CallLimits {
        call: start.stuck_timeout,
        load: start.load_timeout,
    };
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
        maker: Arc::new(Beginning {
            library,
            start,
            registry: registry.clone(),
            relays: relays.clone(),
            workshop: OnceLock::new(),
        }),
        outbox,
        relays,
        registry,
        limits,
    };
    match runtime.block_on(worker.serve(receiving)) {
        WorkerEnd::Dismissed => end_group(),
        WorkerEnd::Stuck(stuck) => end_stuck(stuck),
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

/// Starts the plugin at the first load. The worker listens to the server before and during that start: it must not outlive the server,
/// and the start of the plugin may never return.
struct Beginning {
    library: File,
    start: Start,
    registry: Registry,
    relays: Relays,
    workshop: OnceLock<Result<Arc<Workshop>>>,
}

impl Maker for Beginning {
    fn load(&self, level: Option<&str>, progress: ReportProgress) -> Result<Arc<dyn Runner>> {
        let workshop = self.workshop.get_or_init(|| self.workshop());
        workshop.clone()?.load(level, progress)
    }
}

impl Beginning {
    fn workshop(&self) -> Result<Arc<Workshop>> {
        let Start { recipe, .. } = &self.start;
        let backend = self.backend()?;
        let relays = self.relays.clone();
        Ok(Arc::new(Workshop {
            metrics: EngineMetrics::register(&self.registry, &recipe.model).map_err(internal)?,
            grammar_threads: Arc::new(GrammarThreads::start(&recipe.grammar).map_err(internal)?),
            grammar_metrics: GrammarMetrics::register(&self.registry, &recipe.model)
                .map_err(internal)?,
            recipe: recipe.clone(),
            backend,
            stop: CancellationToken::new(),
            grammars: Mutex::default(),
            on_events: Arc::new(move || relays.deliver()),
        }))
    }

    fn backend(&self) -> Result<Arc<Backend>> {
        let Start {
            recipe,
            plugin,
            options,
            cache,
            ..
        } = &self.start;
        let path = plugin.display();
        let library = self.library.try_clone().map_err(internal)?;
        let backend = start_plugin(library, recipe.args.threads, cache, options);
        let backend = backend.map_err(|why| internal(format!("{path} {why}")))?;
        tracing::info!(id = backend.descriptor().id, %path, "plugin loaded");
        Ok(backend)
    }
}

fn internal(error: impl Display) -> Error {
    Error::new(Code::INTERNAL, error.to_string())
}

/// Ends this process and those that its plugin started. If the server was killed, nobody else ends them.
fn end_group() -> ! {
    telemetry::flush();
    if getpgrp() == getpid() {
        // This process is in the group too.
        let _ = kill_current_process_group(Signal::KILL);
    }
    shutdown::exit_now(0)
}

/// Ends this process because a call of the plugin does not return. The printed line tells the server why.
fn end_stuck(stuck: Stuck) -> ! {
    telemetry::flush();
    eprintln!("{stuck}");
    abort()
}
