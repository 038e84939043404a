//! The server to ask.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use tenon_client::Server;

use crate::local::LocalServer;

/// How to reach a model.
#[derive(Args)]
pub struct TargetArgs {
    /// The model to ask, where a server has several [default: the first that it lists].
    #[arg(long = "model", value_name = "ID")]
    model: Option<String>,
    /// The API key of a running server.
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// A file with the certificates, in PEM, of the authorities that may sign a running server's certificate (https) [default: those
    /// that this machine trusts, or those in the file that the environment variable SSL_CERT_FILE names].
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The backend for a model's file [default: the one that fits the model best].
    #[arg(long, value_name = "ID")]
    backend: Option<String>,
    /// A directory with plugins for a model's file [default: `plugins` beside this program].
    #[arg(long, value_name = "DIR")]
    plugins: Vec<PathBuf>,
    /// Threads that compute a model's file, or "auto" [default: auto].
    #[arg(long, value_name = "N")]
    threads: Option<String>,
}

/// A server, and its model to ask.
pub struct Target {
    pub server: Server,
    pub model: String,
    /// A server that was started for this, and ends when this is dropped.
    _local: Option<LocalServer>,
}

impl TargetArgs {
    /// Connects to a URL, or starts a server for a model's file and waits until it has loaded the model.
    pub async fn connect(&self, target: &str) -> anyhow::Result<Target> {
        let is_url = target.starts_with("http://") || target.starts_with("https://");
        let local = match is_url {
            true => None,
            false => Some(LocalServer::start(target, &self.flags())?),
        };
        let url = local.as_ref().map_or(target, LocalServer::url);
        let server = Server::new(url, self.api_key.clone(), self.ca.as_deref())?;
        if let Some(local) = &local {
            local.wait_until_ready(&server).await?;
        }
        let model = match &self.model {
            Some(model) => model.clone(),
            None => server
                .first_model()
                .await
                .with_context(|| format!("no model at {url}"))?,
        };
        Ok(Target {
            server,
            model,
            _local: local,
        })
    }

    /// These arguments as flags of `tenon serve`.
    fn flags(&self) -> Vec<String> {
        let plugins = self.plugins.iter().map(|path| path.display().to_string());
        let plugins = plugins.map(|path| ("--plugins", path));
        let backend = self.backend.iter().map(|id| ("--backend", id.clone()));
        let threads = self.threads.iter().map(|n| ("--threads", n.clone()));
        let flags = plugins.chain(backend).chain(threads);
        flags
            .flat_map(|(flag, value)| [flag.to_owned(), value])
            .collect()
    }
}
