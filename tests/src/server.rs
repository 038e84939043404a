//! Starts the real server as a child process, on a free port.

use std::{
    env,
    fs::{self, File},
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{Client, artifacts, c_library};

/// How long a test waits for anything before it gives up.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The options of a server to start.
pub struct ServerOptions {
    plugins: Vec<PathBuf>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    files: Vec<(String, String)>,
    /// None: the configuration says where to listen.
    port: Option<String>,
    log: Option<Stdio>,
    ulimit: Option<String>,
}

impl ServerOptions {
    /// A server with these plugins, by the names of their crates, and without a model.
    pub fn new(plugins: &[&str]) -> Self {
        let library = |name: &&str| artifacts().library(name).to_path_buf();
        Self {
            plugins: plugins.iter().map(library).collect(),
            arguments: Vec::new(),
            environment: Vec::new(),
            files: Vec::new(),
            port: Some("0".to_owned()),
            log: None,
            ulimit: None,
        }
    }

    /// A server of one echo model, called `echo`, whose steps take `step_ms` each.
    pub fn echo(step_ms: u32) -> Self {
        Self::new(&["tenon_plugin_echo"])
            .file("echo.echo", &step_ms.to_string())
            .arguments(&["echo.echo"])
    }

    /// A server of one model of the plugin in C, called `model`, that has counted this text.
    pub fn ngram(text: &str) -> Self {
        Self::new(&[])
            .plugin(c_library("ngram"))
            .file("model.ngram", text)
            .arguments(&["model.ngram"])
    }

    /// A server of SmolLM2 through llama.cpp, on one thread.
    pub fn smollm2() -> Self {
        let model = smollm2();
        Self::new(&["tenon_plugin_llama_cpp"]).arguments(&[
            &model.to_string_lossy(),
            "--threads",
            "1",
        ])
    }

    /// Adds a plugin that is no crate of the workspace.
    pub fn plugin(mut self, library: PathBuf) -> Self {
        self.plugins.push(library);
        self
    }

    /// Adds arguments of `tenon serve`.
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(ToString::to_string);
        self.arguments.extend(arguments);
        self
    }

    /// Sets the configuration. A model that an argument names is served instead of those in the configuration.
    pub fn config(self, toml: &str) -> Self {
        self.file("tenon.toml", toml)
    }

    /// Sets an environment variable.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the port. Without it the server takes any free port.
    pub fn port(mut self, port: &str) -> Self {
        self.port = Some(port.to_owned());
        self
    }

    /// Leaves it to the configuration where the server listens.
    pub fn addresses_of_config(mut self) -> Self {
        self.port = None;
        self
    }

    /// Sends the log somewhere else. The server then listens at a port that was free a moment before.
    pub fn log_to(mut self, output: Stdio) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        self.log = Some(output);
        self.port(&port.to_string())
    }

    /// Sets a limit of the shell's `ulimit`, such as `-n 256`.
    pub fn ulimit(mut self, limit: &str) -> Self {
        self.ulimit = Some(limit.to_owned());
        self
    }

    /// Adds a file to the directory that the server runs in, or below it.
    pub fn file(mut self, name: &str, content: &str) -> Self {
        self.files.push((name.to_owned(), content.to_owned()));
        self
    }

    /// Starts the server without waiting for anything.
    pub fn spawn(self) -> Server {
        let home = TempDir::new().expect("a temporary directory");
        let plugins = home.path().join("plugins");
        fs::create_dir(&plugins).expect("a directory for plugins");
        for plugin in &self.plugins {
            let name = plugin.file_name().expect("a library's name");
            symlink(plugin, plugins.join(name)).expect("a link to the plugin");
        }
        for (name, content) in &self.files {
            let path = home.path().join(name);
            fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
            fs::write(path, content).expect("a file");
        }
        let mut command = match &self.ulimit {
            None => Command::new(&artifacts().tenon),
            Some(limit) => {
                let mut shell = Command::new("sh");
                let script = format!("ulimit {limit} && exec \"$0\" \"$@\"");
                shell.args(["-c", &script]).arg(&artifacts().tenon);
                shell
            }
        };
        command
            .args(["serve", "--plugins", "plugins"])
            .args(self.port.iter().flat_map(|port| ["--port", port]))
            .args(&self.arguments)
            .env("HOME", home.path())
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("KEEP_ALIVE_INTERVAL")
            .envs(self.environment)
            .current_dir(home.path());
        match (self.log, self.port) {
            (Some(log), Some(port)) => Server::spawn_silent(command, home, log, &port),
            _ => Server::spawn(command, home),
        }
    }

    /// Starts the server and waits until its models are loaded.
    pub fn start(self) -> Server {
        let mut server = self.spawn();
        server.wait_until_ready();
        server
    }
}

