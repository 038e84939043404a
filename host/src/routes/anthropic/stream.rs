use std::time::Duration;

use axum::response::{Response, sse::KeepAlive};
use futures_util::{FutureExt, Stream, StreamExt, stream};

use super::{
    super::sse::{SseResult, named_event, send_with, until},
    events::EventWriter,
    message::AnswerHead,
    whole::WholeMessage,
};
use crate::{
    anthropic::{Message, StreamEvent},
    engine::Failure,
    error::ApiError,
    reply::{Delta, Reply},
};

/// The pieces of an answer.
pub trait Deltas: Stream<Item = Result<Delta, Failure>> + Send + 'static {}

impl<S: Stream<Item = Result<Delta, Failure>> + Send + 'static> Deltas for S {}

/// An answer that has just begun.
pub struct Begun<D> {
    /// How many of the prompt's tokens come from the cached prefix.
    pub cached_tokens: u32,
    pub deltas: D,
}

/// Waits until an answer begins.
pub async fn begun(mut reply: Reply) -> Result<Begun<impl Deltas>, Failure> {
    Ok(Begun {
        cached_tokens: reply.begun().await?,
        deltas: reply.into_stream(),
    })
}

/// Sends an answer as a stream. `begun` waits until it begins. While there is nothing to send, pings are sent. If the server ends,
/// an error takes the place of the rest.
pub fn streamed<D: Deltas>(
    begun: impl Future<Output = Result<Begun<D>, Failure>> + Send + 'static,
    head: AnswerHead,
    keep_alive: Duration,
    end: impl Future<Output = ()> + Send + 'static,
) -> Response {
    let events = until(end, events(begun, head), [error(ApiError::cut_off())]);
    let ping = event(&StreamEvent::Ping).unwrap_or_default();
    send_with(events, KeepAlive::new().interval(keep_alive).event(ping))
}

/// Waits for the whole answer. It is made of the events of the stream, so that both have the same blocks.
pub async fn whole(mut reply: Reply, head: AnswerHead) -> Result<Message, Failure> {
    let mut whole = WholeMessage::new(head.opening(reply.begun().await?));
    let mut writer = EventWriter::new(head);
    while let Some(delta) = reply.next().await {
        writer
            .write(delta?)
            .into_iter()
            .for_each(|event| whole.add(event));
    }
    Ok(whole.finish())
}

fn events<D: Deltas>(
    begun: impl Future<Output = Result<Begun<D>, Failure>> + Send + 'static,
    head: AnswerHead,
) -> impl Stream<Item = SseResult> + Send + 'static {
    let events = begun.map(|begun| match begun {
        Ok(begun) => answer(begun, head).left_stream(),
        Err(failure) => stream::iter([error(failure.into())]).right_stream(),
    });
    events.flatten_stream()
}

fn answer<D: Deltas>(begun: Begun<D>, head: AnswerHead) -> impl Stream<Item = SseResult> {
    let mut writer = EventWriter::new(head);
    let opening = writer.opening(begun.cached_tokens);
    let write = move |delta| {
        let events = match delta {
            Ok(delta) => writer.write(delta).iter().map(event).collect(),
            Err(failure) => vec![error(ApiError::from(failure))],
        };
        stream::iter(events)
    };
    stream::iter([event(&opening)]).chain(begun.deltas.flat_map(write))
}

fn event(event: &StreamEvent) -> SseResult {
    named_event(event.name(), event)
}

