//! Serves one connection, from its start to its end.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body, http::Response};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tower::Service;

use super::{
    activity::{Activity, Close},
    body::{self, Answering},
    refusal,
    socket::{Io, Socket},
    stream::{Peer, Stream},
};

/// Serves a connection until the client closes it or `activity` says to close it.
pub async fn serve(stream: Stream, router: Router, activity: Arc<Activity>) {
    let peer = stream.peer();
    let socket = Arc::new(Socket::new(stream, activity.clone()));
    let service = service_fn(|request| answer(request, peer, &router, &socket, &activity));
    let mut builder = http1::Builder::new();
    // The register watches the time instead. A client may stop sending before it has its answer.
    builder
        .header_read_timeout(None::<Duration>)
        .half_close(true);
    builder.keep_alive(!activity.is_late);
    let io = TokioIo::new(Io(socket.clone()));
    let mut connection = pin!(builder.serve_connection(io, service));
    loop {
        tokio::select! {
            // An error is the client's fault: it went away, or sent no HTTP.
            _ = connection.as_mut() => return,
            why = activity.told_to_close() => match why {
                Close::Stopping if activity.is_busy() => connection.as_mut().graceful_shutdown(),
                Close::Stopping | Close::Idle => return,
                Close::LateHead => return socket.send_now(refusal::LATE_HEAD.as_bytes()),
                Close::Unread => return socket.forget_unsent(),
            },
        }
    }
}

/// The client went away before its answer began.
#[derive(Debug, thiserror::Error)]
#[error("the client went away")]
struct Gone;

async fn answer(
    request: Request<Incoming>,
    peer: Option<Peer>,
    router: &Router,
    socket: &Arc<Socket>,
    activity: &Arc<Activity>,
) -> Result<Response<Answering>, Gone> {
    let running = body::Request::begin(activity);
    let mut request = request.map(Body::new);
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }
    let answer = router.clone().call(request);
    tokio::select! {
        biased;
        answer = answer => {
            let answer = answer.unwrap_or_else(|never: Infallible| match never {});
            Ok(Answering::new(answer, running, socket.clone()))
        }
        () = socket.gone_before_answer() => Err(Gone),
    }
}
