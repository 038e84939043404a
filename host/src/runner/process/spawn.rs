//! Starts workers, and finds out how they end.

use std::{
    io,
    os::unix::net::UnixStream,
    path::PathBuf,
    pin::pin,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, future::FusedFuture};
use rustix::process::{Pid, Signal, kill_process_group};
use tenon_plugin_api::{Code, Error, Result};
use tokio::{
    process::{Child, Command},
    select, spawn,
    time::{sleep, timeout},
};

use super::{
    connection::Connection,
    end::description,
    frames,
    line::Line,
    memory_limit::MemoryLimit,
    messages::{News, Question, Start},
    output::{LastLine, relay},
    socket::halves,
};
use crate::{
    engine::LONGEST,
    metrics::ModelMetrics,
    plugin::{CurrentPlugins, InstalledPlugin, child},
};

/// Starts workers of one model.
pub struct Spawner {
    /// This program.
    pub executable: PathBuf,
    /// The plugins. Each worker gets the file that the model's plugin has when it starts.
    pub plugins: CurrentPlugins,
    /// The first message to each worker. The path of the plugin's file is replaced by the current one.
    pub start: Start,
    /// Shows the metrics of the workers.
    pub metrics: ModelMetrics,
}

/// The time that a worker gets to end after it has closed its socket, and the kernel to end a killed one. Also the time for what a worker
/// that has ended sent before.
const PATIENCE: Duration = Duration::from_secs(1);

/// The time between two questions that a worker has to answer.
const LOOK: Duration = Duration::from_secs(2);

impl Spawner {
    /// Starts a worker. To be called within a runtime.
    pub fn start(&self) -> Result<Arc<Connection>> {
        let (plugins, id) = (self.plugins.get(), &self.start.plugin_id);
        let plugin = plugins.plugin(id).ok_or_else(|| {
            let why = format!(
                "its plugin {id} can no longer be used: put it into a plugin directory again"
            );
            Error::new(Code::UNSUPPORTED, why)
        })?;
        self.spawn(plugin).map_err(|error| {
            let program = self.executable.display();
            let why = format!(
                "no worker can be started ({error}): check that {program} may be executed, and the limits of processes and open files"
            );
            Error::new(Code::INTERNAL, why)
        })
    }

    fn spawn(&self, plugin: &InstalledPlugin) -> io::Result<Arc<Connection>> {
        let (ours, theirs) = UnixStream::pair()?;
        let (input, output) = halves(ours)?;
        let command = child::command(&self.executable, plugin.library()?, theirs);
        let mut process = Command::from(command).stderr(Stdio::piped()).spawn()?;
        let line = Line::new(output);
        let mut limit = self.start.recipe.memory_limit_bytes.map(MemoryLimit::new);
        line.send(&frames::frame(&Start {
            plugin: plugin.path.clone(),
            // The worker waits for this message before it loads anything.
            own_limit_bytes: limit.as_mut().and_then(|limit| limit.apply(process.id())),
            ..self.start.clone()
        })?);
        let (connection, open) = Connection::new(process.id(), line, self.metrics.of_worker());
        let last_line = LastLine::default();
        let printed = process.stderr.take();
        let printed = spawn(relay(
            printed,
            self.start.recipe.model.clone(),
            last_line.clone(),
        ));
        let silence = silence(&connection, self.start.stuck_timeout.unwrap_or(LONGEST));
        spawn(async move {
            let news = open.listen(frames::messages::<News>(input));
            let (status, silent) = attend(process, news, silence).await;
            // What a worker printed last may arrive after its end.
            let _ = timeout(PATIENCE, printed).await;
            let exceeded = limit.and_then(|limit| limit.exceeded());
            let known = exceeded.or(silent);
            let why = description(status, known.or_else(|| last_line.recent()));
            open.end(&Error::new(Code::DEVICE_LOST, why));
        });
        Ok(connection)
    }
}

/// Waits until a worker has not answered a question for `most`, and says so in words. Asks for the metrics, which the worker has at hand.
fn silence(connection: &Arc<Connection>, most: Duration) -> impl Future<Output = String> + use<> {
    // The connection is not kept: the worker ends with it.
    let connection = Arc::downgrade(connection);
    async move {
        loop {
            sleep(LOOK).await;
            let Some(connection) = connection.upgrade() else {
                // A worker that nobody needs closes its socket at once.
                sleep(most).await;
                break;
            };
            let asked = connection.ask(0, Question::Figures, None);
            drop(connection);
            // An error means that the worker has ended.
            if let Ok(answer) = asked
                && timeout(most, answer.get()).await.is_err()
            {
                break;
            }
        }
        let seconds = most.as_secs();
        format!(
            "it did not answer for {seconds} s, because it was stopped or stuck; set a longer stuck_timeout_secs if the machine is that busy"
        )
    }
}

/// Passes a worker's news on until the worker has ended, has closed its socket or is silent. Then ends it, and all that its plugin has
/// started. Also returns the words about its silence. No status: it still exists, in a system call that does not return.
async fn attend(
    mut worker: Child,
    news: impl Future<Output = ()>,
    silence: impl Future<Output = String>,
) -> (Option<ExitStatus>, Option<String>) {
    let group = worker.id().and_then(|id| Pid::from_raw(id as i32));
    let mut news = pin!(news.fuse());
    let mut silent = None;
    select! {
        // A process that the plugin forked may keep the socket open.
        _ = worker.wait() => {}
        () = &mut news => {
            let _ = timeout(PATIENCE, worker.wait()).await;
        }
        what = silence => silent = Some(what),
    }
    // An error means that the group has no process left. The number of a group that has ended is not used again so soon.
    let _ = group.map(|group| kill_process_group(group, Signal::KILL));
    // The plugin may have moved the worker to another group.
    let _ = worker.start_kill();
    if !news.is_terminated() {
        let _ = timeout(PATIENCE, news).await;
    }
    let status = timeout(PATIENCE, worker.wait()).await;
    (status.ok().and_then(io::Result::ok), silent)
}
