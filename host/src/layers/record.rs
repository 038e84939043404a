//! The record of a request in metrics, log and traces: its status when it is answered, and its use when it ends.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::{
    request_id::request_id,
    request_log::{RequestLog, write_texts},
};
use crate::{
    app::App,
    error::ApiError,
    keys::Account,
    otel::{RequestEnd, RequestSpan},
};

/// The status of a request whose client left before its answer began, as nginx writes it.
const CLIENT_LEFT: u16 = 499;

/// Marks an answer whose request gets a line in the access log.
#[derive(Clone)]
pub struct InAccessLog;

/// Middleware that counts answered requests. A request with a [`Record`] has its [`Account`] as an extension.
pub async fn record(
    State(app): State<Arc<App>>,
    route: Option<MatchedPath>,
    mut request: Request,
    next: Next,
) -> Response {
    let route = route.as_ref().map_or("unknown", MatchedPath::as_str);
    let record = Record::begin(&app, &request, route);
    if let Some(record) = &record {
        request.extensions_mut().insert(record.account.clone());
    }
    let mut response = next.run(request).await;
    app.metrics.answered(route, response.status().as_u16());
    let Some(mut record) = record else {
        return response;
    };
    record.status = response.status().as_u16();
    record.error = response.extensions().get().map(ApiError::kind);
    if record.log.as_ref().is_some_and(|log| log.is_access) {
        response.extensions_mut().insert(InAccessLog);
    }
    response.map(|body| Body::new(Recorded::new(body, record)))
}

/// The record of a request, which is written when it is dropped.
struct Record {
    app: Arc<App>,
    account: Arc<Account>,
    /// None: the request belongs in no log.
    log: Option<RequestLog>,
    /// None: the request is not traced.
    span: Option<RequestSpan>,
    id: Option<String>,
    status: u16,
    /// The kind of the error that it was answered with.
    error: Option<&'static str>,
    /// Whether the whole answer was sent.
    is_complete: bool,
}

impl Record {
    /// Begins the record of a request. None if there are no keys, and the request is neither logged nor traced.
    fn begin(app: &Arc<App>, request: &Request, route: &str) -> Option<Self> {
        let now = app.now();
        let log = RequestLog::begin(now.config.server.access_log, request);
        let otel = app.otel.as_ref();
        let span = otel.and_then(|otel| otel.begin(request, route));
        let with_texts = now.config.server.log_prompts;
        let has_keys = !now.config.keys.is_empty();
        let is_wanted = log.is_some() || span.is_some() || has_keys || with_texts;
        is_wanted.then(|| Self {
            app: app.clone(),
            account: Arc::new(match with_texts {
                true => Account::with_texts(),
                false => Account::default(),
            }),
            log,
            span,
            id: request_id(request).map(str::to_owned),
            status: CLIENT_LEFT,
            error: None,
            is_complete: false,
        })
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.app.metrics.used(&self.account, self.status);
        if let Some(log) = &self.log {
            log.write(&self.account, self.status, self.is_complete);
        }
        write_texts(&self.account, self.id.as_deref());
        if let (Some(otel), Some(span)) = (&self.app.otel, self.span.take()) {
            let end = RequestEnd {
                account: &self.account,
                request_id: self.id.as_deref(),
                status: self.status,
                error: self.error,
                is_complete: self.is_complete,
            };
            otel.end(span, &end);
        }
    }
}

/// A body that is recorded when it is sent, or given up.
struct Recorded {
    body: Body,
    record: Record,
}

impl Recorded {
    fn new(body: Body, mut record: Record) -> Self {
        record.is_complete = body.is_end_stream();
        Self { body, record }
    }
}

impl HttpBody for Recorded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        // The frame is the last one, or there is none.
        self.record.is_complete = match &polled {
            Poll::Ready(None) => true,
            Poll::Ready(Some(frame)) => frame.is_ok() && self.body.is_end_stream(),
            Poll::Pending => false,
        };
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
