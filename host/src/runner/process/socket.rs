//! The socket between the server and a worker.
//!
//! Each half waits only for what it needs. tokio's own stream always waits for both directions: a thread that has sent a message
//! would be woken when the other side reads it, once for each token.

use std::{
    io::{self, Write},
    net::Shutdown,
    os::{fd::AsFd, unix::net::UnixStream},
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    net::unix::pipe,
};

/// The half that receives: a socket is read like a pipe, and a pipe's receiver only waits for what can be read.
pub type Receiving = pipe::Receiver;

/// The half that sends. Dropping it closes this direction.
pub struct Sending(UnixStream);

/// The halves of a socket. To be called within a runtime.
pub fn halves(socket: UnixStream) -> io::Result<(Receiving, Sending)> {
    socket.set_nonblocking(true)?;
    let sending = Sending(socket.try_clone()?);
    Ok((Receiving::from_owned_fd_unchecked(socket.into())?, sending))
}

impl Sending {
    /// Writes what finds room now. Returns the number of written bytes.
    pub fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match (&self.0).write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => return written,
            }
        }
    }

    /// Waits until there is room. Opens no file descriptor. To be called within a runtime.
    ///
    /// # Errors
    /// The system cannot watch the socket now.
    pub async fn writable(&self) -> io::Result<()> {
        // Only while there is no room: a socket that is always watched wakes a thread each time that the other side has read.
        let socket = self.0.as_fd();
        // SAFETY: the socket stays open, and its number the same, as long as `self` is borrowed.
        let watched = unsafe { AsyncFd::register_with_interest(socket, Interest::WRITABLE) }?;
        watched.writable().await.map(drop)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        // An error means that the other side is gone.
        let _ = self.0.shutdown(Shutdown::Write);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{io::AsyncReadExt, time::timeout};

    use super::*;

    async fn write_all(sending: &Sending, mut bytes: &[u8]) -> io::Result<()> {
        loop {
            bytes = &bytes[sending.write_now(bytes)?..];
            if bytes.is_empty() {
                return Ok(());
            }
            sending.writable().await?;
        }
    }

    #[tokio::test]
    async fn more_than_the_socket_holds_arrives_and_then_the_end() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (_open, sending) = halves(ours).unwrap();
        let (mut receiving, _open_too) = halves(theirs).unwrap();
        let sent = vec![7; 3_000_000];
        let expected = sent.clone();
        let task = tokio::spawn(async move { write_all(&sending, &sent).await });
        let mut received = Vec::new();
        receiving.read_to_end(&mut received).await.unwrap();
        assert!(task.await.unwrap().is_ok() && received == expected);
    }

    #[tokio::test]
    async fn a_socket_whose_other_end_is_gone_cannot_be_written() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (_receiving, sending) = halves(ours).unwrap();
        drop(theirs);
        let written = timeout(Duration::from_secs(5), write_all(&sending, &[0; 1 << 20])).await;
        assert!(written.unwrap().is_err());
    }
}
