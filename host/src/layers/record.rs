//! What is recorded of a request: at its answer that it was answered, and at its end what it used.

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

use crate::{app::App, keys::Account};

/// The status of a request whose client left before its answer began, as nginx writes it.
const CLIENT_LEFT: u16 = 499;

/// Middleware that counts answered requests, and records what requests with keys use. These have their [`Account`] as an extension.
pub async fn record(
    State(app): State<Arc<App>>,
    route: Option<MatchedPath>,
    mut request: Request,
    next: Next,
) -> Response {
    let record = (!app.now().config.keys.is_empty()).then(|| Record::begin(&app));
    if let Some(record) = &record {
        request.extensions_mut().insert(record.account.clone());
    }
    let response = next.run(request).await;
    let route = route.as_ref().map_or("unknown", MatchedPath::as_str);
    app.metrics.answered(route, response.status().as_u16());
    let Some(mut record) = record else {
        return response;
    };
    record.status = response.status().as_u16();
    response.map(|body| {
        Body::new(Recorded {
            body,
            _record: record,
        })
    })
}

/// The record of a request, which is complete when it is dropped.
struct Record {
    app: Arc<App>,
    account: Arc<Account>,
    status: u16,
}

impl Record {
    fn begin(app: &Arc<App>) -> Self {
        Self {
            app: app.clone(),
            account: Arc::default(),
            status: CLIENT_LEFT,
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.app.metrics.used(&self.account, self.status);
    }
}

/// A body that is recorded when it is sent, or given up.
struct Recorded {
    body: Body,
    _record: Record,
}

impl HttpBody for Recorded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
