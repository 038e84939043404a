//! Writes the response, and the events of its stream, from the pieces of an answer. A response that is not streamed is written in
//! the same way, so that both have the same content.

use std::time::{Duration, SystemTime};

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, future::ready, stream};
use tracing::error;

use super::{
    super::{
        generation::{Answers, Tally, Warnings},
        sse::{self, SseResult, done, named_event, until},
    },
    events::UnsentEvents,
    items::Items,
    keep::Keeper,
};
use crate::{
    app::App,
    engine::FinishReason,
    error::ApiError,
    openai::{
        ErrorBody,
        responses::{
            IncompleteDetails, InputTokensDetails, OutputTokensDetails, ResponseErrorEvent,
            ResponseEvent, ResponseFailure, ResponseObject, ResponseStatus,
            ResponseStreamEvent as Event, ResponseUsage,
        },
        unix_seconds,
    },
    reply::{AnswerPiece, Delta, End, Reply},
};

/// A response before there is any output.
pub struct Draft {
    pub response: ResponseObject,
    pub items: Items,
    /// Keeps the response once it has ended. None if it is not to be kept.
    pub keeper: Option<Keeper>,
}

/// Writes a response.
pub struct ResponseWriter {
    response: ResponseObject,
    items: Items,
    keeper: Option<Keeper>,
    tally: Tally,
    warnings: Warnings,
    /// Text and calls so far. Empty unless the warnings need it.
    answer: AnswerPiece,
    events: UnsentEvents,
}

/// Sends the response, as a stream or as a whole.
pub async fn send(
    app: &App,
    draft: Draft,
    answers: Answers,
    is_streamed: bool,
) -> Result<Response, ApiError> {
    if !is_streamed {
        return whole(draft, answers).await;
    }
    let keep_alive = app.now().config.server.keep_alive_interval;
    let end = app.cut_off.clone().cancelled_owned();
    Ok(streamed(draft, answers, keep_alive, end))
}

/// The events of a stream that fails before its response exists.
pub fn failure(error: ApiError) -> Vec<SseResult> {
    let event = error_event(0, error.into_envelope().error);
    vec![named_event(event.name(), &event), done()]
}

async fn whole(draft: Draft, answers: Answers) -> Result<Response, ApiError> {
    let (mut writer, replies) = ResponseWriter::new(draft, answers);
    for mut reply in replies {
        while let Some(delta) = reply.next().await {
            writer.write(Ok(delta?)).await;
        }
    }
    Ok(Json(writer.response).into_response())
}

/// Sends the response as a stream. If the server `end`s, the response fails.
fn streamed(
    draft: Draft,
    answers: Answers,
    keep_alive: Duration,
    end: impl Future<Output = ()> + Send + 'static,
) -> Response {
    let (mut writer, replies) = ResponseWriter::new(draft, answers);
    let deltas = stream::iter(replies).flat_map(|reply| reply.into_stream().boxed());
    let deltas = deltas.map(|delta| delta.map_err(ApiError::from));
    let deltas = until(end, deltas, [Err(ApiError::cut_off())]);
    let begin = stream::iter(writer.begin());
    let written = stream::unfold(
        (writer, Box::pin(deltas)),
        |(mut writer, mut deltas)| async move {
            let events = writer.write(deltas.next().await?).await;
            Some((stream::iter(events), (writer, deltas)))
        },
    );
    let events = begin.chain(written.flatten());
    let events = events.map(|event| named_event(event.name(), &event));
    sse::send(events.chain(stream::once(ready(done()))), keep_alive)
}

impl ResponseWriter {
    /// Makes a writer. Also returns the replies that it writes: a single one, because a response has one answer.
    fn new(draft: Draft, answers: Answers) -> (Self, Vec<Reply>) {
        let writer = Self {
            response: ResponseObject {
                store: draft.keeper.is_some(),
                ..draft.response
            },
            items: draft.items,
            keeper: draft.keeper,
            tally: answers.tally,
            warnings: answers.warnings,
            answer: AnswerPiece::default(),
            events: UnsentEvents::default(),
        };
        (writer, answers.replies)
    }

