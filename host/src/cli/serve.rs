//! `tenon serve`

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use tokio::{net::TcpListener, runtime};

use crate::{
    config::{self, Config, Flags, Threads},
    connections, shutdown,
    system::memory,
    telemetry,
};

/// Serve models over HTTP.
#[derive(Args)]
pub struct Serve {
    /// A model's file or directory, served instead of the models in the configuration.
    model_path: Option<PathBuf>,
    /// The configuration file [default: ./tenon.toml, then $XDG_CONFIG_HOME/tenon/tenon.toml, else none].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen at [default: 127.0.0.1].
    #[arg(long)]
    host: Option<String>,
    /// Port to listen at, 0 for any free one [default: 8080].
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// A directory with plugins; may be given more than once [default: `plugins` beside this program].
    #[arg(long, value_name = "DIR")]
    plugins: Vec<PathBuf>,
    /// The backend for the model [default: the one that fits the model best].
    #[arg(long, value_name = "ID")]
    backend: Option<String>,
    /// Name of the model in requests [default: the file's name].
    #[arg(long, value_name = "NAME")]
    model_id: Option<String>,
    /// Threads that compute, or "auto": as many as are fastest [default: auto].
    #[arg(long, value_name = "N")]
    threads: Option<Threads>,
}

/// Threads of the HTTP side. They only pass on what models compute, and the models need the cores.
const HTTP_THREADS: usize = 2;
/// Most threads for blocking work: loading models, rendering templates and tokenizing long prompts.
const BLOCKING_THREADS: usize = 16;

impl Serve {
    pub fn run(self) -> anyhow::Result<()> {
        let config = config::load(
            self.config.as_deref(),
            Flags {
                model_path: self.model_path,
                host: self.host,
                port: self.port,
                plugin_directories: self.plugins,
                backend: self.backend,
                model_id: self.model_id,
                threads: self.threads,
            },
        )?;
        if config.models.is_empty() {
            bail!(
                "there is no model to serve: give one (tenon serve MODEL_PATH), or a configuration with [[models]] (--config FILE)"
            );
        }
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
        runtime.block_on(serve(config))?;
        shutdown::exit_now(0)
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let (host, port) = (config.server.host.clone(), config.server.port);
    let listener = TcpListener::bind((host.as_str(), port))
        .await
        .with_context(|| {
            format!(
                "cannot listen at {host}:{port}: choose another address (--host) or port (--port)"
            )
        })?;
    tokio::spawn(shutdown::log_ignored_signals());
    tracing::info!("listening at http://{}", listener.local_addr()?);
    crate::run(config, listener, shutdown::requested()).await
}
