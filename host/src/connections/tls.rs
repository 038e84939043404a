//! TLS: certificates, and the configuration of new connections.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use anyhow::{Context, anyhow};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

use crate::config;

/// HTTP/2, as it is called in ALPN.
pub const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// The certificate that new connections get, and what they need. Replaced while the server runs.
pub struct Tls(RwLock<Certificate>);

/// A certificate as it was read, with what it needs.
pub struct Certificate {
    files: Vec<Vec<u8>>,
    config: Arc<ServerConfig>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// A file cannot be read, or lacks its certificate or key.
    pub fn load(files: &config::Tls) -> anyhow::Result<Self> {
        Ok(Self(RwLock::new(Certificate::read(files)?)))
    }

    /// Sets the certificate of new connections. Returns whether it differs from the last one. Open connections keep theirs.
    pub fn replace(&self, new: Certificate) -> bool {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let has_changed = new.files != current.files;
        *current = new;
        has_changed
    }

    /// The configuration of new connections.
    pub fn config(&self) -> Arc<ServerConfig> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        current.config.clone()
    }
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// A file cannot be read, or does not contain a certificate or key.
    pub fn read(files: &config::Tls) -> anyhow::Result<Self> {
        let read = |path: &PathBuf| {
            fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
        };
        let (certificate, key) = (&files.certificate_file, &files.key_file);
        let contents: Vec<_> = files.files().map(read).collect::<Result<_, _>>()?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?;
        let builder = match (&files.client_ca_file, contents.get(2)) {
            (Some(file), Some(content)) => {
                let roots = roots(&certificates(file, content)?, file)?;
                builder.with_client_cert_verifier(verifier(roots, provider)?)
            }
            _ => builder.with_no_client_auth(),
        };
        let chain = certificates(certificate, &contents[0])?;
        let private = PrivateKeyDer::from_pem_slice(&contents[1])
            .map_err(|error| anyhow!("{} has no private key: {error}", key.display()))?;
        let mut config = builder.with_single_cert(chain, private).map_err(|error| {
            let (certificate, key) = (certificate.display(), key.display());
            anyhow!(
                "the certificate in {certificate} cannot be used with the key in {key}: {error}"
            )
        })?;
        config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
        Ok(Self {
            files: contents,
            config: Arc::new(config),
        })
    }
}

fn certificates(file: &Path, content: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_slice_iter(content).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| {
        anyhow!(
            "{} has a certificate that is not PEM: {error}",
            file.display()
        )
    })?;
    match certificates.is_empty() {
        true => Err(anyhow!("{} has no certificate in PEM", file.display())),
        false => Ok(certificates),
    }
}

fn roots(certificates: &[CertificateDer<'static>], file: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone()).map_err(|error| {
            anyhow!(
                "{} has a certificate that cannot be used: {error}",
                file.display()
            )
        })?;
    }
    Ok(roots)
}

fn verifier(
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
) -> anyhow::Result<Arc<dyn rustls::server::danger::ClientCertVerifier>> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    Ok(verifier.build()?)
}
