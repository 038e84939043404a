//! The HTTP client for the collector.

use std::{
    error::Error,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use async_trait::async_trait;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response, hyper::HyperClient};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::runtime::Handle;
use tracing::{info, warn};

/// The longest time that a collector may take for a batch.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends batches of one signal to a collector. The threads that collect batches wait for it, and requests never do.
pub struct Collector {
    /// `traces` or `metrics`.
    signal: &'static str,
    client: Arc<HyperClient<HttpsConnector<HttpConnector>>>,
    /// The runtime that sends batches. The threads that collect them have none.
    runtime: Handle,
    /// Whether the collector did not take the last batch.
    fails: AtomicBool,
}

impl Collector {
    /// Makes the client for a signal. Must be called in a runtime.
    ///
    /// # Errors
    /// The collector is at an `https://` address, and the system has no certificates of authorities.
    pub fn new(signal: &'static str, endpoint: &str) -> anyhow::Result<Self> {
        let connector = connector(endpoint.starts_with("https:"))?;
        Ok(Self {
            signal,
            client: Arc::new(HyperClient::new(connector, PATIENCE, None)),
            runtime: Handle::current(),
            fails: AtomicBool::new(false),
        })
    }

    /// Logs when the collector stops taking batches, and when it takes them again.
    fn note(&self, url: &str, sent: &Result<Response<Bytes>, HttpError>) {
        let problem = match sent {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("it answers {}", response.status())),
            Err(error) => Some(cause(error.as_ref())),
        };
        let signal = self.signal;
        let failed = self.fails.swap(problem.is_some(), Ordering::Relaxed);
        match problem {
            Some(why) if !failed => warn!("the collector {url} takes no {signal}: {why}"),
            None if failed => info!("the collector {url} takes {signal} again"),
            _ => {}
        }
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let url = request.uri().to_string();
        let client = self.client.clone();
        let sending = self
            .runtime
            .spawn(async move { client.send_bytes(request).await });
        let sent = sending.await.map_err(HttpError::from).flatten();
        self.note(&url, &sent);
        sent
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Collector({})", self.signal)
    }
}

/// Connects by HTTP, or by HTTPS with the authorities that the system trusts.
fn connector(is_encrypted: bool) -> anyhow::Result<HttpsConnector<HttpConnector>> {
    let provider = Arc::new(ring::default_provider());
    let builder = HttpsConnectorBuilder::new();
    let builder = match is_encrypted {
        true => builder
            .with_provider_and_native_roots(provider)
            .context("the system's certificates of authorities cannot be read")?,
        false => {
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth();
            builder.with_tls_config(config)
        }
    };
    Ok(builder.https_or_http().enable_http1().build())
}

/// The innermost cause of an error, which says more than the outer ones.
fn cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