/// A running server. Dropping it kills the process.
pub struct Server {
    child: Child,
    log: Receiver<String>,
    seen: Vec<String>,
    address: Option<String>,
    home: TempDir,
}

impl Server {
    /// Starts a server by another command, without waiting for anything.
    pub fn run(command: Command) -> Self {
        Self::spawn(command, TempDir::new().expect("a temporary directory"))
    }

    fn spawn(mut command: Command, home: TempDir) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .expect("tenon starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let (line, log) = channel();
        thread::spawn(move || {
            for text in stderr.lines().map_while(Result::ok) {
                // When the test is over, nobody reads any more.
                let _ = line.send(text);
            }
        });
        Self {
            child,
            log,
            seen: Vec::new(),
            address: None,
            home,
        }
    }

    fn spawn_silent(mut command: Command, home: TempDir, log: Stdio, port: &str) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Self {
            child: command.stderr(log).spawn().expect("tenon starts"),
            log: channel().1,
            seen: Vec::new(),
            address: Some(format!("http://127.0.0.1:{port}")),
            home,
        }
    }

    /// The reading end of the server's log. Needs a log that goes to `Stdio::piped()`.
    pub fn take_log(&mut self) -> ChildStderr {
        self.child.stderr.take().expect("a pipe")
    }

    /// A client of the server. Waits until the address is known.
    pub fn client(&mut self) -> Client {
        Client::new(self.address())
    }

    /// `http://127.0.0.1:PORT`
    pub fn address(&mut self) -> String {
        if self.address.is_none() {
            let line = self.wait_for_log("listening at ");
            let (_, address) = line.split_once("listening at ").expect("the address");
            let address = address.split(['"', ' ']).next().expect("the address");
            self.address = Some(address.to_owned());
        }
        self.address.clone().expect("it was just set")
    }

    /// The directory that the server runs in.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The id of the server's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of the log that contains this text, and returns it.
    pub fn wait_for_log(&mut self, text: &str) -> String {
        if let Some(line) = self.seen.iter().find(|line| line.contains(text)) {
            return line.clone();
        }
        let deadline = Instant::now() + PATIENCE;
        while let Ok(line) = self
            .log
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
        panic!("no {text:?} in the log:\n{}", self.seen.join("\n"));
    }

    /// The whole log up to the server's end.
    pub fn rest_of_log(&mut self) -> String {
        while let Ok(line) = self.log.recv_timeout(PATIENCE) {
            self.seen.push(line);
        }
        self.seen.join("\n")
    }

    /// Sends a signal, for example `TERM`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(status.expect("kill starts").success());
    }

    /// Waits for the server to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the server does not end:\n{}", self.seen.join("\n"));
    }

    fn wait_until_ready(&mut self) {
        self.address();
        self.wait_for_log("model ready");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server of one echo model, called `echo`, with these keys in its `[[models]]`.
pub fn start_echo(keys: &str) -> (Server, Client) {
    let mut server = ServerOptions::new(&["tenon_plugin_echo"])
        .file("echo.echo", "")
        .config(&format!("[[models]]\npath = 'echo.echo'\n{keys}\n"))
        .start();
    let client = server.client();
    (server, client)
}

/// The default model of the quickstart. `make test` fetches it.
pub fn smollm2() -> PathBuf {
    let home = env::var_os("HOME").expect("HOME");
    let path = Path::new(&home).join(".cache/tenon/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(
        File::open(&path).is_ok(),
        "{} is missing: run `make test`",
        path.display()
    );
    path
}
