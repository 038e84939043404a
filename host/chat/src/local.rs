//! A server in a process of its own, for one model, as long as a command needs it.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc::{Sender, channel},
    thread,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use indicatif::ProgressBar;
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use serde_json::Value;
use tenon_client::Server;
use tokio::time::sleep;

/// A running `tenon serve`. Dropping it ends the process.
pub struct LocalServer {
    child: Child,
    url: String,
}

/// The text of the log before the server's address.
const LISTENING: &str = "listening at ";
/// The prefix of names of models on the hub.
const HUB: &str = "hf:";
/// How often the server is asked whether it is ready.
const POLL: Duration = Duration::from_millis(20);
/// How often the picture of the progress changes.
const TICK: Duration = Duration::from_millis(100);

impl LocalServer {
    /// Starts a server for a model's file or directory, or for a model on the hub, and waits for its address.
    pub fn start(model: &str, flags: &[String]) -> anyhow::Result<Self> {
        let fetched = model.starts_with(HUB).then(|| fetch(model)).transpose()?;
        let model = fetched.as_deref().unwrap_or(model);
        fs::metadata(model).with_context(|| {
            format!("cannot open {model}: name a model's file or directory, a model on the Hugging Face Hub (hf:OWNER/REPO), or the URL of a server (http://…)")
        })?;
        let mut command = Command::new(env::current_exe()?);
        command
            .args(["serve", model, "--host", "127.0.0.1", "--port", "0"])
            .args(["--config", "/dev/null"])
            .args(flags)
            .env("TENON__SERVER__LOG_FORMAT", "json")
            .env("TENON_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C stops an answer, not the server.
            .process_group(0);
        // SAFETY: the closure makes one system call, and touches no memory of the parent.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::TERM))?));
        }
        let mut child = command.spawn().context("cannot start a server")?;
        let log = child.stderr.take().context("a child without a log")?;
        let (address, received) = channel();
        thread::spawn(move || read(log, &address));
        match received.recv() {
            Ok(url) => Ok(Self { child, url }),
            Err(_) => {
                child.wait()?;
                bail!("no server could be started for {model}")
            }
        }
    }

    /// The base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits until the model is loaded, and says so on a terminal.
    pub async fn wait_until_ready(&self, server: &Server) -> anyhow::Result<()> {
        let shown = ProgressBar::new_spinner().with_message("loading the model");
        shown.enable_steady_tick(TICK);
        let ready = self.poll(server).await;
        shown.finish_and_clear();
        ready
    }

    async fn poll(&self, server: &Server) -> anyhow::Result<()> {
        loop {
            let health = server.health().await.unwrap_or_default();
            if health["status"] == "ok" {
                return Ok(());
            }
            // Such a server waits for a plugin that it lacks.
            let has_failed = health["status"] == "failed";
            if has_failed || self.has_ended() {
                bail!("the model could not be loaded");
            }
            sleep(POLL).await;
        }
    }

    fn has_ended(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.unwrap_or_default();
        // A process that has ended stays a zombie until it is waited for.
        let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
        state.is_empty() || state.starts_with(['Z', 'X'])
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Fetches a model from the hub, and shows the progress. Returns its file or directory.
fn fetch(model: &str) -> anyhow::Result<String> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["pull", model]).stderr(Stdio::inherit());
    let pulled = command.output().context("cannot start a download")?;
    ensure!(pulled.status.success(), "{model} could not be fetched");
    Ok(String::from_utf8(pulled.stdout)?.trim_end().to_owned())
}

/// Reads the log to its end: sends the address, and prints warnings and errors.
fn read(log: ChildStderr, address: &Sender<String>) {
    for line in BufReader::new(log).lines().map_while(Result::ok) {
        let Ok(entry) = serde_json::from_str::<Value>(&line) else {
            eprintln!("{line}");
            continue;
        };
        let message = entry["fields"]["message"].as_str().unwrap_or_default();
        if let Some(url) = message.strip_prefix(LISTENING) {
            // An error means that the command was interrupted, and no longer waits.
            let _ = address.send(url.to_owned());
        } else if ["WARN", "ERROR"]
            .iter()
            .any(|level| entry["level"] == *level)
        {
            eprintln!("{message}");
        }
    }
}
