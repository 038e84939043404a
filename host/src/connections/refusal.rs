//! Answers to clients whose request does not reach the router.

use std::{sync::LazyLock, time::Duration};

use axum::http::StatusCode;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::Semaphore,
    time::timeout,
};

use super::{register::Full, stream::Stream};
use crate::error::ApiError;

/// Most clients that are told at the same time that there is no place. Further clients only find their connection closed.
const MOST_AT_ONCE: usize = 16;
/// The time that telling a client may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// The answer to a request whose head did not arrive in time.
pub static LATE_HEAD: LazyLock<String> = LazyLock::new(|| {
    written(ApiError::too_slow(
        "the head of the request did not arrive in time",
    ))
});

static NO_PLACE: LazyLock<String> = LazyLock::new(|| {
    let message = "the server has as many connections as it can serve; try again later";
    written(ApiError::try_later("too_many_connections", message))
});

static NO_PLACE_FOR_CLIENT: LazyLock<String> = LazyLock::new(|| {
    let message = "this client has as many connections as it may have \
                   (max_connections_per_client): use those, or try again later";
    written(ApiError::too_many("too_many_connections", message))
});

static PLACES: Semaphore = Semaphore::const_new(MOST_AT_ONCE);

/// Tells a client, in a task of its own, why there is no place for its connection.
pub fn refuse(stream: Stream, full: Full) {
    let Ok(place) = PLACES.try_acquire() else {
        return;
    };
    tokio::spawn(async move {
        // A client that does not read the answer in time misses it.
        let answer = match full {
            Full::Server => NO_PLACE.as_bytes(),
            Full::Client => NO_PLACE_FOR_CLIENT.as_bytes(),
        };
        let _ = timeout(PATIENCE, tell(stream, answer)).await;
        drop(place);
    });
}

async fn tell(stream: Stream, answer: &[u8]) -> std::io::Result<()> {
    match stream {
        Stream::Tcp(stream) => tell_at(stream, answer).await,
        Stream::Unix(stream) => tell_at(stream, answer).await,
    }
}

async fn tell_at(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &[u8],
) -> std::io::Result<()> {
    stream.write_all(answer).await?;
    stream.shutdown().await?;
    // Reads the request: closing with unread bytes would reset the connection, and the answer would be lost.
    while stream.read(&mut [0; 4096]).await? > 0 {}
    Ok(())
}

/// An error as a whole HTTP/1.1 response.
fn written(error: ApiError) -> String {
    let (status, retry_after) = (error.status(), error.retry_after_secs());
    let retry_after = retry_after.map_or(String::new(), |secs| format!("retry-after: {secs}\r\n"));
    let reason = status.canonical_reason().unwrap_or_default();
    // The envelope consists of strings, so it always becomes JSON.
    let body = serde_json::to_string(&error.into_envelope()).unwrap_or_default();
    format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: application/json\r\n{retry_after}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        StatusCode::as_u16(&status),
        body.len()
    )
}
