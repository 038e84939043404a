//! The guide as an author follows it: in an empty folder, with nothing of Tenon but what is installed. Each test prints how long
//! its steps took.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use tenon_tests::{Client, Server, artifacts, install, text};

/// The time from nothing to a chat that the guide promises.
const PROMISED: Duration = Duration::from_secs(300);

#[tokio::test]
async fn the_first_steps_of_the_guide_end_in_a_chat() {
    let guide = include_str!("../../../plugin-api/GUIDE.md");
    let [first, request] = ["\ntenon plugins new ", "\ncurl "].map(|begin| block(guide, begin));
    let mut author = Author::new();
    let (_server, client) = author.follow(first);
    let answer = author.ask(&client, request).await;
    assert!(answer.starts_with(" went up the hill"), "{answer}");

    author.run("cargo test --release");
    author.fails(
        r#"cargo check --release --config 'profile.release.panic="abort"'"#,
        "a Tenon plugin needs `panic = \"unwind\"`",
    );
    author.run("cargo fmt --check");
    // What follows is a benchmark.
    let checks = block(guide, "\ntenon plugins list --plugins plugins --verbose");
    for line in checks.lines().take(2) {
        author.run(line);
    }
}

#[tokio::test]
async fn the_first_steps_in_c_end_in_an_answer() {
    let mut author = Author::new();
    author.run("tenon plugins new --lang c tiny-ngram");
    author.enter("tiny-ngram");
    let readme = fs::read_to_string(author.at.join("README.md")).unwrap();
    let [first, request] = ["\n    make\n", "\n    curl "].map(|begin| block(&readme, begin));
    let (_server, client) = author.follow(first);
    assert_eq!(author.ask(&client, request).await, "ail");
    author.run("make check");
}

#[test]
fn a_project_is_not_written_over_another_or_under_a_wrong_name() {
    let folder = TempDir::new().unwrap();
    for (name, expected) in [("", "exists already"), ("My Plugin", "lower-case letters")] {
        let path = folder.path().join("there").join(name);
        fs::create_dir_all(folder.path().join("there")).unwrap();
        let mut command = Command::new(&artifacts().tenon);
        let output = command.args(["plugins", "new"]).arg(path).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && error.contains(expected),
            "{error}"
        );
    }
}

/// Somebody with an installed Tenon, in a folder that is empty at first.
struct Author {
    /// The program, with its plugins beside it.
    installed: TempDir,
    _folder: TempDir,
    /// The current folder.
    at: PathBuf,
    begun: Instant,
}

impl Author {
    fn new() -> Self {
        let (installed, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        fs::copy(&artifacts().tenon, installed.path().join("tenon")).unwrap();
        let plugins = installed.path().join("plugins");
        fs::create_dir(&plugins).unwrap();
        install(&plugins, "tenon_plugin_echo", "libtenon_plugin_echo.so");
        Self {
            at: folder.path().into(),
            installed,
            _folder: folder,
            begun: Instant::now(),
        }
    }

    /// Runs the commands of a document up to the one that serves a model, and serves it.
    fn follow(&mut self, commands: &str) -> (Server, Client) {
        for line in commands.lines().map(str::trim) {
            if let Some(folder) = line.strip_prefix("cd ") {
                self.enter(folder);
            } else if let Some(arguments) = line.strip_prefix("tenon serve ") {
                return self.serve(arguments);
            } else {
                self.run(line);
            }
        }
        panic!("nothing is served in:\n{commands}");
    }

    /// Enters a project. Its build directory has the crates that earlier runs compiled.
    fn enter(&mut self, project: &str) {
        self.at.push(project);
        let release = artifacts().tenon.parent().unwrap();
        let target = release.with_file_name("new-plugins");
        fs::create_dir_all(&target).unwrap();
        symlink(target, self.at.join("target")).unwrap();
    }

    /// Runs a command that must work.
    fn run(&self, line: &str) {
        let begun = Instant::now();
        let output = self.output(line);
        assert!(output.status.success(), "{line}: {output:#?}");
        eprintln!("{:6.1} s  {line}", begun.elapsed().as_secs_f32());
    }

    /// Runs a command that must fail with this error.
    fn fails(&self, line: &str, expected: &str) {
        let output = self.output(line);
        let error = String::from_utf8_lossy(&output.stderr);
        let fails = !output.status.success() && error.contains(expected);
        assert!(fails, "{line}: {output:#?}");
    }

    /// What a command prints, without a network and with none of this repository's settings.
    fn output(&self, line: &str) -> Output {
        let mut shell = Command::new("sh");
        let shell = shell.args(["-c", line]).current_dir(&self.at);
        let paths = [
            self.installed.path().as_os_str(),
            &env::var_os("PATH").unwrap(),
        ]
        .join(":".as_ref());
        shell
            .env("PATH", paths)
            .env("CARGO_NET_OFFLINE", "true")
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("RUSTFLAGS");
        shell.output().unwrap()
    }

    fn serve(&self, arguments: &str) -> (Server, Client) {
        let begun = Instant::now();
        let mut serve = Command::new(self.installed.path().join("tenon"));
        serve
            .arg("serve")
            .args(arguments.split(' '))
            .args(["--port", "0"])
            .env("HOME", &self.at)
            .env_remove("XDG_CONFIG_HOME")
            .current_dir(&self.at);
        let mut server = Server::run(serve);
        let client = server.client();
        server.wait_for_log("model ready");
        let seconds = begun.elapsed().as_secs_f32();
        eprintln!("{seconds:6.1} s  tenon serve {arguments}");
        (server, client)
    }

    /// Sends the request of a curl command, and returns the answer's text. This ends the measured time.
    async fn ask(&self, client: &Client, curl: &str) -> String {
        let path = curl.split_once(":8080").unwrap().1;
        let body = curl.split('\'').rfind(|part| part.starts_with('{'));
        let body: Value = serde_json::from_str(body.unwrap()).unwrap();
        let path = path.split_whitespace().next().unwrap();
        let (status, answer) = client.post(path, &body).await;
        assert_eq!(status, 200, "{answer}");
        let took = self.begun.elapsed();
        eprintln!("{:6.1} s  from nothing to an answer", took.as_secs_f32());
        assert!(took < PROMISED, "{took:?}");
        text(&answer).to_owned()
    }
}

/// The block of commands in a document that begins with these words, up to a fence or an empty line.
fn block<'a>(document: &'a str, begin: &str) -> &'a str {
    let at = document.find(begin);
    let at = at.unwrap_or_else(|| panic!("{begin:?} is not in:\n{document}"));
    let rest = document[at..].trim_start_matches('\n');
    let end = ["\n\n", "\n```"]
        .into_iter()
        .filter_map(|end| rest.find(end));
    &rest[..end.min().unwrap_or(rest.len())]
}
