//! The beginning of a worker: from the open library to the first order.

use std::{
    env,
    fs::{self, File},
    io::{self, stderr, stdin, stdout},
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::UnixStream as StdStream,
    },
    path::{Path, PathBuf},
    process::abort,
    sync::{Arc, Mutex},
    time::Duration,
};

use prometheus::Registry;
use rustix::{
    process::{Resource, Rlimit, setrlimit},
    stdio::dup2_stdout,
};
use tenon_plugin_api::{Code, Error, Result};
use tokio::{net::UnixStream, runtime};
use tokio_util::sync::CancellationToken;

use super::{
    frames,
    messages::{News, Start},
    worker::{End, Worker},
};
use crate::{
    config,
    engine::EngineMetrics,
    grammar::{GrammarMetrics, GrammarThreads},
    plugin::start_plugin,
    runner::{Maker, Workshop},
    shutdown,
    system::{memory, sandbox::Sandbox},
    telemetry,
};

/// Most threads for blocking work: loading, and tokenizing long prompts.
const BLOCKING_THREADS: usize = 16;

/// Works for the server whose socket is this process's standard output. Returns only if there is no such server.
///
/// # Errors
/// The other side is not a server.
pub fn run() -> anyhow::Result<()> {
    memory::do_not_keep_large_pieces();
    shutdown::too_large_files_are_errors()?;
    shutdown::ignore_other_signals()?;
    let library = File::from(stdin().as_fd().try_clone_to_owned()?);
    let socket = StdStream::from(stdout().as_fd().try_clone_to_owned()?);
    // Output of the plugin must not reach the socket.
    dup2_stdout(stderr())?;
    let start: Start = frames::read_one(&socket)?;
    // Before the first thread starts: threads that exist already would stay outside.
    let unrestricted = confine(&start, &library)?;
    telemetry::start_in_worker(start.log_format)?;
    let registry = Registry::new();
    let stuck_timeout = start.stuck_timeout;
    let runtime = runtime::Builder::new_current_thread()
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()?;
    let _entered = runtime.enter();
    let news = unrestricted.into_iter().map(News::Unrestricted);
    let worker = Worker {
        news: news.collect(),
        maker: workshop(library, start, &registry),
        registry,
        stuck_timeout,
    };
    match runtime.block_on(worker.serve(connected(socket)?)) {
        End::Dismissed => shutdown::exit_now(0),
        End::Stuck(age) => end_stuck(age),
    }
}

/// Limits this process's memory, and enters the sandbox. Returns what the kernel cannot restrict.
fn confine(start: &Start, library: &File) -> anyhow::Result<Vec<String>> {
    if let Some(limit) = start.own_limit_bytes {
        limit_memory(limit)?;
    }
    if start.sandbox == config::Sandbox::Off {
        return Ok(Vec::new());
    }
    let cache = start.cache.join(&start.plugin_id);
    // Only what exists can be allowed. A cache that cannot be made cannot be used either.
    let _ = fs::create_dir_all(&cache);
    let library = format!("/proc/self/fd/{}", library.as_raw_fd());
    let folder = start.plugin.parent().map(Path::to_owned);
    let model = readable_of(&start.recipe.args.path);
    let sandbox = Sandbox {
        readable: [model, library.into()].into_iter().chain(folder).collect(),
        writable: vec![cache],
    };
    Ok(sandbox.enter()?)
}

/// Limits what this process may allocate. A model's file that is mapped does not count.
fn limit_memory(bytes: u64) -> io::Result<()> {
    let limit = Rlimit {
        current: Some(bytes),
        maximum: Some(bytes),
    };
    Ok(setrlimit(Resource::Data, limit)?)
}

/// What a worker may read of its model: a directory; of a file, its folder, so that the file may be replaced and may have parts beside
/// it. A file among everything else that the user has is readable alone.
fn readable_of(model: &Path) -> PathBuf {
    let home = env::home_dir().unwrap_or_default();
    match model.parent() {
        Some(folder) if model.is_file() && !home.starts_with(folder) => folder.to_owned(),
        _ => model.to_owned(),
    }
}

fn connected(socket: StdStream) -> io::Result<UnixStream> {
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

fn workshop(library: File, start: Start, registry: &Registry) -> Result<Arc<dyn Maker>> {
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
