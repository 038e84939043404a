use std::{
    convert::Infallible,
    future::pending,
    time::{Duration, Instant},
};

use axum::{
    extract::{FromRequestParts, Request},
    http::{HeaderMap, HeaderValue, request::Parts},
    middleware::Next,
    response::Response,
};
use tokio::time::sleep_until;

use crate::text::MAX_QUOTED;

/// The time at which the head of a request had arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrival(pub Instant);

impl Arrival {
    /// The time by which a request with this limit has to be answered. None without a limit.
    pub fn deadline(self, limit: Option<Duration>) -> Option<Instant> {
        limit.map(|limit| self.0 + limit)
    }

    /// Waits until a request with this limit has to be answered. Never returns without a limit.
    pub async fn overdue(self, limit: Option<Duration>) {
        match self.deadline(limit) {
            Some(time) => sleep_until(time.into()).await,
            None => pending().await,
        }
    }
}

/// Middleware that notes when a request arrived, and shortens its id.
pub async fn note(mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(Arrival(Instant::now()));
    shorten_id(request.headers_mut());
    next.run(request).await
}

/// Cuts a request id from the client to a bounded length, before it goes into the log and back to the client.
fn shorten_id(headers: &mut HeaderMap) {
    if let Some(id) = headers.get_mut("x-request-id") {
        let cut = &id.as_bytes()[..id.len().min(MAX_QUOTED)];
        // A part of a header's value is always a valid one.
        *id = HeaderValue::from_bytes(cut).unwrap_or(HeaderValue::from_static(""));
    }
}

impl<S: Sync> FromRequestParts<S> for Arrival {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let noted = parts.extensions.get::<Self>().copied();
        Ok(noted.unwrap_or_else(|| Self(Instant::now())))
    }
}
