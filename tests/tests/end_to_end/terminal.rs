//! `tenon run` and `tenon chat`: with a running server, and with a server that they start themselves.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Command, Output, Stdio},
    time::Instant,
};

use serde_json::Value;
use tempfile::TempDir;
use tenon_tests::{PATIENCE, ServerOptions, artifacts, install};

/// A folder with an echo model and its plugin.
struct Folder(TempDir);

impl Folder {
    /// A folder with a model whose steps take `step_ms` milliseconds.
    fn new(step_ms: u32) -> Self {
        let folder = Self(TempDir::new().unwrap());
        fs::create_dir(folder.0.path().join("plugins")).unwrap();
        folder.file("echo.echo", &step_ms.to_string());
        install(
            &folder.0.path().join("plugins"),
            "tenon_plugin_echo",
            "plugin.so",
        );
        folder
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&artifacts().tenon);
        command
            .args(arguments)
            .args(["--plugins", "plugins"])
            .current_dir(self.0.path())
            .env("HOME", self.0.path())
            .env_remove("XDG_CONFIG_HOME")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command with this text on its stdin.
    fn run_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        child.wait_with_output().unwrap()
    }

    fn file(&self, name: &str, content: &str) {
        fs::write(self.0.path().join(name), content).unwrap();
    }
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn run_prints_one_answer_of_a_model_file() {
    let folder = Folder::new(0);
    let output = folder.run(&["run", "echo.echo", "Say", "it."]);
    assert_eq!(out(&output), "Say it.\n", "{}", err(&output));
    assert_eq!(err(&output), "");
    assert!(output.status.success());
}

#[test]
fn run_takes_a_text_from_a_pipe() {
    let folder = Folder::new(0);
    let output = folder.run_with(&["run", "echo.echo", "Repeat:"], "one\ntwo\n");
    assert_eq!(out(&output), "Repeat:\n\none\ntwo\n", "{}", err(&output));
    let output = folder.run_with(&["run", "echo.echo"], "only this");
    assert_eq!(out(&output), "only this\n", "{}", err(&output));
}

#[test]
fn run_obeys_schemas_grammars_and_limits() {
    let folder = Folder::new(0);
    folder.file("schema.json", r#"{"type": "object", "properties": {"a": {"type": "integer", "maximum": 9}}, "required": ["a"], "additionalProperties": false}"#);
    let output = folder.run(&["run", "echo.echo", "x", "--json-schema", "schema.json"]);
    let answer: Value = serde_json::from_str(&out(&output)).unwrap();
    assert!(answer["a"].as_i64().unwrap() <= 9, "{answer}");
    folder.file("answer.regex", "(yes|no)!\n");
    let output = folder.run(&["run", "echo.echo", "x", "--grammar", "answer.regex"]);
    assert!(["yes!\n", "no!\n"].contains(&&*out(&output)), "{output:?}");
    let output = folder.run(&["run", "echo.echo", "abcdef", "--max-tokens", "3"]);
    assert_eq!(out(&output), "abc\n");
    assert!(err(&output).contains("cut off"), "{}", err(&output));
}

#[tokio::test]
async fn run_asks_a_server_that_runs() {
    let mut server = ServerOptions::echo(0).start();
    let url = format!("{}/v1", server.address());
    let folder = Folder::new(0);
    let output = folder.run(&["run", &url, "hello"]);
    assert_eq!(out(&output), "hello\n", "{}", err(&output));
    let output = folder.run(&["run", &url, "hello", "--model", "other"]);
    assert!(!output.status.success());
    assert!(
        err(&output).contains("404") && err(&output).contains("other"),
        "{}",
        err(&output)
    );
}

#[test]
fn what_cannot_be_asked_is_said() {
    let folder = Folder::new(0);
    folder.file("broken.echo", "x");
    for (arguments, expected) in [
        (
            &["run", "missing.gguf", "x"][..],
            "cannot open missing.gguf",
        ),
        (&["run", "echo.echo"], "there is no question"),
        (
            &["run", "echo.echo", "x", "--grammar", "a.txt"],
            "must end in .lark",
        ),
        (
            &["run", "echo.echo", "x", "--json-schema", "none.json"],
            "cannot read none.json",
        ),
        (
            &["run", "broken.echo", "x"],
            "an echo model holds one number",
        ),
        (
            &["run", "http://127.0.0.1:1", "x"],
            "no model at http://127.0.0.1:1: no server answers there: start one with `tenon serve MODEL`",
        ),
        (
            &["run", "echo.echo", "x", "--backend", "llama-cpp"],
            "put libtenon_plugin_llama_cpp.so into a plugin directory",
        ),
    ] {
        let output = folder.run(arguments);
        assert!(!output.status.success());
        assert!(
            err(&output).contains(expected),
            "{arguments:?}: {}",
            err(&output)
        );
    }
}

#[test]
fn a_chat_keeps_its_conversation() {
    let folder = Folder::new(0);
    let input = "first\n/system be kind\n/tokens-per-second\nsec\\\nond\n/nothing\n/save talk.md\n/clear\n/save empty.md\n/quit\nnever\n";
    let output = folder.run_with(&["chat", "echo.echo"], input);
    let text = out(&output);
    assert!(output.status.success(), "{}", err(&output));
    for expected in [
        "echo at http://127.0.0.1:",
        "first\n",
        "sec\nond\n",
        "tokens/s",
        "no command /nothing",
    ] {
        assert!(text.contains(expected), "no {expected:?} in {text}");
    }
    assert!(!text.contains("never"), "{text}");
    let saved = |name: &str| fs::read_to_string(folder.0.path().join(name)).unwrap();
    let conversation = "## system\n\nbe kind\n\n## user\n\nfirst\n\n## assistant\n\nfirst\n\n## user\n\nsec\nond\n\n## assistant\n\nsec\nond\n\n";
    assert_eq!(saved("talk.md"), conversation);
    assert_eq!(saved("empty.md"), "## system\n\nbe kind\n\n");
}

#[test]
fn ctrl_c_stops_an_answer_and_the_chat_goes_on() {
    let folder = Folder::new(50);
    let mut child = folder
        .command(&["chat", "echo.echo"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line = || lines.next().unwrap().unwrap();
    assert!(line().starts_with("echo at"));
    let started = Instant::now();
    let long = "x".repeat(2_000);
    writeln!(stdin, "y\\\n{long}").unwrap();
    // The first line of the answer has arrived: the answer is being written.
    assert_eq!(line(), "y");
    let kill = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    let rest = line();
    assert!(rest.len() < long.len(), "the whole answer came");
    writeln!(stdin, "again").unwrap();
    assert_eq!(line(), "again");
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert!(started.elapsed() < PATIENCE);
}
