//! Where connections come in.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::stream::Stream;
use crate::config::{Listen, Place, Scope};

/// A socket that listens.
pub struct Listener {
    socket: Socket,
    /// What is served there.
    pub scope: Scope,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// Begins to listen.
    pub async fn bind(listen: &Listen) -> io::Result<Self> {
        let socket = match &listen.place {
            Place::Tcp { host, port } => {
                Socket::Tcp(TcpListener::bind((host.as_str(), *port)).await?)
            }
            Place::Unix(path) => {
                let listener = bind_unix(path).await?;
                Socket::Unix(listener, SocketFile(path.clone()))
            }
        };
        Ok(Self {
            socket,
            scope: listen.scope,
        })
    }

    /// The address as a URL.
    pub fn url(&self) -> io::Result<String> {
        match &self.socket {
            Socket::Tcp(listener) => Ok(format!("http://{}", listener.local_addr()?)),
            Socket::Unix(_, file) => Ok(format!("unix:{}", file.0.display())),
        }
    }

    /// Waits for the next connection.
    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match &self.socket {
            Socket::Tcp(listener) => Ok(Stream::Tcp(listener.accept().await?.0)),
            Socket::Unix(listener, _) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

/// Listens at a Unix socket. Replaces the file of a server that left it behind.
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
