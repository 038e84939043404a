//! Listening sockets, at which connections arrive.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::ServerConfig;
use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::{stream::Stream, tls::Tls};
use crate::config::{Listen, ListenAddress, Scope};

/// A socket that listens.
pub struct Listener {
    socket: ListeningSocket,
    /// The routes that are served there.
    pub scope: Scope,
    /// None: without TLS.
    tls: Option<Arc<Tls>>,
}

enum ListeningSocket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// Begins to listen. `tls` is used for addresses that speak TLS.
    pub async fn bind(listen: &Listen, tls: Option<&Arc<Tls>>) -> io::Result<Self> {
        let socket = match &listen.address {
            ListenAddress::Tcp { host, port } => {
                ListeningSocket::Tcp(TcpListener::bind((host.as_str(), *port)).await?)
            }
            ListenAddress::Unix(path) => {
                let listener = bind_unix(path).await?;
                ListeningSocket::Unix(listener, SocketFile(path.clone()))
            }
        };
        Ok(Self {
            socket,
            scope: listen.scope,
            tls: tls.filter(|_| listen.is_encrypted).cloned(),
        })
    }

    /// The address as a URL.
    pub fn url(&self) -> io::Result<String> {
        match &self.socket {
            ListeningSocket::Tcp(listener) => {
                let scheme = if self.tls.is_some() { "https" } else { "http" };
                Ok(format!("{scheme}://{}", listener.local_addr()?))
            }
            ListeningSocket::Unix(_, file) => Ok(format!("unix:{}", file.0.display())),
        }
    }

    /// The TLS configuration of new connections. None: without TLS.
    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.as_ref().map(|tls| tls.config())
    }

    /// Waits for the next connection.
    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match &self.socket {
            ListeningSocket::Tcp(listener) => Ok(Stream::Tcp(listener.accept().await?.0)),
            ListeningSocket::Unix(listener, _) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

/// Listens at a Unix socket. Replaces a file that a former server left behind.
async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_behind(path).await => {
            fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }
}

/// Whether a file is a socket at which nobody listens.
async fn is_left_behind(path: &Path) -> bool {
    let connected = UnixStream::connect(path).await;
    let is_refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    let is_socket = || {
        use std::os::unix::fs::FileTypeExt;
        fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
    };
    connected.is_err_and(is_refused) && is_socket()
}

/// The file of a Unix socket, which is removed when nobody listens any more.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // If the file stays, the next server replaces it.
        let _ = fs::remove_file(&self.0);
    }
}
