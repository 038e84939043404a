//! Whatever a plugin does to its process, in whichever method, ends the worker of that model and nothing else.

use std::thread::available_parallelism;

use futures_util::{StreamExt, stream};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{Client, PluginFolder, Server, ServerOptions};

const CRASHES: &str = "tenon_fixture_crashes";
/// The last part of the id of that plugin, by its file.
const SOUND: &str = "libtenon_fixture_crashes";
const ECHO: &str = "tenon_plugin_echo";

/// The deed of a method.
struct Deed {
    name: &'static str,
    /// A part of the error that the client gets.
    told: &'static str,
    /// Keys of the configuration of models with this deed.
    keys: &'static str,
    /// How many such models are tested at the same time.
    together: usize,
}

const DEEDS: [Deed; 5] = [
    Deed {
        name: "abort",
        told: "the model's worker ended: SIGABRT",
        keys: "",
        together: 4,
    },
    Deed {
        name: "segfault",
        told: "the model's worker ended: SIGSEGV",
        keys: "",
        together: 4,
    },
    Deed {
        name: "exit",
        told: "the model's worker ended: it exited with 3",
        keys: "",
        together: 4,
    },
    Deed {
        name: "spin",
        told: "was stuck",
        keys: "stuck_timeout_secs = 1\nload_timeout_secs = 1\n",
        together: 4,
    },
    Deed {
        name: "allocate",
        told: "the model's worker ended",
        // The limit of a worker's memory is a gigabyte above its estimate.
        keys: "memory_limit_bytes = 1\n",
        together: 1,
    },
];

/// The methods, with the path and the parameters of a request that calls them.
fn methods() -> Vec<(&'static str, &'static str, Value)> {
    let plain = || json!({"prompt": "Go!", "max_tokens": 2000});
    let with = |key: &str, value: Value| {
        let mut parameters = plain();
        parameters[key] = value;
        parameters
    };
    let completions = "/v1/completions";
    let mut methods = vec![
        ("init", completions, plain()),
        ("estimate", completions, plain()),
        ("load", completions, plain()),
        ("info", completions, plain()),
        ("tokenizer", completions, plain()),
        ("vocabulary", completions, plain()),
        ("session", completions, plain()),
        ("session_info", completions, plain()),
        ("encode", completions, plain()),
        ("forward", completions, plain()),
        ("sample", completions, plain()),
        ("logits", completions, plain()),
        // The second answer begins with a copy of the prompt, which is long enough that waiting for the first one saves work.
        (
            "fork",
            completions,
            json!({"prompt": "Go!".repeat(50), "n": 2, "max_tokens": 500}),
        ),
        // The model writes `x`, and `d` was next each time before. A draft says so again, and is wrong.
        (
            "truncate",
            completions,
            with("prompt", json!("!abc xd abc xd abc xd abc ")),
        ),
        // The sequence is freed in the step that ends it.
        (
            "free",
            completions,
            json!({"prompt": "Go!", "max_tokens": 2, "cache_prompt": false}),
        ),
        ("embedder", completions, plain()),
        ("embedder_info", completions, plain()),
        ("embed", "/v1/embeddings", json!({"input": "Go!"})),
        ("requantize", "/re_isq", json!({"ggml_type": "Q8_0"})),
    ];
    // On one core there is no choice of threads.
    if available_parallelism().is_ok_and(|cores| cores.get() > 1) {
        methods.push(("set_threads", completions, plain()));
    }
    methods
}

#[tokio::test]
async fn a_fault_in_any_method_is_told_and_ends_only_its_worker() {
    let (server, client, _plugins) = start();
    for Deed {
        name: deed,
        told,
        together,
        ..
    } in DEEDS
    {
        let requests = methods().into_iter().map(|(method, path, parameters)| {
            let client = &client;
            async move {
                let answer = ask(client, &format!("{method}-{deed}"), path, parameters).await;
                (method, answer)
            }
        });
        let mut answers = stream::iter(requests).buffer_unordered(together);
        while let Some((method, (status, answer))) = answers.next().await {
            assert!(status.is_server_error(), "{method}-{deed}: {answer}");
            let message = answer["error"]["message"].as_str().unwrap();
            assert!(message.contains(told), "{method}-{deed}: {message}");
            let parameters = json!({"model": "echo", "temperature": 0});
            assert_eq!(client.chat("Hi", parameters).await, "Hi");
        }
    }
    // The other models stay down.
    assert_eq!(server.workers().len(), 1);
}

async fn ask(
    client: &Client,
    model: &str,
    path: &str,
    mut parameters: Value,
) -> (StatusCode, Value) {
    if path == "/re_isq" {
        let load = format!("/admin/models/{model}/load");
        let (status, answer) = client.post(&load, &json!({})).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }
    parameters["model"] = json!(model);
    client.post(path, &parameters).await
}

/// A server of an echo model, and of a model for each method and deed, which is loaded on demand and never started again. The plugins
/// whose fault is in `init` have it only in workers.
fn start() -> (Server, Client, PluginFolder) {
    let plugins = PluginFolder::empty();
    let mut options = ServerOptions::new(&[ECHO, CRASHES]).file("echo.echo", "");
    let mut config = "[[models]]\npath = 'echo.echo'\n".to_owned();
    for Deed { name, keys, .. } in DEEDS {
        let plugin = format!("worker-{name}");
        plugins.install(CRASHES, &format!("{plugin}.so"));
        options = options.plugin(plugins.path(&format!("{plugin}.so")));
        for (method, ..) in methods() {
            let file = format!("{method}-{name}.crashes");
            let backend = match method {
                "init" => &plugin,
                _ => SOUND,
            };
            config += &format!(
                "[[models]]\npath = '{file}'\nbackend = '{backend}'\nload = 'on-demand'\nmax_restarts = 0\n{keys}"
            );
            options = options.file(&file, "");
        }
    }
    let mut server = options.config(&config).spawn();
    server.wait_for_log(r#"model ready model="echo""#);
    let client = server.client();
    (server, client, plugins)
}