    /// The events before the first piece.
    fn begin(&mut self) -> Vec<Event> {
        self.tell(Event::Created);
        self.tell(Event::InProgress);
        self.events.take()
    }

    /// Takes the next piece. Returns its events.
    async fn write(&mut self, delta: Result<Delta, ApiError>) -> Vec<Event> {
        match delta {
            Ok(Delta::Text(piece)) => {
                self.remember(&piece);
                self.items.write(piece, &mut self.events);
            }
            Ok(Delta::End(end)) => self.end(&end).await,
            Err(error) => self.fail(error).await,
        }
        self.events.take()
    }

    fn remember(&mut self, piece: &AnswerPiece) {
        if self.warnings.want_text() {
            self.answer.append(AnswerPiece {
                text: piece.text.clone(),
                calls: piece.calls.clone(),
                ..AnswerPiece::default()
            });
        }
    }

    async fn end(&mut self, end: &End) {
        let is_cut_off = end.reason == FinishReason::Length;
        self.items.finish(is_cut_off, &mut self.events);
        self.response.output = self.items.take();
        self.tally.add(0, end);
        self.response.usage = Some(usage(&self.tally));
        self.response.warnings = self.warnings.of(0, &self.answer, end);
        match is_cut_off {
            true => {
                let reason = "max_output_tokens";
                self.response.incomplete_details = Some(IncompleteDetails { reason });
                self.over(ResponseStatus::Incomplete, Event::Incomplete)
                    .await;
            }
            false => {
                self.response.completed_at = Some(unix_seconds(SystemTime::now()));
                self.over(ResponseStatus::Completed, Event::Completed).await;
            }
        }
    }

    async fn fail(&mut self, error: ApiError) {
        let error = error.into_envelope().error;
        self.response.output = self.items.take();
        self.response.error = Some(ResponseFailure {
            code: match error.kind {
                "server_error" => "server_error",
                "rate_limit_error" => "rate_limit_exceeded",
                _ => "invalid_prompt",
            },
            message: error.message.clone(),
        });
        self.events
            .add(|sequence_number| error_event(sequence_number, error));
        self.over(ResponseStatus::Failed, Event::Failed).await;
    }

    /// Ends the response, and keeps it. If it cannot be kept, a warning in the response says so.
    async fn over(&mut self, status: ResponseStatus, event: fn(ResponseEvent) -> Event) {
        self.response.status = status;
        if let Some(keeper) = self.keeper.take()
            && let Err(why) = keeper.keep(&self.response).await
        {
            error!("a response was not kept: {why}");
            self.response.store = false;
            let warning =
                format!("the response was not kept, so no request can continue it: {why}");
            self.response.warnings.push(warning);
        }
        self.tell(event);
    }

    /// Adds an event with the current state of the response.
    fn tell(&mut self, event: fn(ResponseEvent) -> Event) {
        let response = Box::new(self.response.clone());
        self.events.add(|sequence_number| {
            event(ResponseEvent {
                sequence_number,
                response,
            })
        });
    }
}

fn error_event(sequence_number: u32, error: ErrorBody) -> Event {
    Event::Error(ResponseErrorEvent {
        sequence_number,
        code: error.code,
        message: error.message.clone(),
        param: error.param.clone(),
        error,
    })
}

fn usage(tally: &Tally) -> ResponseUsage {
    ResponseUsage {
        input_tokens: tally.prompt_tokens,
        input_tokens_details: InputTokensDetails {
            cached_tokens: tally.cached_tokens,
            cache_write_tokens: 0,
        },
        output_tokens: tally.completion_tokens,
        output_tokens_details: OutputTokensDetails {
            reasoning_tokens: tally.reasoning_tokens.unwrap_or(0),
        },
        total_tokens: tally.prompt_tokens + tally.completion_tokens,
    }
}

#[cfg(test)]
mod tests;
