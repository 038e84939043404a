//! A llama-server with the same model, on one thread.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use tenon_tests::{Client, PATIENCE, smollm2};

/// A running llama-server. Dropping it kills it.
pub struct Peer {
    child: Child,
    pub client: Client,
}

impl Peer {
    /// Starts the program at `path` and waits until it listens.
    pub fn start(path: &str) -> Self {
        let address = free_address();
        let mut command = Command::new(path);
        command.arg("-m").arg(smollm2());
        command.args(["-t", "1", "-tb", "1", "-c", "4096", "-np", "1", "--port"]);
        command.arg(address.port().to_string());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let peer = Self {
            child: command.spawn().expect("llama-server starts"),
            client: Client::new(format!("http://{address}")),
        };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "llama-server does not listen");
            sleep(Duration::from_millis(100));
        }
        peer
    }

    /// Waits until it answers.
    pub async fn wait_until_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.client.get_text("/health").await.contains("ok") {
            assert!(Instant::now() < deadline, "llama-server does not get ready");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nothing else is started meanwhile that could take it.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}