/// The event of an error, which is the last one of its stream.
pub fn error(error: ApiError) -> SseResult {
    named_event("error", error.into_anthropic_envelope(None))
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, pending, ready};

    use axum::body::to_bytes;
    use serde_json::{Value, json};
    use tenon_plugin_api::{Code, Error};

    use super::{
        super::message::tests::{end, head},
        *,
    };
    use crate::{engine::FinishReason, reply::AnswerPiece};

    fn text(text: &str) -> Delta {
        Delta::Text(AnswerPiece {
            text: text.to_owned(),
            ..AnswerPiece::default()
        })
    }

    fn at_once<D: Deltas>(deltas: D) -> Ready<Result<Begun<D>, Failure>> {
        let cached_tokens = 4;
        ready(Ok(Begun {
            cached_tokens,
            deltas,
        }))
    }

    async fn sent(deltas: impl Deltas, end: impl Future<Output = ()> + Send + 'static) -> String {
        let response = streamed(at_once(deltas), head(true), Duration::from_secs(10), end);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        String::from_utf8(body.into()).unwrap()
    }

    fn framed(events: &[Value]) -> String {
        let events = events.iter();
        let events = events.map(|data| {
            let name = data["type"].as_str().unwrap();
            format!("event: {name}\ndata: {data}\n\n")
        });
        events.collect()
    }

    fn opening() -> Value {
        json!({"type": "message_start", "message": {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [],
            "stop_reason": null, "stop_sequence": null,
            "usage": {
                "input_tokens": 6, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4,
                "output_tokens": 0,
            },
        }})
    }

    #[tokio::test]
    async fn a_stream_is_framed_as_anthropic_s() {
        let end = end(FinishReason::Stop, Some(0));
        let deltas = stream::iter([Ok(text("Hi")), Ok(Delta::End(end))]);
        let usage = json!({
            "input_tokens": 6, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4,
            "output_tokens": 5, "output_tokens_details": {"thinking_tokens": 2},
        });
        let stop = json!({"stop_reason": "stop_sequence", "stop_sequence": "A"});
        let expected = framed(&[
            opening(),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": stop, "usage": usage}),
            json!({"type": "message_stop"}),
        ]);
        assert_eq!(sent(deltas, pending()).await, expected);
    }

    #[tokio::test]
    async fn an_error_in_mid_stream_is_the_last_event() {
        let failure = Failure::from(Error::new(Code::PANICKED, "it broke"));
        let sent = sent(stream::iter([Err(failure)]), pending()).await;
        let error = json!({"type": "overloaded_error", "message": "it broke"});
        let error = json!({"type": "error", "error": error, "request_id": null});
        assert_eq!(sent, framed(&[opening(), error]));
    }

    #[tokio::test]
    async fn an_answer_that_never_begins_is_an_error() {
        let failure = Failure::from(Error::new(Code::PANICKED, "it broke"));
        let begun = ready(Err::<Begun<stream::Empty<_>>, _>(failure));
        let response = streamed(begun, head(true), Duration::from_secs(10), pending());
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let error = json!({"type": "overloaded_error", "message": "it broke"});
        let error = json!({"type": "error", "error": error, "request_id": null});
        assert_eq!(body, framed(&[error]));
    }

    #[tokio::test]
    async fn a_stream_that_waits_for_its_place_sends_pings() {
        let often = Duration::from_millis(1);
        let begun = pending::<Result<Begun<stream::Empty<_>>, Failure>>();
        let response = streamed(begun, head(true), often, pending());
        let mut body = response.into_body().into_data_stream();
        let ping = body.next().await.unwrap().unwrap();
        assert_eq!(ping, "event: ping\ndata: {\"type\":\"ping\"}\n\n");
    }

    #[tokio::test]
    async fn at_the_end_of_the_server_a_stream_ends_with_an_error() {
        let deltas = stream::iter([Ok(text("Hi"))]).chain(stream::pending());
        let sent = sent(deltas, ready(())).await;
        let last = sent.split_terminator("\n\n").last().unwrap();
        assert!(last.starts_with("event: error\n"), "{last}");
        assert!(last.contains("overloaded_error"), "{last}");
    }

    #[tokio::test]
    async fn a_waiting_stream_sends_pings() {
        let often = Duration::from_millis(1);
        let response = streamed(at_once(stream::pending()), head(true), often, pending());
        let mut body = response.into_body().into_data_stream();
        body.next().await.unwrap().unwrap();
        for _ in 0..2 {
            let ping = body.next().await.unwrap().unwrap();
            assert_eq!(ping, "event: ping\ndata: {\"type\":\"ping\"}\n\n");
        }
    }
}
