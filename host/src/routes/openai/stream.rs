//! Streams of answers to chats and completions.

use std::time::Duration;

use axum::response::Response;
use futures_util::{Stream, StreamExt, future::ready, stream};

use super::{
    super::{
        generation::{Tally, Warnings},
        sse::{SseResult, done, event, sse},
    },
    format::{Format, Head, usage},
};
use crate::{
    engine::Failure,
    error::ApiError,
    openai::Completion,
    reply::{AnswerPiece, Delta, End},
};

/// Sends answers as a stream. Each chunk has the index of its answer. While there are no chunks, comments are sent. If the
/// server ends, an error takes the place of the rest.
pub fn streamed<F: Format>(
    deltas: impl Stream<Item = (u32, Result<Delta, Failure>)> + Send + 'static,
    chunks: ChunkWriter,
    keep_alive: Duration,
    end: impl Future<Output = ()> + Send + 'static,
) -> Response {
    sse(events::<F>(deltas, chunks), keep_alive, end)
}

fn events<F: Format>(
    deltas: impl Stream<Item = (u32, Result<Delta, Failure>)> + Send + 'static,
    mut chunks: ChunkWriter,
) -> impl Stream<Item = SseResult> + Send + 'static {
    let openings = (0..chunks.open).filter_map(F::opening);
    let openings: Vec<_> = openings.map(|choice| chunks.choice::<F>(choice)).collect();
    let write = move |(index, delta)| stream::iter(chunks.write::<F>(index, delta));
    stream::iter(openings)
        .chain(deltas.flat_map(write))
        .chain(stream::once(ready(done())))
}

/// Writes the chunks of one stream.
pub struct ChunkWriter {
    head: Head,
    tally: Tally,
    include_usage: bool,
    warnings: Warnings,
    /// Each answer so far, by index. Empty unless the warnings need it.
    answers: Vec<AnswerPiece>,
    /// Number of answers that have not ended.
    open: u32,
}

impl ChunkWriter {
    /// Makes the writer for a stream of this many answers.
    pub fn new(
        head: Head,
        tally: Tally,
        warnings: Warnings,
        answers: u32,
        include_usage: bool,
    ) -> Self {
        Self {
            head,
            tally,
            include_usage,
            answers: vec![AnswerPiece::default(); answers as usize],
            warnings,
            open: answers,
        }
    }

    fn write<F: Format>(&mut self, index: u32, delta: Result<Delta, Failure>) -> Vec<SseResult> {
        match delta {
            Ok(Delta::Text(piece)) => {
                self.remember(index, &piece);
                vec![self.choice::<F>(F::piece(index, piece))]
            }
            Ok(Delta::End(end)) => {
                self.open -= 1;
                self.tally.add(index, &end);
                let mut last = vec![self.last::<F>(index, &end)];
                let is_last = self.open == 0 && self.include_usage;
                last.extend(is_last.then(|| self.usage::<F>()));
                last
            }
            Err(error) => vec![event(ApiError::from(error).into_envelope())],
        }
    }

    fn choice<F: Format>(&self, choice: F::ChunkChoice) -> SseResult {
        let usage = self.include_usage.then_some(None);
        event(self.head.completion(F::CHUNK_OBJECT, vec![choice], usage))
    }

    fn last<F: Format>(&self, index: u32, end: &End) -> SseResult {
        let usage = self.include_usage.then_some(None);
        let choices = vec![F::end(index, end)];
        let answer = self.answers.get(index as usize);
        let warnings = answer.map(|answer| self.warnings.of(index, answer, end));
        event(Completion {
            warnings: warnings.unwrap_or_default(),
            ..self.head.completion(F::CHUNK_OBJECT, choices, usage)
        })
    }

    fn remember(&mut self, index: u32, piece: &AnswerPiece) {
        if let Some(answer) = self.answers.get_mut(index as usize)
            && self.warnings.want_text()
        {
            answer.append(AnswerPiece {
                text: piece.text.clone(),
                calls: piece.calls.clone(),
                ..AnswerPiece::default()
            });
        }
    }

