//! A client's stream, over TCP or a Unix socket.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    task::{Context, Poll},
};

use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use tokio::{
    io::{Interest, ReadBuf, Ready},
    net::{TcpStream, UnixStream},
};

/// The sender of a connection's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Address(SocketAddr),
    /// A Unix socket of this machine.
    Unix,
}

/// The part of an address that is the same for all connections of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientAddress {
    V4(Ipv4Addr),
    /// The first half of the address. A client that has one IPv6 address has its whole /64 network.
    V6([u16; 4]),
}

impl Peer {
    /// The client's address. None for Unix sockets, whose clients cannot be told apart.
    pub fn client_address(self) -> Option<ClientAddress> {
        let Self::Address(address) = self else {
            return None;
        };
        Some(match address.ip().to_canonical() {
            IpAddr::V4(address) => ClientAddress::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                ClientAddress::V6([a, b, c, d])
            }
        })
    }
}

/// A client's stream.
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Calls the same method of either stream.
macro_rules! of {
    ($stream:expr, $method:ident($($argument:expr),*)) => {
        match $stream {
            Stream::Tcp(stream) => stream.$method($($argument),*),
            Stream::Unix(stream) => stream.$method($($argument),*),
        }
    };
}

impl Stream {
    /// Where the stream comes from. None if the client is already gone.
    pub fn peer(&self) -> Option<Peer> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok().map(Peer::Address),
            Self::Unix(_) => Some(Peer::Unix),
        }
    }

    /// Sends each piece at once: a token's bytes must not wait until a packet is full.
    pub fn set_nodelay(&self) {
        if let Self::Tcp(stream) = self {
            // If the option cannot be set, tokens only arrive later.
            let _ = stream.set_nodelay(true);
        }
    }

    /// Discards unsent bytes when the stream is closed. The system holds none for Unix sockets.
    pub fn forget_unsent(&self) {
        if let Self::Tcp(stream) = self {
            // If this fails, the system only keeps trying to send for some minutes.
            let _ = stream.set_zero_linger();
        }
    }

    /// Waits for bytes, and leaves them there. Returns 0 at the end of what the client sends.
    pub async fn peek(&self) -> io::Result<usize> {
        let peek = || Ok(recv(self, &mut [0; 1], RecvFlags::PEEK)?.1);
        loop {
            self.ready(Interest::READABLE).await?;
            match of!(self, try_io(Interest::READABLE, peek)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }

    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match self {
            Self::Tcp(stream) => stream.ready(interest).await,
            Self::Unix(stream) => stream.ready(interest).await,
        }
    }

    pub fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of!(self, poll_read_ready(context))
    }

    pub fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of!(self, poll_write_ready(context))
    }

    pub fn try_read_buf(&self, buffer: &mut ReadBuf<'_>) -> io::Result<usize> {
        of!(self, try_read_buf(buffer))
    }

    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        of!(self, try_write(bytes))
    }

    pub fn try_write_vectored(&self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        of!(self, try_write_vectored(pieces))
    }

    /// Closes the half of the stream that sends to the client.
    pub fn end(&self) -> io::Result<()> {
        Ok(shutdown(self, Shutdown::Write)?)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        of!(self, as_fd())
    }
}
