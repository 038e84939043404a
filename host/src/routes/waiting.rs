//! Streams that begin while their model is still being loaded, so that no proxy on the way closes them.

use std::{pin::Pin, sync::Arc, time::Duration};

use axum::{
    body::{Body, BodyDataStream, Bytes},
    response::Response,
};
use futures_util::{StreamExt, stream};
use tokio::{
    select,
    time::{Interval, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    lookup::served,
    sse::{SseResult, done, event, send},
};
use crate::{app::App, error::ApiError, layers::client::Client, models::ModelState};

/// The time that a request waits for its model before its stream begins. Until then an error still has its own status.
const PATIENCE: Duration = Duration::from_secs(1);
/// Sent to a stream while its model is being loaded. Clients skip comments.
const COMMENT: &[u8] = b": loading\n\n";

/// A request for an answer.
pub struct Asked<'a> {
    pub client: &'a Client,
    /// The name of the model.
    pub model: Option<&'a str>,
    /// Whether the answer is to be a stream.
    pub is_streamed: bool,
    /// The events of a stream that fails before its first event.
    pub failure: fn(ApiError) -> Vec<SseResult>,
}

/// Answers a request. If the answer is a stream and the model is not ready within a second, the stream begins with comments, and
/// an error comes as an event.
pub async fn answered(
    app: &Arc<App>,
    asked: Asked<'_>,
    answer: impl Future<Output = Result<Response, ApiError>> + Send + 'static,
) -> Result<Response, ApiError> {
    if !asked.is_streamed || !has_to_wait(app, &asked) {
        return answer.await;
    }
    let mut answer: PendingResponse = Box::pin(answer);
    if let Ok(in_time) = timeout(PATIENCE, &mut answer).await {
        return in_time;
    }
    let keep_alive = app.now().config.server.keep_alive_interval;
    let waiting = WaitingStream {
        answer,
        comments: interval(keep_alive),
        end: app.cut_off.clone(),
        failure: asked.failure,
        keep_alive,
    };
    // The response has the same headers as every other stream.
    let mut response = send(stream::empty(), keep_alive);
    *response.body_mut() = Body::from_stream(stream::unfold(Phase::Waiting(waiting), next));
    Ok(response)
}

/// The events of a stream in OpenAI's form that fails before its first event.
pub fn failure(error: ApiError) -> Vec<SseResult> {
    vec![event(error.into_envelope()), done()]
}

/// Whether the model exists and does not answer yet.
fn has_to_wait(app: &App, asked: &Asked) -> bool {
    let served = served(app, asked.client, asked.model);
    served.is_ok_and(|served| !matches!(served.state(), ModelState::Ready(_)))
}

type PendingResponse = Pin<Box<dyn Future<Output = Result<Response, ApiError>> + Send>>;

struct WaitingStream {
    answer: PendingResponse,
    comments: Interval,
    /// The end of the server.
    end: CancellationToken,
    failure: fn(ApiError) -> Vec<SseResult>,
    keep_alive: Duration,
}

enum Phase {
    Waiting(WaitingStream),
    Answering(BodyDataStream),
}

type BodyPiece = Result<Bytes, axum::Error>;

async fn next(phase: Phase) -> Option<(BodyPiece, Phase)> {
    let mut body = match phase {
        Phase::Answering(body) => body,
        Phase::Waiting(mut waiting) => select! {
            biased;
            answer = &mut waiting.answer => waiting.body(answer),
            () = waiting.end.cancelled() => waiting.body(Err(ApiError::cut_off())),
            _ = waiting.comments.tick() => {
                return Some((Ok(Bytes::from_static(COMMENT)), Phase::Waiting(waiting)));
            }
        },
    };
    let piece = body.next().await?;
    Some((piece, Phase::Answering(body)))
}

impl WaitingStream {
    fn body(&self, answer: Result<Response, ApiError>) -> BodyDataStream {
        let answer = answer.unwrap_or_else(|error| {
            let events = (self.failure)(error);
            send(stream::iter(events), self.keep_alive)
        });
        answer.into_body().into_data_stream()
    }
}
