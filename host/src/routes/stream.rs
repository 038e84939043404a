//! Streams: deltas framed as server-sent events, the way OpenAI does.

use std::time::Duration;

use axum::response::{
    IntoResponse, Response, Sse,
    sse::{Event, KeepAlive},
};
use futures_util::{Stream, StreamExt, future::ready, stream};
use serde::Serialize;

use super::answer::{Format, Head};
use crate::{
    engine::Failure,
    error::ApiError,
    openai::Usage,
    reply::{Delta, End},
};

type SseResult = Result<Event, axum::Error>;

/// Sends an answer in pieces. While there is none, it sends comments.
pub fn streamed<F: Format>(
    deltas: impl Stream<Item = Result<Delta, Failure>> + Send + 'static,
    head: Head,
    include_usage: bool,
    keep_alive: Duration,
) -> Response {
    let keep_alive = KeepAlive::new().interval(keep_alive).text("ping");
    let sse = Sse::new(events::<F>(deltas, head, include_usage)).keep_alive(keep_alive);
    // nginx would collect a stream before it passes it on.
    ([("x-accel-buffering", "no")], sse).into_response()
}

fn events<F: Format>(
    deltas: impl Stream<Item = Result<Delta, Failure>> + Send + 'static,
    head: Head,
    include_usage: bool,
) -> impl Stream<Item = SseResult> + Send + 'static {
    let chunks = ChunkWriter {
        head,
        include_usage,
    };
    let opening = F::opening().map(|choice| chunks.choice::<F>(choice));
    let rest = deltas.flat_map(move |delta| stream::iter(chunks.write::<F>(delta)));
    let done = stream::once(ready(Ok(Event::default().data("[DONE]"))));
    stream::iter(opening).chain(rest).chain(done)
}

/// Writes the chunks of one stream.
struct ChunkWriter {
    head: Head,
    include_usage: bool,
}

impl ChunkWriter {
    fn write<F: Format>(&self, delta: Result<Delta, Failure>) -> Vec<SseResult> {
        match delta {
            Ok(Delta::Text(text)) => vec![self.choice::<F>(F::text(text))],
            Ok(Delta::End(end)) => {
                let mut last = vec![self.choice::<F>(F::end(end.reason))];
                last.extend(self.include_usage.then(|| self.usage::<F>(end)));
                last
            }
            Err(error) => vec![event(ApiError::from(error).into_envelope())],
        }
    }

    fn choice<F: Format>(&self, choice: F::ChunkChoice) -> SseResult {
        let usage = self.include_usage.then_some(None);
        event(self.head.completion(F::CHUNK_OBJECT, vec![choice], usage))
    }

    fn usage<F: Format>(&self, end: End) -> SseResult {
        let usage = Usage::new(
            self.head.prompt_tokens,
            end.cached_tokens,
            end.completion_tokens,
        );
        let choices = Vec::<F::ChunkChoice>::new();
        event(
            self.head
                .completion(F::CHUNK_OBJECT, choices, Some(Some(usage))),
        )
    }
}

fn event(data: impl Serialize) -> SseResult {
    Event::default().json_data(data)
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use serde_json::{Value, json};
    use tenon_plugin_api::Error;

    use super::{super::chat_completions::Chat, super::completions::Text, *};
    use crate::engine::FinishReason;

    fn head() -> Head {
        Head {
            id: "x".to_owned(),
            created: 1,
            model: "m".to_owned(),
            prompt_tokens: 2,
        }
    }

    fn text(text: &str) -> Result<Delta, Failure> {
        Ok(Delta::Text(text.to_owned()))
    }

    fn end() -> Result<Delta, Failure> {
        Ok(Delta::End(End {
            reason: FinishReason::Length,
            completion_tokens: 3,
            cached_tokens: 1,
        }))
    }

    async fn stream_text<F: Format>(deltas: Vec<Result<Delta, Failure>>, usage: bool) -> String {
        let keep_alive = Duration::from_secs(10);
        let response = streamed::<F>(stream::iter(deltas), head(), usage, keep_alive);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-cache");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        String::from_utf8(body.into()).unwrap()
    }

    fn events_of(chunks: &[Value]) -> String {
        let events = chunks.iter().map(|chunk| format!("data: {chunk}\n\n"));
        events.collect::<String>() + "data: [DONE]\n\n"
    }

    fn chat_chunk(delta: Value, reason: Value) -> Value {
        json!({
            "id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason}],
        })
    }

    #[tokio::test]
    async fn a_chat_stream_is_framed_as_openai_s() {
        let stream = stream_text::<Chat>(vec![text("Hi"), text("é\n"), end()], false).await;
        let expected = events_of(&[
            chat_chunk(json!({"role": "assistant", "content": ""}), json!(null)),
            chat_chunk(json!({"content": "Hi"}), json!(null)),
            chat_chunk(json!({"content": "é\n"}), json!(null)),
            chat_chunk(json!({}), json!("length")),
        ]);
        assert_eq!(stream, expected);
    }

    #[tokio::test]
    async fn usage_comes_in_a_chunk_of_its_own_and_is_null_before() {
        let stream = stream_text::<Chat>(vec![end()], true).await;
        let with_usage = |mut chunk: Value, usage: Value| {
            chunk["usage"] = usage;
            chunk
        };
        let mut last = chat_chunk(json!({}), json!(null));
        last["choices"] = json!([]);
        let usage = json!({"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 1}});
        let opening = chat_chunk(json!({"role": "assistant", "content": ""}), json!(null));
        let expected = events_of(&[
            with_usage(opening, json!(null)),
            with_usage(chat_chunk(json!({}), json!("length")), json!(null)),
            with_usage(last, usage),
        ]);
        assert_eq!(stream, expected);
    }

    #[tokio::test]
    async fn a_completion_stream_has_text() {
        let stream = stream_text::<Text>(vec![text("Hi"), end()], false).await;
        let chunk = |text: &str, reason: Value| {
            json!({
                "id": "x", "object": "text_completion", "created": 1, "model": "m",
                "choices": [{"text": text, "index": 0, "logprobs": null, "finish_reason": reason}],
            })
        };
        let expected = events_of(&[chunk("Hi", json!(null)), chunk("", json!("length"))]);
        assert_eq!(stream, expected);
    }

    #[tokio::test]
    async fn an_error_in_mid_stream_is_told_and_the_stream_ends_as_usual() {
        let error = Error::new(tenon_plugin_api::Code::PANICKED, "it broke");
        let failed = Err(error.into());
        let stream = stream_text::<Text>(vec![failed], false).await;
        let error = json!({"error": {
            "message": "it broke", "type": "server_error", "param": null, "code": "model_unavailable",
        }});
        assert_eq!(stream, events_of(&[error]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_stream_sends_comments() {
        let deltas = stream::once(async {
            tokio::time::sleep(Duration::from_millis(2500)).await;
            end()
        });
        let response = streamed::<Text>(deltas, head(), false, Duration::from_secs(1));
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let body = String::from_utf8(body.into()).unwrap();
        assert!(body.starts_with(": ping\n\n: ping\n\ndata: {"), "{body}");
    }
}
