//! Every command of the README, run as it is written: in a folder that looks like a clone after `make build`, with the small model
//! of the quickstart. Commands that install or build are only checked for what they name.

use std::{
    env, fs,
    io::Write,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;
use tenon_tests::{Backend, Server, artifacts, install, packages, smollm2};

const README: &str = include_str!("../../../README.md");
const ADDRESS: &str = "http://localhost:8080";

#[test]
fn smollm2_does_what_every_command_of_the_readme_says() {
    let mut reader = Reader::new();
    let mut commands = 0;
    for (language, block) in blocks(README) {
        match language {
            "bash" => {
                for command in commands_of(block) {
                    reader.follow(&command);
                    commands += 1;
                }
            }
            "python" => reader.run_python(block),
            "toml" => reader.check_config(block),
            other => panic!("a block of {other}: say here how it is checked"),
        }
    }
    assert!(commands >= 9, "only {commands} commands");
}

/// The fenced blocks of a document, each with its language.
fn blocks(document: &str) -> Vec<(&str, &str)> {
    let fences = document.split("\n```");
    let blocks = fences.skip(1).step_by(2);
    blocks
        .map(|block| block.split_once('\n').expect("a block of several lines"))
        .collect()
}

/// The commands of a block, without comments. A command goes on after a line that ends with a backslash, and within quotes.
fn commands_of(block: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut command = String::new();
    for line in block.lines() {
        let line = line.split("    # ").next().unwrap_or_default();
        command += line;
        let is_open = command.ends_with('\\') || command.matches('\'').count() % 2 == 1;
        if is_open {
            command.push('\n');
        } else {
            commands.push(std::mem::take(&mut command));
        }
    }
    commands.retain(|command| !command.trim().is_empty());
    commands
}

/// Somebody who reads the README in a clone that was built.
struct Reader {
    folder: TempDir,
    server: Server,
}

impl Reader {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        let plugins = path("target/dist/plugins");
        fs::create_dir_all(&plugins).unwrap();
        fs::copy(&artifacts().tenon, path("target/dist/tenon")).unwrap();
        let backend = Backend::CandleQuantized.library();
        install(&plugins, backend, "libtenon_plugin_candle_quantized.so");
        fs::create_dir_all(path("models")).unwrap();
        symlink(smollm2(), path("models/YOUR-MODEL.gguf")).unwrap();
        fs::write(path("report.txt"), "All is well.\n").unwrap();
        let schema = r#"{"type": "object", "properties": {"colour": {"enum": ["red", "green"]}}, "required": ["colour"]}"#;
        fs::write(path("colour.json"), schema).unwrap();
        let server = serve(
            folder.path(),
            "target/dist/tenon",
            "~/models/YOUR-MODEL.gguf",
        );
        Self { folder, server }
    }

    fn follow(&mut self, command: &str) {
        let words: Vec<&str> = command.split_whitespace().collect();
        match words[..] {
            ["make", target, ..] => is_target(target),
            ["pip", "install", wheel] => is_made(wheel),
            ["curl", ..] => {
                let answer = self.run(command);
                assert!(answer.contains("Tokyo"), "{answer}");
            }
            [_, "serve", model] if model.starts_with("hf:") => {
                let offline = format!("HF_HUB_OFFLINE=1 {command} 2>&1 || true");
                let said = self.run(&offline);
                // The name is understood. Fetching has tests of its own.
                assert!(
                    said.contains(model) && said.contains("HF_HUB_OFFLINE is set"),
                    "{said}"
                );
            }
            [program @ ("tenon" | "target/dist/tenon"), "serve", model] => {
                drop(serve(self.folder.path(), program, model));
            }
            [_, "chat", address] => {
                assert_eq!(address, ADDRESS);
                let said = self.run_with(command, "What is the capital of Japan?\n");
                // The answer is sampled, so it may be any text.
                let answer = said.split_once("/help lists the commands.");
                assert!(
                    answer.is_some_and(|(_, text)| text.trim().len() > 3),
                    "{said}"
                );
            }
            _ if command.contains(" run ") => {
                let answer = self.run(command);
                let is_json = command.contains("--json-schema");
                assert!(!is_json || answer.starts_with("{\"colour\""), "{answer}");
                assert!(!answer.trim().is_empty(), "{command}");
            }
            _ => panic!("{command}: say here how it is checked"),
        }
    }

    fn run(&mut self, command: &str) -> String {
        self.run_with(command, "")
    }

    /// Runs a command in a shell, with this text as its input. What the README calls port 8080 is the server's.
    fn run_with(&mut self, command: &str, input: &str) -> String {
        let command = command.replace(ADDRESS, &self.server.address());
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]);
        self.output(shell, input)
    }

    fn run_python(&mut self, script: &str) {
        let script = script.replace(ADDRESS, &self.server.address());
        let mut python = Command::new("python3");
        python
            .args(["-c", &script])
            .env("PYTHONPATH", packages("python"));
        let said = self.output(python, "");
        assert!(said.contains("Ag"), "{said}");
    }

    fn check_config(&self, text: &str) {
        let file = self.folder.path().join("checked.toml");
        fs::write(&file, text).unwrap();
        let mut check = Command::new(&artifacts().tenon);
        check.args(["config", "check", "checked.toml"]);
        let said = self.output(check, "");
        assert!(said.contains("ok (1 model)"), "{said}");
    }

    /// The output of a command that must succeed.
    fn output(&self, mut command: Command, input: &str) -> String {
        let mut child = command
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that reads nothing may have ended.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{command:?}: {output:#?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Serves a model until it is ready, as the command says but at a free port. The program may be on the path.
fn serve(folder: &Path, program: &str, model: &str) -> Server {
    let line = format!("exec {program} serve --port 0 --threads 1 {model}");
    let path = [
        folder.join("target/dist").as_os_str(),
        &env::var_os("PATH").unwrap(),
    ]
    .join(":".as_ref());
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &line])
        .env("PATH", path)
        .env("HOME", folder)
        .env_remove("XDG_CONFIG_HOME")
        .current_dir(folder);
    let mut server = Server::run(shell);
    server.wait_for_log("model ready");
    server
}

fn is_target(name: &str) {
    let makefile = include_str!("../../../Makefile");
    let rule = format!("\n{name}:");
    assert!(makefile.contains(&rule), "make has no target {name}");
}

/// Checks that a file which the README installs is one that `make dist` makes.
fn is_made(wheel: &str) {
    assert_eq!(wheel, "target/dist/tenon-*.whl");
    let packages = include_str!("../../../.ci/packages.py");
    assert!(packages.contains(".whl"), "make dist makes no wheel");
}
