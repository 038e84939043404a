//! Lines of the log about requests that have ended: the access log has all, the audit log those for administration. Neither has texts
//! of requests, nor keys. The texts are logged in lines of their own, if the configuration wants them.

use std::time::Instant;

use axum::{extract::Request, http::Method};
use tracing::info;

use super::request_id::request_id;
use crate::{connections::Peer, keys::Account, text::quoted};

/// The parts of a request's line that are known when the request begins.
pub struct RequestLog {
    pub is_access: bool,
    is_audit: bool,
    method: Method,
    path: String,
    id: Option<String>,
    client: Option<String>,
    started: Instant,
}

impl RequestLog {
    /// Begins the line about a request. None if the request belongs in neither log.
    pub fn begin(is_access: bool, request: &Request) -> Option<Self> {
        let path = request.uri().path();
        let is_audit = path.starts_with("/admin/") || ["/re_isq", "/status"].contains(&path);
        if !is_access && !is_audit {
            return None;
        }
        Some(Self {
            is_access,
            is_audit,
            method: request.method().clone(),
            path: quoted(path).into_owned(),
            id: request_id(request).map(str::to_owned),
            client: request.extensions().get().map(shown),
            started: Instant::now(),
        })
    }

    /// Writes the line.
    pub fn write(&self, account: &Account, status: u16, complete: bool) {
        let Self { path, started, .. } = self;
        let (id, client) = (self.id.as_deref(), self.client.as_deref());
        let method = quoted(self.method.as_str());
        let key = account.key().map(|key| key.name.as_str());
        let model = account.model();
        let duration_ms = started.elapsed().as_millis() as u64;
        if self.is_access {
            info!(
                target: "access",
                parent: None,
                %method, path, status, duration_ms, complete, key, client, model,
                prompt_tokens = account.prompt_tokens(),
                completion_tokens = account.completion_tokens(),
                id,
                "access"
            );
        }
        if self.is_audit {
            info!(
                target: "audit",
                parent: None,
                %method, path, status, duration_ms, key, client, model, id,
                "audit"
            );
        }
    }
}

/// Logs the texts of a request, if the configuration wants them.
pub fn write_texts(account: &Account, id: Option<&str>) {
    let Some(texts) = account.texts() else {
        return;
    };
    let (prompts, answers) = (texts.prompts(), texts.answers());
    if !prompts.is_empty() {
        info!(target: "prompts", parent: None, ?prompts, ?answers, model = account.model(), id, "prompts");
    }
}

fn shown(peer: &Peer) -> String {
    match peer {
        Peer::Address(address) => address.ip().to_canonical().to_string(),
        Peer::Unix => "unix".to_owned(),
    }
}
