//! Streams of server-sent events.

use std::{task::Poll, time::Duration};

use axum::response::{
    IntoResponse, Response, Sse,
    sse::{Event, KeepAlive},
};
use futures_util::{Stream, stream};
use serde::Serialize;

use crate::error::ApiError;

/// An event to be sent.
pub type SseResult = Result<Event, axum::Error>;

/// Sends events as they come, until the server ends. In between, it sends comments.
pub fn sse(
    events: impl Stream<Item = SseResult> + Send + 'static,
    keep_alive: Duration,
    end: impl Future<Output = ()> + Send + 'static,
) -> Response {
    let keep_alive = KeepAlive::new().interval(keep_alive).text("ping");
    let sse = Sse::new(until(end, events)).keep_alive(keep_alive);
    // Without this header nginx would collect the stream before passing it on.
    ([("x-accel-buffering", "no")], sse).into_response()
}

/// Passes events on. If the server ends, sends an error in place of the rest.
fn until(
    end: impl Future<Output = ()> + Send + 'static,
    events: impl Stream<Item = SseResult> + Send + 'static,
) -> impl Stream<Item = SseResult> + Send + 'static {
    let (mut end, mut events) = (Box::pin(end), Box::pin(events));
    let mut last_words = None;
    stream::poll_fn(move |context| {
        if last_words.is_none() {
            let next = events.as_mut().poll_next(context);
            if next.is_ready() || end.as_mut().poll(context).is_pending() {
                return next;
            }
        }
        let last_words = last_words.get_or_insert_with(|| {
            let error = event(ApiError::cut_off().into_envelope());
            [error, done()].into_iter()
        });
        Poll::Ready(last_words.next())
    })
}

/// An event with a JSON value.
pub fn event(data: impl Serialize) -> SseResult {
    Event::default().json_data(data)
}

/// The event that ends every stream.
pub fn done() -> SseResult {
    Ok(Event::default().data("[DONE]"))
}
