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

/// Sends events as they come, and comments while there are none. If the server ends, an error takes the place of the rest.
pub fn sse(
    events: impl Stream<Item = SseResult> + Send + 'static,
    keep_alive: Duration,
    end: impl Future<Output = ()> + Send + 'static,
) -> Response {
    let error = event(ApiError::cut_off().into_envelope());
    send(until(end, events, [error, done()]), keep_alive)
}

/// Sends events as they come, and comments while there are none.
pub fn send(
    events: impl Stream<Item = SseResult> + Send + 'static,
    keep_alive: Duration,
) -> Response {
    send_with(events, KeepAlive::new().interval(keep_alive).text("ping"))
}

/// Sends events as they come, and the event of `keep_alive` while there are none.
pub fn send_with(
    events: impl Stream<Item = SseResult> + Send + 'static,
    keep_alive: KeepAlive,
) -> Response {
    let sse = Sse::new(events).keep_alive(keep_alive);
    // Without this header nginx would collect the stream before passing it on.
    ([("x-accel-buffering", "no")], sse).into_response()
}

/// Passes items on. If the server ends, sends the last words in place of the rest.
pub fn until<T: Send + 'static>(
    end: impl Future<Output = ()> + Send + 'static,
    items: impl Stream<Item = T> + Send + 'static,
    last_words: impl IntoIterator<Item = T, IntoIter: Send + 'static>,
) -> impl Stream<Item = T> + Send + 'static {
    let (mut end, mut items) = (Box::pin(end), Box::pin(items));
    let mut last_words = last_words.into_iter();
    let mut is_cut_off = false;
    stream::poll_fn(move |context| {
        if !is_cut_off {
            let next = items.as_mut().poll_next(context);
            if next.is_ready() || end.as_mut().poll(context).is_pending() {
                return next;
            }
            is_cut_off = true;
        }
        Poll::Ready(last_words.next())
    })
}

/// An event with a JSON value.
pub fn event(data: impl Serialize) -> SseResult {
    Event::default().json_data(data)
}

/// An event with a name and a JSON value.
pub fn named_event(name: &str, data: impl Serialize) -> SseResult {
    Event::default().event(name).json_data(data)
}

/// The event that ends every stream.
pub fn done() -> SseResult {
    Ok(Event::default().data("[DONE]"))
}
