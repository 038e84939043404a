//! The peers as child processes, and the versions that all servers are built from.

use std::{
    net::TcpListener,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tenon_tests::{PATIENCE, artifacts, plain_http};

/// The programs of llama.cpp.
pub struct Peers {
    folder: PathBuf,
}

/// A llama-server that is ready. Dropping it ends the server.
pub struct Peer {
    child: Child,
    url: String,
}

impl Peers {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub fn command(&self, program: &str) -> Command {
        Command::new(self.folder.join(program))
    }

    pub fn version(&self) -> String {
        let output = self
            .command("llama-server")
            .arg("--version")
            .output()
            .expect("it starts");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix("version: "));
        line.unwrap_or("of unknown version").to_owned()
    }

    /// A server with room for `context` tokens in each of its slots.
    pub async fn start(
        &self,
        model: &Path,
        threads: Option<u32>,
        slots: u32,
        context: u32,
    ) -> Peer {
        let port = free_port();
        let mut command = self.command("llama-server");
        command
            .args(["--jinja", "--port", &port.to_string(), "-m"])
            .arg(model);
        command.args([
            "-np",
            &slots.to_string(),
            "-c",
            &(slots * context).to_string(),
        ]);
        if let Some(threads) = threads {
            command.args(["-t", &threads.to_string()]);
        }
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut peer = Peer {
            child: command.spawn().expect("llama-server starts"),
            url: format!("http://127.0.0.1:{port}"),
        };
        peer.wait_until_ready().await;
        peer
    }
}

impl Peer {
    pub fn url(&self) -> String {
        self.url.clone()
    }

    async fn wait_until_ready(&mut self) {
        let health = format!("{}/health", self.url);
        let http = plain_http().build().expect("a client");
        let ready = async {
            loop {
                let answer = http.get(&health).send().await;
                if answer.is_ok_and(|answer| answer.status().is_success()) {
                    return;
                }
                let ended = self.child.try_wait().expect("a child");
                assert!(ended.is_none(), "llama-server ended: {ended:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready)
            .await
            .expect("llama-server gets ready");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that is free now. Nothing else is started meanwhile that could take it.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// The build that the llama-cpp plugin reports.
pub fn plugin_build() -> String {
    let plugin = artifacts().library("tenon_plugin_llama_cpp");
    let plugins = TempDir::new().expect("a temporary directory");
    symlink(plugin, plugins.path().join("plugin.so")).expect("a link");
    let output = Command::new(&artifacts().tenon)
        .args(["plugins", "list", "--json", "--plugins"])
        .arg(plugins.path())
        .output()
        .expect("tenon starts");
    let list: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    list["backends"][0]["build"]
        .as_str()
        .expect("a build")
        .to_owned()
}
