//! `tenon pull` and `tenon models`, with a hub of the tests: what is fetched, what is refused, and what other programs find.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use tenon_tests::{
    Asked, COMMIT, HubServer, PATIENCE, REPOSITORY, Trouble, artifacts, install,
    models::{Family, TestModel},
    packages,
};

const Q4: &[u8] = b"the weights at Q4_K_M";
const Q8: [&[u8]; 2] = [b"the first half of Q8_0", b"the second half of Q8_0"];
const CONFIG: &[u8] = b"{}";
const QUANTIZED: &[(&str, &[u8])] = &[
    ("README.md", b"# Tiny"),
    ("config.json", CONFIG),
    ("tiny-BF16.gguf", b"the weights at BF16"),
    ("tiny-Q4_K_M.gguf", Q4),
    ("Q8_0/tiny-Q8_0-00001-of-00002.gguf", Q8[0]),
    ("Q8_0/tiny-Q8_0-00002-of-00002.gguf", Q8[1]),
    ("mmproj-tiny-Q4_K_M.gguf", b"eyes"),
];

/// A machine with an empty cache.
struct Machine {
    home: TempDir,
    endpoint: String,
}

impl Machine {
    fn of(hub: &HubServer) -> Self {
        Self {
            home: TempDir::new().unwrap(),
            endpoint: hub.address().to_owned(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&artifacts().tenon);
        command.args(arguments);
        self.prepare(&mut command);
        command
    }

    /// Gives a program this machine's home, and no other settings of hubs than its own.
    fn prepare(&self, command: &mut Command) {
        for name in [
            "HF_HOME",
            "HF_HUB_CACHE",
            "HF_TOKEN",
            "HF_HUB_OFFLINE",
            "XDG_CACHE_HOME",
        ] {
            command.env_remove(name);
        }
        command
            .env("HOME", self.home.path())
            .env("HF_ENDPOINT", &self.endpoint)
            .env("NO_PROXY", "127.0.0.1")
            .current_dir(self.home.path())
            .stdin(Stdio::null());
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Fetches a model, and returns its path.
    fn pull(&self, which: &str) -> PathBuf {
        let output = self.run(&["pull", &named(which)]);
        assert!(output.status.success(), "{}", err(&output));
        PathBuf::from(out(&output).trim_end())
    }

    /// The error for a model that cannot be fetched.
    fn refusal(&self, which: &str) -> String {
        let output = self.run(&["pull", &named(which)]);
        assert_eq!(output.status.code(), Some(2), "{}", err(&output));
        assert_eq!(out(&output), "");
        err(&output)
    }

    /// The repository's folder in the cache.
    fn repository(&self) -> PathBuf {
        let cache = self.home.path().join(".cache/huggingface/hub");
        cache.join(format!("models--{}", REPOSITORY.replace('/', "--")))
    }

    /// The files in the cache that are not complete.
    fn incomplete(&self) -> Vec<PathBuf> {
        let blobs = fs::read_dir(self.repository().join("blobs"));
        let blobs = blobs
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path());
        let is_incomplete =
            |path: &PathBuf| path.extension().is_some_and(|end| end == "incomplete");
        blobs.filter(is_incomplete).collect()
    }
}

/// The repository, with a quantization or file.
fn named(which: &str) -> String {
    match which {
        "" => format!("hf:{REPOSITORY}"),
        which => format!("hf:{REPOSITORY}:{which}"),
    }
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The names of the files that were asked for.
fn names(asked: &[Asked]) -> Vec<&str> {
    let names = asked
        .iter()
        .map(|asked| asked.path.split_once(COMMIT).unwrap().1);
    names.map(|name| name.trim_start_matches('/')).collect()
}

#[test]
fn a_model_is_fetched_once_with_all_its_parts() {
    let hub = HubServer::start(QUANTIZED);
    let machine = Machine::of(&hub);
    let path = machine.pull("");
    assert_eq!(fs::read(&path).unwrap(), Q4);
    assert_eq!(
        path,
        machine
            .repository()
            .join("snapshots")
            .join(COMMIT)
            .join("tiny-Q4_K_M.gguf")
    );
    assert_eq!(names(&hub.asked_for_files()), ["tiny-Q4_K_M.gguf"]);
    let path = machine.pull("q8_0");
    assert_eq!(fs::read(&path).unwrap(), Q8[0]);
    let second = path.to_str().unwrap().replace("00001-of", "00002-of");
    assert_eq!(fs::read(second).unwrap(), Q8[1]);
    assert_eq!(hub.asked_for_files().len(), 2);
    machine.pull("q8_0");
    assert_eq!(names(&hub.asked_for_files()), [""; 0]);
}

#[test]
fn a_directory_is_fetched_without_weights_in_other_formats() {
    let hub = HubServer::start(&[
        ("config.json", CONFIG),
        ("model-00001-of-00002.safetensors", b"one"),
        ("model-00002-of-00002.safetensors", b"two"),
        ("model.safetensors.index.json", b"{}"),
        ("pytorch_model.bin", b"pickled"),
        ("tokenizer.json", b"{}"),
    ]);
    let machine = Machine::of(&hub);
    let path = machine.pull("");
    let entries = fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut found: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    found.sort();
    let expected = [
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_download_that_breaks_off_is_continued() {
    let content: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
    let hub = HubServer::start(&[("m.gguf", &content)]);
    let machine = Machine::of(&hub);
    hub.set(Trouble::Breaks(60_000));
    let path = machine.pull("");
    assert_eq!(fs::read(&path).unwrap(), content);
    let ranges: Vec<_> = hub
        .asked_for_files()
        .into_iter()
        .map(|asked| asked.range)
        .collect();
    let [None, Some(second)] = &ranges[..] else {
        panic!("{ranges:?}");
    };
    let start: usize = second
        .trim_start_matches("bytes=")
        .trim_end_matches('-')
        .parse()
        .unwrap();
    assert!(start > 0 && start <= 60_000, "{second}");
    let of_store = hub.asked_of_store().into_iter().map(|asked| asked.range);
    assert_eq!(of_store.collect::<Vec<_>>(), ranges);
}

#[test]
fn a_download_that_was_killed_is_continued_by_the_next_one() {
    let content = vec![7; 100_000];
    let hub = HubServer::start(&[("m.gguf", &content)]);
    let machine = Machine::of(&hub);
    hub.set(Trouble::Stalls(70_000));
    let mut first = machine.command(&["pull", &named("")]).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    let is_there = |path: &PathBuf| fs::metadata(path).unwrap().len() == 70_000;
    while !machine.incomplete().iter().any(is_there) {
        assert!(Instant::now() < deadline, "{:?}", machine.incomplete());
        sleep(Duration::from_millis(10));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    hub.set(Trouble::Nothing);
    hub.asked_for_files();
    assert_eq!(fs::read(machine.pull("")).unwrap(), content);
    assert_eq!(
        hub.asked_for_files()[0].range.as_deref(),
        Some("bytes=70000-")
    );
    assert!(machine.incomplete().is_empty());
}

#[test]
fn a_damaged_download_is_refused_and_removed() {
    let hub = HubServer::start(QUANTIZED);
    let machine = Machine::of(&hub);
    hub.set(Trouble::Damages);
    let why = machine.refusal("");
    assert!(
        why.contains("tiny-Q4_K_M.gguf of tenon/tiny arrived damaged"),
        "{why}"
    );
    assert!(
        fs::read_dir(machine.repository().join("blobs"))
            .unwrap()
            .next()
            .is_none()
    );
    assert!(!machine.repository().join("refs/main").exists());
    hub.set(Trouble::Nothing);
    assert_eq!(fs::read(machine.pull("")).unwrap(), Q4);
}

/// A small file, whose hash is that of git, is damaged before its download is continued.
#[test]
fn a_damaged_beginning_is_fetched_once_more() {
    let hub = HubServer::start(&[("config.json", b"{\"a\": 1}"), ("model.safetensors", b"w")]);
    let machine = Machine::of(&hub);
    hub.set(Trouble::Stalls(3));
    let mut first = machine.command(&["pull", &named("")]).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while machine.incomplete().is_empty() {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(10));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    fs::write(&machine.incomplete()[0], "???").unwrap();
    hub.set(Trouble::Nothing);
    let output = machine.run(&["pull", &named("")]);
    assert!(
        err(&output).contains("config.json is damaged: it is fetched once more"),
        "{}",
        err(&output)
    );
    let path = PathBuf::from(out(&output).trim_end());
    assert_eq!(fs::read(path.join("config.json")).unwrap(), b"{\"a\": 1}");
}

#[test]
fn what_cannot_be_fetched_is_said_in_a_sentence() {
    let hub = HubServer::start(QUANTIZED);
    let machine = Machine::of(&hub);
    for (trouble, which, expected) in [
        (
            Trouble::IsGated,
            "",
            "tenon/tiny is gated: accept its terms at ",
        ),
        (
            Trouble::LacksIt,
            "",
            "has no tenon/tiny: check the name, or set HF_TOKEN if it is private",
        ),
        (
            Trouble::Nothing,
            "Q2_K",
            "it has no Q2_K; it has Q8_0/tiny-Q8_0-00001-of-00002.gguf, tiny-BF16.gguf, ",
        ),
        (
            Trouble::Exaggerates,
            "",
            " left, but hf:tenon/tiny takes 1.00 EiB more: make room, or set HF_HOME",
        ),
        (
            Trouble::IsBroken,
            "",
            "answers 502 Bad Gateway: try again later",
        ),
    ] {
        hub.set(trouble);
        let why = machine.refusal(which);
        assert!(why.contains(expected), "{why}");
    }
    // Only the gated one was asked for: the disk was looked at before anything was fetched.
    assert_eq!(names(&hub.asked_for_files()), ["tiny-Q4_K_M.gguf"]);
    let unknown = machine.run(&["pull", "tiny"]);
    assert!(
        err(&unknown).contains("hf:OWNER/REPO:QUANT"),
        "{}",
        err(&unknown)
    );
}

#[test]
fn the_token_is_sent_and_the_network_can_be_forbidden() {
    let hub = HubServer::start(QUANTIZED);
    let machine = Machine::of(&hub);
    let offline = || {
        let mut command = machine.command(&["pull", &named("")]);
        command.env("HF_HUB_OFFLINE", "1").output().unwrap()
    };
    assert!(
        err(&offline()).contains("HF_HUB_OFFLINE is set"),
        "{}",
        err(&offline())
    );
    let output = machine
        .command(&["pull", &named("")])
        .env("HF_TOKEN", "hf_mine")
        .output();
    assert!(output.unwrap().status.success());
    let asked = hub.asked_for_files();
    assert_eq!(asked[0].authorization.as_deref(), Some("Bearer hf_mine"));
    // The store is another server, so it does not get the token.
    let of_store = hub.asked_of_store();
    assert_eq!(of_store.len(), 1);
    assert_eq!(of_store[0].authorization, None);
    assert_eq!(
        out(&offline()).trim_end(),
        machine.pull("").to_str().unwrap()
    );
    // If the hub does not answer, the model is taken from the cache.
    hub.set(Trouble::IsBroken);
    let output = machine.run(&["pull", &named("")]);
    assert!(
        output.status.success() && err(&output).contains("taken as it is in the cache"),
        "{}",
        err(&output)
    );
}

#[test]
fn python_finds_what_tenon_has_fetched_and_the_other_way_round() {
    let hub = HubServer::start(QUANTIZED);
    let python = |machine: &Machine, file: &str, offline: &str| {
        let code = "import sys; from huggingface_hub import hf_hub_download as get; print(get(sys.argv[1], sys.argv[2]))";
        let mut command = Command::new("python3");
        machine.prepare(&mut command);
        command.args(["-c", code, REPOSITORY, file]);
        command
            .env("PYTHONPATH", packages("python"))
            .env("HF_HUB_OFFLINE", offline);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", err(&output));
        PathBuf::from(out(&output).trim_end())
    };
    let ours = Machine::of(&hub);
    let pulled = ours.pull("");
    assert_eq!(python(&ours, "tiny-Q4_K_M.gguf", "1"), pulled);
    let theirs = Machine::of(&hub);
    let fetched = python(&theirs, "tiny-BF16.gguf", "0");
    hub.asked_for_files();
    assert_eq!(theirs.pull("BF16"), fetched);
    assert_eq!(names(&hub.asked_for_files()), [""; 0]);
}

#[test]
fn models_are_listed_and_removed() {
    let hub = HubServer::start(QUANTIZED);
    let machine = Machine::of(&hub);
    machine.pull("");
    machine.pull("Q8_0");
    fs::write(machine.home.path().join("local.gguf"), "12345").unwrap();
    fs::create_dir(machine.home.path().join("more")).unwrap();
    fs::write(machine.home.path().join("more/inner.gguf"), "123").unwrap();
    let folder = "[[models]]\ndirectory = 'more'\n";
    let toml =
        format!("[[models]]\npath = 'local.gguf'\n[[models]]\npath = 'hf:tenon/other'\n{folder}");
    fs::write(machine.home.path().join("tenon.toml"), toml).unwrap();
    let list = || {
        let output = machine.run(&["models", "list", "--json"]);
        let list: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let models = list.into_iter().map(|model| {
            (
                model["name"].as_str().unwrap().to_owned(),
                model["size_bytes"].as_u64(),
            )
        });
        models.collect::<Vec<_>>()
    };
    let configured = [
        ("local".to_owned(), Some(5)),
        ("other".to_owned(), None),
        ("inner".to_owned(), Some(3)),
    ];
    let size = |parts: &[&[u8]]| Some(parts.iter().map(|part| part.len() as u64).sum());
    let cached = [
        (named("Q8_0/tiny-Q8_0-00001-of-00002.gguf"), size(&Q8)),
        (named("tiny-Q4_K_M.gguf"), size(&[Q4])),
    ];
    assert_eq!(list(), [&cached[..], &configured].concat());
    let unasked = machine.run(&["models", "rm", &named("Q8_0")]);
    assert!(err(&unasked).contains("give --yes"), "{}", err(&unasked));
    assert_eq!(list().len(), 5);
    let removed = machine.run(&["models", "rm", &named("Q8_0"), "--yes"]);
    assert!(removed.status.success(), "{}", err(&removed));
    assert_eq!(list(), [&cached[1..], &configured].concat());
    machine.run(&["models", "rm", &named(""), "--yes"]);
    assert_eq!(list(), configured);
    assert!(!machine.repository().exists());
    let gone = machine.run(&["models", "rm", &named(""), "--yes"]);
    assert!(
        err(&gone).contains("nothing was fetched of it"),
        "{}",
        err(&gone)
    );
}

#[test]
fn show_tells_what_a_model_is_and_who_loads_it() {
    let hub = HubServer::start(&[]);
    let machine = Machine::of(&hub);
    let home = machine.home.path();
    let model = TestModel::tiny(Family::Llama);
    model.write_gguf(&home.join("tiny.gguf"));
    fs::create_dir(home.join("dir")).unwrap();
    model.write_dir(&home.join("dir"));
    fs::create_dir(home.join("plugins")).unwrap();
    for plugin in [
        "tenon_plugin_candle",
        "tenon_plugin_candle_quantized",
        "tenon_plugin_echo",
    ] {
        install(&home.join("plugins"), plugin, &format!("{plugin}.so"));
    }
    let show = |path: &str| -> Value {
        let output = machine.run(&["models", "show", path, "--plugins", "plugins", "--json"]);
        assert!(output.status.success(), "{}", err(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    for (path, backend, architecture) in [
        ("tiny.gguf", "org.tenon.candle-quantized", "llama"),
        ("dir", "org.tenon.candle", "LlamaForCausalLM"),
    ] {
        let shown = show(path);
        assert_eq!(shown["architecture"], architecture, "{shown}");
        assert_eq!(shown["quantization"][0], "F32", "{shown}");
        assert_eq!(shown["context_length"], model.shape.context, "{shown}");
        assert!(shown["parameters"].as_u64() > Some(100_000), "{shown}");
        assert!(
            shown["memory"][0]["fixed_bytes"].as_u64() > Some(400_000),
            "{shown}"
        );
        let backends = shown["backends"].as_array().unwrap();
        assert_eq!(backends[0]["id"], backend, "{shown}");
        let echo = backends
            .iter()
            .find(|backend| backend["id"] == "org.tenon.echo")
            .unwrap();
        assert!(echo["score"] == 0 && echo["why"] != "", "{shown}");
    }
    // A model of the configuration is shown with the options that it is served with, from the plugins there.
    let toml = "[plugins]\ndirectories = ['plugins']\n[[models]]\nid = 'small'\npath = 'dir'\nquantize = 'q8_0'\n";
    fs::write(home.join("tenon.toml"), toml).unwrap();
    let output = machine.run(&["models", "show", "small", "--json"]);
    let small: Value = serde_json::from_slice(&output.stdout).unwrap();
    let fixed = |shown: &Value| shown["memory"][0]["fixed_bytes"].as_u64().expect("bytes");
    assert!(fixed(&small) < fixed(&show("dir")), "{small}");
    let text = machine.run(&["models", "show", "tiny.gguf", "--plugins", "plugins"]);
    for expected in [
        "architecture  llama",
        "template",
        "org.tenon.candle-quantized loads it",
        "org.tenon.echo cannot load it",
    ] {
        assert!(out(&text).contains(expected), "{}", out(&text));
    }
    let missing = machine.run(&["models", "show", &named(""), "--plugins", "plugins"]);
    assert!(
        err(&missing).contains("`tenon pull hf:tenon/tiny`"),
        "{}",
        err(&missing)
    );
    let missing = machine.run(&["models", "show", "no.gguf", "--plugins", "plugins"]);
    assert!(
        err(&missing).contains("cannot open no.gguf"),
        "{}",
        err(&missing)
    );
}

#[test]
fn run_fetches_a_model_and_asks_it() {
    let hub = HubServer::start(&[("echo.echo", b"0")]);
    let machine = Machine::of(&hub);
    let plugins = machine.home.path().join("plugins");
    fs::create_dir(&plugins).unwrap();
    install(Path::new(&plugins), "tenon_plugin_echo", "plugin.so");
    let output = machine.run(&["run", &named("echo.echo"), "Hi", "--plugins", "plugins"]);
    assert_eq!(out(&output), "Hi\n", "{}", err(&output));
}