    fn usage<F: Format>(&self) -> SseResult {
        let choices = Vec::<F::ChunkChoice>::new();
        let usage = Some(Some(usage(&self.tally)));
        event(self.head.completion(F::CHUNK_OBJECT, choices, usage))
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use axum::body::to_bytes;
    use serde_json::{Value, json};
    use tenon_plugin_api::Error;

    use super::{
        super::format::tests::{answer, head},
        *,
    };
    use crate::{
        engine::FinishReason,
        routes::{chat_completions::ChatFormat, completions::CompletionFormat},
    };

    fn text(text: &str) -> Result<Delta, Failure> {
        Ok(Delta::Text(answer(text, 0.0).0))
    }

    fn end() -> Result<Delta, Failure> {
        Ok(Delta::End(End {
            reason: FinishReason::Length,
            ..answer("", 0.0).1
        }))
    }

    fn chunks(answers: u32, usage: bool) -> ChunkWriter {
        let tally = Tally::new(2, answers);
        ChunkWriter::new(head(), tally, Warnings::default(), answers, usage)
    }

    async fn stream_text<F: Format>(deltas: Vec<Result<Delta, Failure>>, usage: bool) -> String {
        let deltas = deltas.into_iter().map(|delta| (0, delta)).collect();
        stream_texts::<F>(1, deltas, usage).await
    }

    async fn stream_texts<F: Format>(
        answers: u32,
        deltas: Vec<(u32, Result<Delta, Failure>)>,
        usage: bool,
    ) -> String {
        let (deltas, rarely) = (stream::iter(deltas), Duration::from_secs(10));
        let response = streamed::<F>(deltas, chunks(answers, usage), rarely, pending());
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
            "id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "system_fingerprint": "fp",
            "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason}],
        })
    }

    #[tokio::test]
    async fn a_chat_stream_is_framed_as_openai_s() {
        let stream = stream_text::<ChatFormat>(vec![text("Hi"), text("é\n"), end()], false).await;
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
        let stream = stream_text::<ChatFormat>(vec![end()], true).await;
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
        let stream = stream_text::<CompletionFormat>(vec![text("Hi"), end()], false).await;
        let chunk = |text: &str, reason: Value| {
            json!({
                "id": "x", "object": "text_completion", "created": 1, "model": "m", "system_fingerprint": "fp",
                "choices": [{"text": text, "index": 0, "logprobs": null, "finish_reason": reason}],
            })
        };
        let expected = events_of(&[chunk("Hi", json!(null)), chunk("", json!("length"))]);
        assert_eq!(stream, expected);
    }

    #[tokio::test]
    async fn several_answers_have_their_index_and_one_usage() {
        let deltas = vec![(1, text("b")), (0, text("a")), (1, end()), (0, end())];
        let stream = stream_texts::<CompletionFormat>(2, deltas, true).await;
        let chunk = |choices: Value, usage: Value| {
            json!({
                "id": "x", "object": "text_completion", "created": 1, "model": "m", "system_fingerprint": "fp",
                "choices": choices,
                "usage": usage,
            })
        };
        let choice = |index: u32, text: &str, reason: Value| {
            let choice =
                json!([{"text": text, "index": index, "logprobs": null, "finish_reason": reason}]);
            chunk(choice, json!(null))
        };
        let usage = json!({
            "prompt_tokens": 2, "completion_tokens": 6, "total_tokens": 8,
            "prompt_tokens_details": {"cached_tokens": 1},
        });
        let expected = events_of(&[
            choice(1, "b", json!(null)),
            choice(0, "a", json!(null)),
            choice(1, "", json!("length")),
            choice(0, "", json!("length")),
            chunk(json!([]), usage),
        ]);
        assert_eq!(stream, expected);
    }

    #[tokio::test]
    async fn an_error_in_mid_stream_is_told_and_the_stream_ends_as_usual() {
        let error = Error::new(tenon_plugin_api::Code::PANICKED, "it broke");
        let failed = Err(error.into());
        let stream = stream_text::<CompletionFormat>(vec![failed], false).await;
        let error = json!({"error": {
            "message": "it broke", "type": "server_error", "param": null, "code": "model_unavailable",
        }});
        assert_eq!(stream, events_of(&[error]));
    }

    #[tokio::test]
    async fn at_the_end_of_the_server_a_stream_ends_with_an_error() {
        let deltas = stream::iter([(0, text("Hi"))]).chain(stream::pending());
        let response = streamed::<CompletionFormat>(
            deltas,
            chunks(1, false),
            Duration::from_secs(10),
            ready(()),
        );
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let body = String::from_utf8(body.into()).unwrap();
        let events: Vec<_> = body.split_terminator("\n\n").collect();
        let [text, error, done] = events.as_slice() else {
            panic!("{body}")
        };
        assert!(text.contains("\"text\":\"Hi\""), "{text}");
        assert!(error.contains("\"code\":\"draining\""), "{error}");
        assert_eq!(*done, "data: [DONE]");
    }

    #[tokio::test]
    async fn a_waiting_stream_sends_comments() {
        let deltas = stream::pending();
        let often = Duration::from_millis(1);
        let response = streamed::<CompletionFormat>(deltas, chunks(1, false), often, pending());
        let mut body = response.into_body().into_data_stream();
        for _ in 0..2 {
            assert_eq!(body.next().await.unwrap().unwrap(), ": ping\n\n");
        }
    }
}
