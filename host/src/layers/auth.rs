//! API keys and admin keys, and the identity of clients. Without configured keys, every request is let in, but administration is
//! for this machine only.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{AUTHORIZATION, WWW_AUTHENTICATE},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};

use super::{client::Client, limits, local::is_local};
use crate::{
    app::App,
    config::Config,
    connections::Peer,
    engine::ClientId,
    error::ApiError,
    keys::{Account, Key, Keys},
};

/// The header in which clients of Anthropic's API send their key.
const API_KEY: &str = "x-api-key";

/// The path that changes a model's level. It belongs to administration if the operator wants it.
const REQUANTIZE: &str = "/re_isq";

/// The status page, which belongs to administration. Browsers may send the key as a password there. They then also send it when
/// another site's page asks for the status page, which is harmless because that changes nothing.
const STATUS: &str = "/status";

/// The header value that makes a browser ask for a password.
const ASK: HeaderValue = HeaderValue::from_static("Basic realm=\"Tenon\", charset=\"UTF-8\"");

/// The condition on which a request is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Nothing,
    /// Any key, if there are API keys.
    Key,
    AdminKey,
    /// To come from this machine, and any key if there are API keys.
    Locality,
}

/// Middleware that lets in requests with the key that their path needs, and requests for the open routes: the health, the
/// documentation and the chat page, which hold no secrets. Each request that is let in gets its [`Client`] as an extension.
///
/// The documentation and the chat page are open because a browser that opens them has no key yet.
pub async fn require_key(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let now = app.now();
    let is_status = request.uri().path() == STATUS;
    let password = is_status.then(|| password(request.headers())).flatten();
    let key = known_key(request.headers(), password.as_deref(), &now.config.keys);
    let mut account = request.extensions().get::<Arc<Account>>().cloned();
    if let Some(key) = key {
        // A request without an account began before there were keys.
        account.get_or_insert_default().set_key(key.clone());
    }
    let key = key.map(AsRef::as_ref);
    if let Err(refusal) = check(&request, key, &now.config) {
        return match is_status {
            true => Ok(asking(refusal)),
            false => Err(refusal),
        };
    }
    let id = client(key, request.extensions().get().copied());
    let has_limits = key.is_some_and(Key::is_limited) && limits::are_for(&request);
    let limited = account.clone().filter(|_| has_limits);
    request.extensions_mut().insert(Client { id, account });
    Ok(match limited {
        Some(account) => limits::within(account, request, next).await,
        None => next.run(request).await,
    })
}

/// Whether a request has a known key, or no keys are needed.
pub fn is_trusted(app: &App, headers: &HeaderMap) -> bool {
    let keys = &app.now().config.keys;
    !keys.are_needed || known_key(headers, None, keys).is_some()
}

fn check(request: &Request, key: Option<&Key>, config: &Config) -> Result<(), ApiError> {
    let need = need(request.uri().path(), config);
    let lacks_key = match need {
        Need::Nothing => false,
        Need::AdminKey => key.is_none(),
        Need::Key | Need::Locality => key.is_none() && config.keys.are_needed,
    };
    match need {
        _ if lacks_key => Err(ApiError::unauthorized()),
        Need::AdminKey if key.is_some_and(|key| !key.rights.is_admin) => Err(ApiError::not_admin()),
        Need::Locality if !is_local(request) => Err(ApiError::not_local()),
        _ => Ok(()),
    }
}

fn need(path: &str, config: &Config) -> Need {
    let has_admin = || config.keys.have_admin();
    match path {
        _ if is_open(path) => Need::Nothing,
        REQUANTIZE if config.server.requantize_needs_admin_key && has_admin() => Need::AdminKey,
        _ if path != STATUS && !path.starts_with("/admin/") => Need::Key,
        _ if has_admin() => Need::AdminKey,
        _ => Need::Locality,
    }
}

fn is_open(path: &str) -> bool {
    let open = ["/", "/health", "/docs", "/openapi.json"];
    open.contains(&path)
        || ["/health/", "/docs/", "/page/"]
            .iter()
            .any(|start| path.starts_with(start))
}

/// A refusal that makes a browser ask for a password, if a key is missing.
fn asking(refusal: ApiError) -> Response {
    let mut response = refusal.into_response();
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, ASK);
    }
    response
}

/// The password of `Authorization: Basic`.
fn password(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, value) = value.split_once(' ')?;
    let is_basic = scheme.eq_ignore_ascii_case("basic");
    let decoded = BASE64_STANDARD.decode(value.trim()).ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (_, password) = decoded.split_once(':')?;
    is_basic.then(|| password.to_owned())
}

/// The key that a request sends in `Authorization: Bearer KEY` or `x-api-key: KEY`, or as its password. The first known key
/// counts.
fn known_key<'a>(
    headers: &HeaderMap,
    password: Option<&str>,
    keys: &'a Keys,
) -> Option<&'a Arc<Key>> {
    if keys.is_empty() {
        return None;
    }
    let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = value(AUTHORIZATION.as_str()).and_then(|value| value.split_once(' '));
    let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let sent = [bearer.map(|(_, key)| key), value(API_KEY), password];
    sent.into_iter()
        .flatten()
        .find_map(|sent| keys.find(sent.trim()))
}

/// Identifies a client: by its key, else by its address. All clients at Unix sockets are one.
fn client(key: Option<&Key>, peer: Option<Peer>) -> ClientId {
    let mut hasher = DefaultHasher::new();
    match (key, peer.and_then(Peer::client_address)) {
        (Some(key), _) => key.identity.hash(&mut hasher),
        (None, Some(address)) => address.hash(&mut hasher),
        (None, None) => {}
    }
    ClientId(hasher.finish())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::keys::KeyHash;

    fn from(address: &str) -> ClientId {
        let address = SocketAddr::new(address.parse().unwrap(), 9);
        client(None, Some(Peer::Address(address)))
    }

    #[test]
    fn clients_are_told_apart_by_key_else_by_address() {
        let address = Some(Peer::Unix);
        let of_key = |key: &str, address| {
            let key = Key::listed(String::new(), KeyHash::of(key), false);
            client(Some(&key), address)
        };
        assert_ne!(of_key("a", address), of_key("b", address));
        assert_eq!(of_key("a", address), of_key("a", None));
        assert_ne!(from("192.0.2.1"), from("192.0.2.2"));
        assert_eq!(from("192.0.2.1"), from("::ffff:192.0.2.1"));
        assert_eq!(from("2001:db8:1:2::1"), from("2001:db8:1:2:3::9"));
        assert_ne!(from("2001:db8:1:2::1"), from("2001:db8:1:3::1"));
    }
}
