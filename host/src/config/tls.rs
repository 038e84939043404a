//! `[tls]`: certificates for addresses that speak TLS.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::refusals::Refusals;

/// Files for TLS. Their contents are read when the server starts, and when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
    /// None: clients need no certificate.
    pub client_ca_file: Option<PathBuf>,
}

/// Certificates for addresses that speak TLS: with these, all but those that begin with `http://` or `unix:`. Clients get HTTP/2 if
/// they can speak it. Files are in PEM, and are read again when they change.
#[derive(Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawTls {
    /// File with the server's certificate, followed by intermediate certificates. Relative to this file.
    certificate_file: Option<PathBuf>,
    /// File with the private key of the certificate.
    key_file: Option<PathBuf>,
    /// File with the certificates of authorities. Every client then needs a certificate that one of them signed. Default: clients need
    /// none.
    client_ca_file: Option<PathBuf>,
}

impl RawTls {
    /// None: no address speaks TLS.
    pub fn resolve(self, refusals: &mut Refusals) -> Option<Tls> {
        let mut whole = |name, file: Option<PathBuf>| {
            file.map(|file| refusals.whole_path(&["tls", name], &file))
        };
        let certificate_file = whole("certificate_file", self.certificate_file);
        let key_file = whole("key_file", self.key_file);
        let client_ca_file = whole("client_ca_file", self.client_ca_file);
        if certificate_file.is_none() && key_file.is_none() && client_ca_file.is_none() {
            return None;
        }
        for (name, file) in [
            ("certificate_file", &certificate_file),
            ("key_file", &key_file),
        ] {
            if file.is_none() {
                refusals.refuse(
                    &["tls", name],
                    "is missing: TLS needs a certificate and its key",
                );
            }
        }
        Some(Tls {
            certificate_file: certificate_file?,
            key_file: key_file?,
            client_ca_file,
        })
    }
}

impl Tls {
    /// All its files.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let own = [&self.certificate_file, &self.key_file];
        own.into_iter().chain(&self.client_ca_file)
    }
}
