//! The authorities that a client trusts over TLS.

use std::{error::Error, path::Path, sync::Arc};

use anyhow::{Context, anyhow, ensure};
use reqwest::ClientBuilder;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

/// A builder of HTTP clients that trust only the authorities in a PEM file. Without a file they trust the authorities of this
/// machine, or those in the file that `SSL_CERT_FILE` names.
///
/// # Errors
/// The file cannot be read, or has no certificate.
pub fn client_builder(authorities: Option<&Path>) -> anyhow::Result<ClientBuilder> {
    let roots = match authorities {
        Some(file) => roots_of(file)?,
        None => roots_of_machine(),
    };
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(reqwest::Client::builder().tls_backend_preconfigured(config))
}

/// Whether a request failed because the server's certificate is not trusted.
pub fn is_distrust(error: &reqwest::Error) -> bool {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains("invalid peer certificate") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The authorities that this machine trusts, as far as they can be read. None at all is no error: plain HTTP needs none.
fn roots_of_machine() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn roots_of(file: &Path) -> anyhow::Result<RootCertStore> {
    let name = file.display();
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| anyhow!("{name} cannot be read as certificates in PEM: {error}"))?;
    ensure!(
        !certificates.is_empty(),
        "{name} has no certificate in PEM: give the certificate of the authority"
    );
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let added = roots.add(certificate);
        added.with_context(|| format!("{name} has a certificate that cannot be used"))?;
    }
    Ok(roots)
}
