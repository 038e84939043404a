//! Serves one connection, from its start to its end.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body, http::Response};
use hyper::{
    Request,
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::graceful::GracefulConnection,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    select,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tower::Service;

use super::{
    activity::{Activity, Close},
    body::{self, Answering},
    refusal,
    socket::{Io, Socket},
    stream::{Peer, Stream},
    tls::HTTP2,
};

/// Most bytes of the line and the headers of a request that is not complete so far. Over HTTP/1.1 there may also be at most 100 headers, which is hyper's default:
/// with another number, hyper would allocate for each request.
const MAX_HEAD_BYTES: u32 = 64 * 1024;
/// Most requests that a client may have answered at the same time over one connection of HTTP/2.
const MAX_STREAMS: u32 = 128;
/// The time that the graceful shutdown of an idle TLS connection may take.
const PARTING: Duration = Duration::from_secs(1);

/// A connection's client, and what its requests need.
#[derive(Clone)]
struct ConnectionClient {
    peer: Option<Peer>,
    router: Router,
    socket: Arc<Socket>,
    activity: Arc<Activity>,
    is_encrypted: bool,
}

/// Serves a connection until the client closes it or `activity` says to close it.
pub async fn serve(
    stream: Stream,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    activity: Arc<Activity>,
) {
    let client = ConnectionClient {
        peer: stream.peer(),
        router,
        socket: Arc::new(Socket::new(stream, activity.clone())),
        activity,
        is_encrypted: tls.is_some(),
    };
    let io = Io(client.socket.clone());
    let Some(tls) = tls else {
        return client.serve_http1(io).await;
    };
    let Some(stream) = client.handshake(io, tls).await else {
        return;
    };
    match stream.get_ref().1.alpn_protocol() {
        Some(HTTP2) => client.serve_http2(stream).await,
        _ => client.serve_http1(stream).await,
    }
}

impl ConnectionClient {
    /// Performs the TLS handshake. None if it fails, or if the connection has to be closed first.
    async fn handshake(&self, io: Io, tls: Arc<ServerConfig>) -> Option<TlsStream<Io>> {
        select! {
            // An error is the client's fault: it went away, speaks no TLS, or lacks the certificate that it needs.
            stream = TlsAcceptor::from(tls).accept(io) => stream.ok(),
            _ = self.activity.told_to_close() => None,
        }
    }

    async fn serve_http1(&self, io: impl AsyncRead + AsyncWrite + Unpin + 'static) {
        let mut builder = http1::Builder::new();
        // The register checks the time limits instead. A client may stop sending before it has its answer, but not over TLS, where
        // this looks the same as a client that went away.
        builder
            .header_read_timeout(None::<Duration>)
            .half_close(!self.is_encrypted)
            .max_buf_size(MAX_HEAD_BYTES as usize)
            .keep_alive(!self.activity.is_late);
        let service = service_fn(|request| self.answer(request));
        let connection = builder.serve_connection(TokioIo::new(io), service);
        self.drive(pin!(connection)).await;
    }

    async fn serve_http2(&self, io: impl AsyncRead + AsyncWrite + Unpin + 'static) {
        self.activity.multiplex();
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD_BYTES);
        let service = service_fn(|request| {
            let client = self.clone();
            async move { client.answer(request).await }
        });
        let connection = builder.serve_connection(TokioIo::new(io), service);
        self.drive(pin!(connection)).await;
    }

    async fn drive<C: GracefulConnection>(&self, mut connection: Pin<&mut C>) {
        loop {
            select! {
                // An error is the client's fault: it went away, or sent no HTTP.
                _ = connection.as_mut() => return,
                why = self.activity.told_to_close() => match why {
                    Close::Stopping if self.activity.is_busy() => connection.as_mut().graceful_shutdown(),
                    Close::Stopping | Close::Idle if self.is_encrypted => {
                        connection.as_mut().graceful_shutdown();
                        // A client that does not answer loses its connection too.
                        let _ = timeout(PARTING, connection).await;
                        return;
                    }
                    Close::Stopping | Close::Idle => return,
                    Close::LateHead if self.is_encrypted => return,
                    Close::LateHead => return self.socket.send_now(refusal::LATE_HEAD.as_bytes()),
                    Close::Unread => return self.socket.forget_unsent(),
                },
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Answering>, Gone> {
        let running = body::ConnectionRequest::begin(&self.activity);
        let mut request = request.map(Body::new);
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(peer);
        }
        let answer = self.router.clone().call(request);
        let answered = |answer: Result<Response<Body>, Infallible>| {
            let answer = answer.unwrap_or_else(|never| match never {});
            let socket = (!self.is_encrypted).then(|| self.socket.clone());
            Ok(Answering::new(answer, running, socket))
        };
        if self.is_encrypted {
            // hyper drops this future when the client goes away.
            return answered(answer.await);
        }
        select! {
            biased;
            answer = answer => answered(answer),
            () = self.socket.gone_before_answer() => Err(Gone),
        }
    }
}

/// The client went away before its answer began.
#[derive(Debug, thiserror::Error)]
#[error("the client went away")]
struct Gone;
