//! Runs the files of `make dist` on this CPU and on emulated ones, from a separate folder and without Rust and compilers on
//! the path. Every backend is listed, measured and served, and its answers are compared with those of the workspace's own
//! build. With SmolLM2 each backend answers the first question of the README right, and clearly so.
//!
//!     make dist emulate

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tenon_tests::{
    Backend, Client, Judge, ModelFiles, Question, Server, TOLERANCE,
    models::{Family, TestModel},
    text, token_bytes,
};

/// The CPUs under their names in qemu-x86_64, and the level of the llama.cpp build that each must get.
const EMULATED: [(&str, &str); 3] = [
    ("Nehalem", "x86-64-v2"),
    ("Haswell", "x86-64-v3"),
    ("max", "x86-64-v3"),
];
const PROMPT: &str = "The quick brown fox";
const TEMPLATE: &str = "{% for message in messages %}{{ message.content }}\n{% endfor %}";

#[tokio::main]
async fn main() {
    let archive = env::args_os().nth(1).expect("the archive of `make dist`");
    let home = TempDir::new().expect("a temporary directory");
    let program = unpack(Path::new(&archive), home.path());
    let models = Models::write(home.path());
    let machine = |cpu| Machine {
        home: home.path(),
        program: &program,
        cpu,
    };
    let cpus = EMULATED.map(|(cpu, level)| (Some(cpu), level));
    for (cpu, level) in [(None, "x86-64-")].into_iter().chain(cpus) {
        check(&machine(cpu), &models, level).await;
        answer(&machine(cpu)).await;
    }
}

/// Unpacks an archive. Returns the path of the program in it.
fn unpack(archive: &Path, folder: &Path) -> PathBuf {
    let mut tar = Command::new("tar");
    let tar = tar.arg("-xzf").arg(archive).arg("-C").arg(folder);
    assert!(tar.status().expect("tar starts").success());
    let mut entries = folder.read_dir().expect("the folder");
    let release = entries.next().expect("an unpacked folder");
    release.expect("an unpacked folder").path().join("tenon")
}

/// Small random models, one for each backend.
struct Models {
    files: ModelFiles,
}

impl Models {
    fn write(home: &Path) -> Self {
        fs::write(home.join("model.echo"), "").expect("an echo model");
        fs::write(home.join("chat.jinja"), TEMPLATE).expect("a chat template");
        Self {
            files: ModelFiles::write(&TestModel::tiny(Family::Llama)),
        }
    }

    /// The configuration of `tenon serve`. The id of each model is that of its backend.
    fn config(&self) -> String {
        // Workers are started as `/proc/self/exe`, which the kernel would run on this CPU instead of the emulated one.
        let mut config =
            "[engine]\nthreads = 1\nisolation = 'none'\n[[models]]\nid = 'echo'\npath = 'model.echo'\n".to_owned();
        for backend in Backend::ALL {
            let (id, path) = (backend.id(), self.files.path(backend));
            let options = backend.exact();
            let options = options.as_object().expect("options").iter();
            let options: Vec<_> = options
                .map(|(key, value)| format!("{key} = {value}"))
                .collect();
            config += &format!(
                "[[models]]\nid = '{id}'\nbackend = '{id}'\npath = {path:?}\nchat_template = 'chat.jinja'\noptions = {{ {} }}\n",
                options.join(", ")
            );
        }
        config
    }
}

/// This machine, with its own CPU or with an emulated one.
struct Machine<'a> {
    home: &'a Path,
    program: &'a Path,
    cpu: Option<&'static str>,
}

impl Machine<'_> {
    fn name(&self) -> &'static str {
        self.cpu.unwrap_or("this CPU")
    }

    fn tenon(&self, arguments: &[&str]) -> Command {
        let mut command = match self.cpu {
            None => Command::new(self.program),
            Some(cpu) => {
                let mut qemu = Command::new("qemu-x86_64");
                qemu.args(["-cpu", cpu]).arg(self.program);
                qemu
            }
        };
        command.args(arguments).current_dir(self.home);
        command.env_clear().env("HOME", self.home);
        command
    }

    fn output(&self, arguments: &[&str]) -> String {
        let output = self.tenon(arguments).output().expect("tenon starts");
        let success = output.status.success();
        assert!(success, "{arguments:?} on {:?}: {output:?}", self.cpu);
        String::from_utf8(output.stdout).expect("text")
    }
}

