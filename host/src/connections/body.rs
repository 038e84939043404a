//! The body of an answer while it is sent.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, Bytes},
    http::{Response, header::CONTENT_TYPE},
};
use futures_util::{Stream, StreamExt, stream};
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::{activity::Activity, socket::Socket};

/// A request that is being answered. It ends when this is dropped.
pub struct ConnectionRequest(Arc<Activity>);

impl ConnectionRequest {
    pub fn begin(activity: &Arc<Activity>) -> Self {
        activity.begin_request();
        Self(activity.clone())
    }
}

impl Drop for ConnectionRequest {
    fn drop(&mut self) {
        self.0.end_request();
    }
}

/// An answer's body. The request ends when the body is dropped.
pub struct Answering {
    body: Body,
    /// Whether the client has not taken the last piece.
    is_held_up: bool,
    /// Pieces to send while the body has nothing. None if the body is no event stream.
    between: Option<Pin<Box<dyn Stream<Item = BodyFrame> + Send>>>,
    request: ConnectionRequest,
}

type BodyFrame = Result<Frame<Bytes>, axum::Error>;

impl Answering {
    /// The body of an answer. `socket` is the client's socket. None over TLS, where a client that stops sending is gone.
    pub fn new(
        answer: Response<Body>,
        request: ConnectionRequest,
        socket: Option<Arc<Socket>>,
    ) -> Response<Self> {
        let content = answer.headers().get(CONTENT_TYPE);
        let is_events = content.is_some_and(|content| content == "text/event-stream");
        let socket = socket.filter(|_| is_events);
        answer.map(|body| Self {
            body,
            is_held_up: false,
            between: socket.map(|socket| Box::pin(question(socket)) as _),
            request,
        })
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<BodyFrame>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        let Some(between) = &mut self.between else {
            return Poll::Pending;
        };
        let piece = ready!(between.poll_next_unpin(context));
        if piece.is_none() {
            self.between = None;
            return Poll::Pending;
        }
        Poll::Ready(piece)
    }

    fn hold_up(&mut self, is_held_up: bool) {
        if self.is_held_up != is_held_up {
            self.is_held_up = is_held_up;
            self.request.0.hold_up(is_held_up);
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.hold_up(false);
    }
}

impl HttpBody for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<BodyFrame>> {
        if !self.request.0.is_multiplexed() {
            return self.poll_piece(context);
        }
        // HTTP/2 asks for a piece only when the client takes it.
        self.hold_up(false);
        let piece = ready!(self.poll_piece(context));
        self.hold_up(piece.is_some());
        Poll::Ready(piece)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Finds out whether a client that stopped sending still reads, by sending a comment, which readers of events skip. Each
/// frame of the body is a whole event, so the comment stands between two events.
fn question(socket: Arc<Socket>) -> impl Stream<Item = BodyFrame> + Send {
    let again = socket.clone();
    let comment = async move {
        again.finished_sending().await;
        Ok(Frame::data(Bytes::from_static(b": ping\n\n")))
    };
    let refused = async move {
        socket.reset().await;
        Err(axum::Error::new("the client went away"))
    };
    stream::once(comment).chain(stream::once(refused))
}
