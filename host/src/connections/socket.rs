//! A client's socket. It reports its activity, and finds out whether a client that stopped sending still reads.
//!
//! A client may close its half of the connection after its request and wait for the answer. A client that went away looks
//! the same until something is sent to it: then its system reports an error. Every answer begins with the same bytes, so
//! these can be sent as a test before the answer is known.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    time::sleep,
};

use super::{activity::Activity, stream::Stream};

/// The bytes that begin every answer of HTTP/1.0 and HTTP/1.1.
const BEGINNING: &[u8] = b"HTTP/1.";
/// The pause between the first and the second of these bytes. Each further pause is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The time between two checks of a client that sent more than one request at once. The end of its data is hidden behind
/// the unread request.
const UNREAD_PAUSE: Duration = Duration::from_millis(100);

/// A client's socket, shared by the connection's tasks.
pub struct Socket {
    stream: Stream,
    activity: Arc<Activity>,
    /// The number of bytes of the next answer that are sent already.
    ahead: AtomicUsize,
}

impl Socket {
    pub fn new(stream: Stream, activity: Arc<Activity>) -> Self {
        Self {
            stream,
            activity,
            ahead: AtomicUsize::new(0),
        }
    }

    /// Waits until the client is gone. To be called when the request is complete and the answer has not begun.
    pub async fn gone_before_answer(&self) {
        self.finished_sending().await;
        tokio::select! {
            () = self.reset() => {}
            () = self.send_beginning() => {}
        }
    }

    /// Waits until the client will send nothing more.
    pub async fn finished_sending(&self) {
        loop {
            match self.stream.peek().await {
                Ok(0) | Err(_) => return,
                Ok(_) => sleep(UNREAD_PAUSE).await,
            }
        }
    }

    /// Waits until the client's system refuses what is sent.
    pub async fn reset(&self) {
        // If waiting fails, the connection is as good as ended.
        let _ = self.stream.ready(Interest::ERROR).await;
    }

    /// Sends bytes without waiting, unless other bytes are being sent.
    pub fn send_now(&self, bytes: &[u8]) {
        if self.activity.is_written() {
            // If the client is gone or does not read, nobody misses the bytes.
            let _ = self.stream.try_write(bytes);
        }
    }

    /// Discards unsent bytes when the connection closes.
    pub fn forget_unsent(&self) {
        self.stream.forget_unsent();
    }

    /// Sends the bytes that begin every answer, so that the client's system reports whether the client is there. Returns
    /// only on an error.
    async fn send_beginning(&self) {
        let mut pause = FIRST_PAUSE;
        for byte in BEGINNING.chunks(1) {
            if self.activity.is_written() {
                match self.stream.try_write(byte) {
                    Ok(sent) => self.ahead.fetch_add(sent, Ordering::Relaxed),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                    Err(_) => return,
                };
            }
            sleep(pause).await;
            pause *= 2;
        }
        std::future::pending().await
    }

    fn poll_write(
        &self,
        context: &mut Context<'_>,
        mut write: impl FnMut(usize) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let ahead = self.ahead.load(Ordering::Relaxed);
        loop {
            if self.stream.poll_write_ready(context)?.is_pending() {
                self.activity.write_blocked();
                return Poll::Pending;
            }
            match write(ahead) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(sent) => {
                    self.ahead.store(0, Ordering::Relaxed);
                    self.activity.writing();
                    return Poll::Ready(Ok(ahead + sent));
                }
                failed => return Poll::Ready(failed),
            }
        }
    }
}

/// The socket as hyper reads and writes it.
pub struct Io(pub Arc<Socket>);

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.stream.poll_read_ready(context))?;
            match self.0.stream.try_read_buf(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(_) => {
                    self.0.activity.received();
                    return Poll::Ready(Ok(()));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let socket = &self.0;
        socket.poll_write(context, |ahead| {
            socket
                .stream
                .try_write(bytes.get(ahead..).unwrap_or_default())
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let socket = &self.0;
        socket.poll_write(context, |ahead| match ahead {
            0 => socket.stream.try_write_vectored(pieces),
            _ => {
                // The first piece is the answer's head, which begins with the bytes sent ahead.
                let head = pieces.first().and_then(|piece| piece.get(ahead..));
                socket.stream.try_write(head.unwrap_or_default())
            }
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.activity.written();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.stream.end())
    }
}