async fn check(machine: &Machine<'_>, models: &Models, level: &str) {
    let cpu = machine.name();
    check_list(machine, level);
    measure(machine, "model.echo", "org.tenon.echo", &[]);
    for backend in Backend::ALL {
        let path = models.files.path(backend);
        for level in [&[][..], &["--quantize", "Q8_0"][..]] {
            measure(machine, path.to_str().expect("text"), backend.id(), level);
        }
    }
    fs::write(machine.home.join("tenon.toml"), models.config()).expect("a configuration");
    let mut server = Server::run(machine.tenon(&["serve", "--port", "0"]));
    let client = server.client();
    server.wait_for_log("model ready model=\"echo\"");
    let echo = chat(&client, "echo").await;
    assert_eq!(echo, PROMPT, "{cpu}");
    for backend in Backend::ALL {
        server.wait_for_log(&format!("model ready model=\"{}\"", backend.id()));
        chat(&client, backend.id()).await;
        let gap = worst_gap(&client, backend, models).await;
        assert!(gap <= TOLERANCE, "{cpu}: {backend:?} is {gap} behind");
        println!("{cpu}: {backend:?} answers greedily, at most {gap} behind the best token");
    }
}

/// Asks the first question of the README, of a model that knows the answer.
async fn answer(machine: &Machine<'_>) {
    for backend in Backend::ALL {
        let config = format!(
            "[engine]\nthreads = 1\nisolation = 'none'\n[[models]]\nbackend = '{}'\npath = {:?}\n",
            backend.id(),
            backend.smollm2()
        );
        fs::write(machine.home.join("tenon.toml"), config).expect("a configuration");
        let mut server = Server::run(machine.tenon(&["serve", "--port", "0"]));
        let client = server.client();
        server.wait_for_log("model ready");
        let [question, _] = Question::of_readme();
        let wrong = question.wrong(&client).await;
        let cpu = machine.name();
        assert_eq!(wrong, None, "{cpu}: {backend:?}");
        println!("{cpu}: {backend:?} answers the README's question");
    }
}

/// Checks that every plugin is listed, and that llama-cpp is the build for the CPU.
fn check_list(machine: &Machine<'_>, level: &str) {
    let list = machine.output(&["plugins", "list", "--json"]);
    let list: Value = serde_json::from_str(&list).expect("JSON");
    let path_of = |id: &str| {
        let mut backends = list["backends"].as_array().expect("backends").iter();
        let backend = backends.find(|backend| backend["id"] == id);
        let backend = backend.unwrap_or_else(|| panic!("no {id} in {list}"));
        backend["path"].as_str().expect("a path").to_owned()
    };
    path_of("org.tenon.echo");
    for backend in Backend::ALL {
        let path = path_of(backend.id());
        let has_levels = backend == Backend::LlamaCpp;
        assert!(!has_levels || path.contains(level), "{path} on {level}");
    }
}

/// Reads a prompt and generates a few tokens through the plugin, without a server.
fn measure(machine: &Machine<'_>, model: &str, backend: &str, more: &[&str]) {
    let bench = ["bench", "engine", model, "--backend", backend];
    let short = ["-p", "40", "-n", "8", "-r", "1", "-t", "1", "-b", "1,3"];
    machine.output(&[&bench[..], &short, more].concat());
}

async fn chat(client: &Client, model: &str) -> String {
    let messages = json!([{"role": "user", "content": PROMPT}]);
    let request = json!({"model": model, "messages": messages, "max_tokens": 24, "temperature": 0});
    let (status, answer) = client.post("/v1/chat/completions", &request).await;
    assert_eq!(status, 200, "{answer}");
    text(&answer).to_owned()
}

/// How far the tokens of a greedy answer are behind the best tokens, by the logits of the workspace's own build on this CPU.
async fn worst_gap(client: &Client, backend: Backend, models: &Models) -> f32 {
    let request = json!({"model": backend.id(), "prompt": PROMPT, "max_tokens": 32, "temperature": 0, "logprobs": 0});
    let (status, answer) = client.post("/v1/completions", &request).await;
    assert_eq!(status, 200, "{answer}");
    let tokens = answer["choices"][0]["logprobs"]["tokens"].as_array();
    let tokens: Vec<_> = tokens.expect("tokens").iter().map(token_bytes).collect();
    assert!(!tokens.is_empty(), "{answer}");
    Judge::of(models.files.load(backend)).worst_gap_of_tokens(PROMPT, &tokens)
}
