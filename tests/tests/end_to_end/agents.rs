//! Agents that people use, unchanged: each reads a file, edits it and runs a command. The model answers from a script.

use std::{
    collections::BTreeMap,
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};
use tenon_tests::{Server, ServerOptions, has_node, packages};

const PROMPT: &str = "Make the colour blue, and run the check.";
const ANSWER: &str = "The colour is blue, and the check passes.";
const FILE: &str = "colour = red\n";

/// The part of a prompt that must be cached from the second turn on.
const CACHED: f64 = 0.95;

#[test]
fn codex_reads_a_file_edits_it_and_runs_a_command() {
    if !has_node() {
        return;
    }
    let command = |command: &str| ("exec_command", json!({"cmd": command}));
    let mut server = server(&[
        command("cat colour.txt"),
        command("sed -i s/red/blue/ colour.txt"),
        command("grep blue colour.txt > checked.txt"),
    ]);
    let workplace = Workplace::new();
    let settings = workplace.path("settings");
    fs::create_dir(&settings).unwrap();
    let config = format!(
        "model = 'model'\nmodel_provider = 'tenon'\n[model_providers.tenon]\nname = 'Tenon'\nbase_url = '{}/v1'\nwire_api = 'responses'\n",
        server.address()
    );
    fs::write(settings.join("config.toml"), config).unwrap();
    let mut codex = Command::new("node");
    codex
        .arg(packages("node").join("@openai/codex/bin/codex.js"))
        .args(["exec", "--skip-git-repo-check"])
        .args(["--dangerously-bypass-approvals-and-sandbox", PROMPT])
        .env("CODEX_HOME", &settings);
    let answer = workplace.run(codex);
    assert!(answer.ends_with(&format!("{ANSWER}\n")), "{answer}");
    workplace.check();
    let log = files_below(&settings.join("sessions"));
    let [log] = &log[..] else { panic!("{log:?}") };
    let events = lines(&fs::read_to_string(log).unwrap());
    let usages = events.iter().filter_map(|event| {
        let usage = &event["payload"]["info"]["last_token_usage"];
        Some((
            usage["input_tokens"].as_u64()?,
            usage["cached_input_tokens"].as_u64()?,
        ))
    });
    let (prompts, cached): (Vec<_>, Vec<_>) = usages.unzip();
    check_cached(&prompts, cached.iter().sum());
}

#[test]
fn claude_code_reads_a_file_edits_it_and_runs_a_command() {
    if !has_node() {
        return;
    }
    let workplace = Workplace::new();
    let file = workplace.path("colour.txt");
    let edit = json!({"file_path": file, "old_string": "red", "new_string": "blue"});
    let check = "grep blue colour.txt > checked.txt";
    let mut server = server(&[
        ("Read", json!({"file_path": file})),
        ("Edit", edit),
        ("Bash", json!({"command": check, "description": "Check"})),
    ]);
    // A script of the package would put the program in its place, but scripts of packages do not run.
    let platform = if ARCH == "aarch64" { "arm64" } else { "x64" };
    let program = format!("@anthropic-ai/claude-code-linux-{platform}/claude");
    let mut claude = Command::new(packages("node").join(program));
    claude
        .args(["-p", PROMPT, "--output-format", "stream-json", "--verbose"])
        .args(["--allowedTools", "Read,Edit,Bash"])
        .env("ANTHROPIC_BASE_URL", server.address())
        .env("ANTHROPIC_API_KEY", "none")
        .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
    let events = lines(&workplace.run(claude));
    let last = events.last().expect("a result");
    assert_eq!(last["result"], ANSWER, "{last}");
    workplace.check();
    // There is an event for each part of an answer. All of them have the usage at its beginning.
    let messages = events.iter().map(|event| &event["message"]);
    let messages = messages.filter(|message| message["usage"].is_object());
    let tokens = |usage: &Value| {
        let kinds = ["input_tokens", "cache_read_input_tokens"].into_iter();
        kinds.filter_map(|kind| usage[kind].as_u64()).sum()
    };
    let prompts = messages.map(|message| (message["id"].as_str(), tokens(&message["usage"])));
    let prompts: BTreeMap<_, u64> = prompts.collect();
    let prompts: Vec<_> = prompts.into_values().collect();
    let cached = &last["usage"]["cache_read_input_tokens"];
    check_cached(&prompts, cached.as_u64().expect("a number"));
}

/// A server whose model makes these calls, one in each turn, and then answers.
fn server(calls: &[(&str, Value)]) -> Server {
    let call = |(name, arguments): &(&str, Value)| {
        let call = format!(r#"{{"name": "{name}", "arguments": {arguments}}}"#);
        format!("=== answer\nI call {name}.\n<tool_call>\n{call}\n</tool_call>\n")
    };
    let calls: String = calls.iter().map(call).collect();
    let script = format!("{calls}=== answer\n{ANSWER}\n");
    let config = "[[models]]\npath = 'model.scripted'\naliases = ['claude-*']\n";
    ServerOptions::new(&["tenon_fixture_scripted"])
        .file("model.scripted", &script)
        .config(config)
        .start()
}

/// A folder where an agent works.
struct Workplace(TempDir);

impl Workplace {
    fn new() -> Self {
        let workplace = Self(tempdir().expect("a folder"));
        fs::write(workplace.path("colour.txt"), FILE).expect("a file");
        workplace
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs an agent here. Returns what it prints.
    fn run(&self, mut agent: Command) -> String {
        agent.current_dir(self.0.path()).env("HOME", self.0.path());
        let output = agent.output().expect("the agent starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (printed, errors) = (text(&output.stdout), text(&output.stderr));
        assert!(
            output.status.success(),
            "{}\n{printed}\n{errors}",
            output.status
        );
        printed
    }

    /// Checks what the agent did.
    fn check(&self) {
        for name in ["colour.txt", "checked.txt"] {
            let text = fs::read_to_string(self.path(name)).expect("the agent's file");
            assert_eq!(text, "colour = blue\n", "{name}");
        }
    }
}

/// Checks how much of the prompts of a loop (three calls and an answer) was cached. `prompts` has their lengths in tokens,
/// and `cached` is the number of cached tokens of all prompts together. The first prompt is the shortest one, and no token of
/// it can be cached.
fn check_cached(prompts: &[u64], cached: u64) {
    assert_eq!(prompts.len(), 4, "{prompts:?}");
    let later = prompts.iter().sum::<u64>() - prompts.iter().min().unwrap();
    let least = later as f64 * CACHED;
    assert!(cached as f64 >= least, "{cached} of {prompts:?}");
}

fn lines(text: &str) -> Vec<Value> {
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    lines.collect()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    let entries = entries.map(|entry| entry.expect("an entry").path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => files_below(&path),
            false => vec![path],
        })
        .collect()
}
