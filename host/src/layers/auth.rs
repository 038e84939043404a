//! API keys and admin keys, and the identity of clients. Without configured keys, every request is let in, but administration is
//! for this machine only.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, header::AUTHORIZATION},
    middleware::Next,
    response::Response,
};
use constant_time_eq::constant_time_eq;

use super::local::is_local;
use crate::{app::App, config::Server, engine::ClientId, error::ApiError};

/// The header in which clients of Anthropic's API send their key.
const API_KEY: &str = "x-api-key";

/// The path that changes a model's level. It belongs to administration if the operator wants it.
const REQUANTIZE: &str = "/re_isq";

/// What a request needs to be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Nothing,
    /// Any key, if there are API keys.
    Key,
    AdminKey,
    /// That it comes from this machine, and any key if there are API keys.
    Locality,
}

/// A configured key that a request has.
#[derive(Clone, Copy)]
struct KnownKey<'a> {
    text: &'a str,
    is_admin: bool,
}

/// Middleware that lets in requests with the key that their path needs, and requests for what holds no secret: the health and the
/// documentation. Each request that is let in gets the [`ClientId`] that it is served under.
///
/// The documentation is open because a browser that opens it has no key yet.
pub async fn require_key(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let now = app.now();
    let server = &now.config.server;
    let key = known_key(request.headers(), server);
    check(&request, key, server)?;
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let client = client(
        key.map(|key| key.text),
        peer.map(|ConnectInfo(address)| address.ip()),
    );
    request.extensions_mut().insert(client);
    Ok(next.run(request).await)
}

/// Whether a request has a known key, or no keys are configured.
pub fn is_trusted(app: &App, headers: &HeaderMap) -> bool {
    let server = &app.now().config.server;
    server.api_keys.is_empty() || known_key(headers, server).is_some()
}

fn check(request: &Request, key: Option<KnownKey>, server: &Server) -> Result<(), ApiError> {
    let need = need(request.uri().path(), server);
    let lacks_key = match need {
        Need::Nothing => false,
        Need::AdminKey => key.is_none(),
        Need::Key | Need::Locality => key.is_none() && !server.api_keys.is_empty(),
    };
    match need {
        _ if lacks_key => Err(ApiError::unauthorized()),
        Need::AdminKey if key.is_some_and(|key| !key.is_admin) => Err(ApiError::not_admin()),
        Need::Locality if !is_local(request) => Err(ApiError::not_local()),
        _ => Ok(()),
    }
}

fn need(path: &str, server: &Server) -> Need {
    match path {
        _ if is_open(path) => Need::Nothing,
        REQUANTIZE if server.requantize_needs_admin_key => Need::AdminKey,
        _ if !path.starts_with("/admin/") => Need::Key,
        _ if server.admin_keys.is_empty() => Need::Locality,
        _ => Need::AdminKey,
    }
}

fn is_open(path: &str) -> bool {
    let open = ["/", "/health", "/docs", "/openapi.json"];
    open.contains(&path) || path.starts_with("/health/") || path.starts_with("/docs/")
}

/// The configured key that a request sends in `Authorization: Bearer KEY` or `x-api-key: KEY`. If both headers have a known
/// key, the bearer counts.
fn known_key<'a>(headers: &HeaderMap, server: &'a Server) -> Option<KnownKey<'a>> {
    let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = value(AUTHORIZATION.as_str()).and_then(|value| value.split_once(' '));
    let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let given = [bearer.map(|(_, key)| key), value(API_KEY)];
    let known = |given: &str| {
        // Takes the same time wherever the first difference is, so that nobody can guess a key byte by byte.
        let is_it = |known: &&String| constant_time_eq(known.as_bytes(), given.trim().as_bytes());
        let among = |keys: &'a [String], is_admin| {
            let text = keys.iter().find(is_it)?;
            Some(KnownKey { text, is_admin })
        };
        among(&server.admin_keys, true).or_else(|| among(&server.api_keys, false))
    };
    given.into_iter().flatten().find_map(known)
}

/// Identifies a client: by its key, else by its address.
fn client(key: Option<&str>, peer: Option<IpAddr>) -> ClientId {
    let mut hasher = DefaultHasher::new();
    match (key, peer.map(|peer| peer.to_canonical())) {
        (Some(key), _) => key.hash(&mut hasher),
        (None, Some(IpAddr::V4(address))) => address.hash(&mut hasher),
        // A client that has one IPv6 address has its whole /64 network.
        (None, Some(IpAddr::V6(address))) => address.segments()[..4].hash(&mut hasher),
        (None, None) => {}
    }
    ClientId(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> ClientId {
        client(None, Some(address.parse().unwrap()))
    }

    #[test]
    fn clients_are_told_apart_by_key_else_by_address() {
        let address = "192.0.2.1".parse().ok();
        assert_ne!(client(Some("a"), address), client(Some("b"), address));
        assert_eq!(client(Some("a"), address), client(Some("a"), None));
        assert_ne!(from("192.0.2.1"), from("192.0.2.2"));
        assert_eq!(from("192.0.2.1"), from("::ffff:192.0.2.1"));
        assert_eq!(from("2001:db8:1:2::1"), from("2001:db8:1:2:3::9"));
        assert_ne!(from("2001:db8:1:2::1"), from("2001:db8:1:3::1"));
    }
}
