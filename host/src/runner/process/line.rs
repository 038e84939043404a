//! The sending side of a socket, for many threads. A thread that sends writes by itself if there is room, because waking another
//! thread would take longer than the write.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{spawn, sync::Notify};
use tokio_util::bytes::{Buf, BytesMut};

use super::socket::Sending;

/// The sending side of a socket. Dropping it closes that side, once everything is written.
pub struct Line(Arc<Shared>);

struct Shared {
    socket: Sending,
    /// Bytes that found no room in the socket so far.
    rest: Mutex<BytesMut>,
    /// Notified when there is a rest, and when the line is dropped.
    wake: Notify,
    is_dropped: AtomicBool,
}

impl Line {
    /// A line over this socket. To be called within a runtime, which writes what finds no room at once.
    pub fn new(socket: Sending) -> Self {
        let shared = Arc::new(Shared {
            socket,
            rest: Mutex::default(),
            wake: Notify::new(),
            is_dropped: AtomicBool::new(false),
        });
        let rest = shared.clone();
        // An error means that the other side is gone, which the receiving side tells.
        spawn(async move { rest.write_rests().await });
        Self(shared)
    }

    /// Sends bytes, all before those of later calls. Never blocks.
    pub fn send(&self, bytes: &[u8]) {
        let mut rest = self.0.rest();
        let written = match rest.is_empty() {
            true => self.0.write_now(bytes),
            false => 0,
        };
        if written < bytes.len() {
            rest.extend_from_slice(&bytes[written..]);
            self.0.wake.notify_one();
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.0.is_dropped.store(true, Ordering::Release);
        self.0.wake.notify_one();
    }
}

impl Shared {
    /// Writes the bytes that find room now. Returns how many bytes are done with: all of them if the other side is gone.
    fn write_now(&self, bytes: &[u8]) -> usize {
        self.socket.write_now(bytes).unwrap_or(bytes.len())
    }

    async fn write_rests(&self) -> io::Result<()> {
        loop {
            self.wake.notified().await;
            while self.has_rest() {
                self.socket.writable().await?;
                let mut rest = self.rest();
                let done = self.write_now(&rest);
                rest.advance(done);
            }
            if self.is_dropped.load(Ordering::Acquire) {
                return Ok(());
            }
        }
    }

    fn has_rest(&self) -> bool {
        !self.rest().is_empty()
    }

    fn rest(&self) -> MutexGuard<'_, BytesMut> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use tokio::io::AsyncReadExt;

    use super::{super::socket::halves, *};

    #[tokio::test]
    async fn everything_arrives_in_order_and_then_the_end() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (_input, output) = halves(ours).unwrap();
        let (mut theirs, _open) = halves(theirs).unwrap();
        let line = Line::new(output);
        let sent: Vec<Vec<u8>> = (0..100).map(|at| vec![at; 50_000]).collect();
        sent.iter().for_each(|bytes| line.send(bytes));
        drop(line);
        let mut received = Vec::new();
        theirs.read_to_end(&mut received).await.unwrap();
        assert!(received == sent.concat());
    }

    #[tokio::test]
    async fn nothing_is_kept_for_who_is_gone() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (_input, output) = halves(ours).unwrap();
        let line = Line::new(output);
        drop(theirs);
        for _ in 0..100 {
            line.send(&[0; 50_000]);
            tokio::task::yield_now().await;
        }
        assert!(line.0.rest().is_empty());
    }
}
