//! A backend in C serves requests like any other.

use std::process::Command;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tenon_tests::{
    Client, PluginFolder, Server, ServerOptions, c_library, c_library_of, c_library_with_its_own,
    chat, text,
};

const CHAT: &str = "/v1/chat/completions";
const PLAIN: &str = "/v1/completions";
const EMBEDDINGS: &str = "/v1/embeddings";
const COMPUTED: &str = "tenon_engine_computed_tokens_total";

/// The plugin continues with the byte that most often followed in this text, so it writes the text itself.
const TEXT: &str = "one and two and three.\n\none and two and three.\n\n";

fn start(config: &str) -> (Server, Client) {
    let mut server = ServerOptions::ngram(TEXT).config(config).start();
    let client = server.client();
    (server, client)
}

#[test]
fn the_header_compiles_without_a_warning_as_c_and_as_cpp() {
    let include = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugin-api/include");
    let header = format!("{include}/tenon_plugin.h");
    for (language, standard) in [
        ("c", "c99"),
        ("c", "c11"),
        ("c++", "c++11"),
        ("c++", "c++20"),
    ] {
        let flags = "-fsyntax-only -Wall -Wextra -Werror -pedantic -x";
        let status = Command::new("cc")
            .args(flags.split(' '))
            .args([
                language,
                &format!("-std={standard}"),
                "-include",
                &header,
                "/dev/null",
            ])
            .status();
        assert!(status.unwrap().success(), "{standard}");
    }
}

#[test]
fn it_is_listed_like_a_plugin_in_rust() {
    let folder = PluginFolder::empty();
    folder.install_file(&c_library("ngram"), "plugin.so");
    let listed = folder.list();
    assert_eq!(listed.ids(), ["org.tenon.ngram-c"]);
    let backend = &listed.0["backends"][0];
    assert_eq!(backend["name"], "N-grams in C");
    assert_eq!(backend["license"], "Apache-2.0");
    assert!(backend["abi"].as_str().unwrap().starts_with("1.0"));
    assert_eq!(backend["devices"], json!(["cpu"]));
}

#[test]
fn it_has_as_few_lines_as_the_guide_says() {
    let source = include_str!("../../../plugins/ngram-c/ngram.c");
    let is_code = |line: &&str| !line.is_empty() && !line.starts_with(['/', '*']);
    let lines = source.lines().map(str::trim).filter(is_code).count();
    assert!(lines <= 250, "{lines} lines of code");
}

/// The guide leaves out the backend, which a fixture has. What the guide defines takes the place of the fixture's own.
#[test]
fn what_the_guide_shows_in_c_is_a_plugin() {
    let guide = include_str!("../../../plugin-api/GUIDE.md");
    let blocks: Vec<_> = guide.split("```c\n").skip(1).collect();
    assert_eq!(blocks.len(), 1, "the test compiles only one");
    let (shown, _) = blocks[0].split_once("```").unwrap();
    let fixture =
        "#define PLUGIN fixture\n#define ENTRY fixture_entry\n#include \"base.h\"\n#undef PLUGIN\n";
    let (sources, plugins) = (tempfile::tempdir().unwrap(), PluginFolder::empty());
    let library = c_library_of(&format!("{fixture}{shown}"), sources.path());
    plugins.install_file(&library, "mine.so");
    let listed = plugins.list();
    assert_eq!(listed.ids(), ["org.example.mine"]);
    assert_eq!(listed.0["backends"][0]["name"], "Mine");
}

#[tokio::test]
async fn it_answers_whole_and_as_a_stream() {
    let (_server, client) = start("");
    let body = json!({"prompt": "one and t", "temperature": 0, "max_tokens": 2});
    let (_, whole) = client.post(PLAIN, &body).await;
    // After ` t` comes `w` or `h`, each once in a line: the smaller id.
    assert_eq!(text(&whole), "hr");
    // The begin token counts.
    assert_eq!(whole["usage"]["prompt_tokens"], 10);
    assert_eq!(client.stream(PLAIN, &body).await.text(), "hr");

    let body = chat("\n", json!({"temperature": 0, "max_tokens": 40}));
    let (_, answer) = client.post(CHAT, &body).await;
    assert_eq!(text(&answer), "one and three.\n\n");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(client.stream(CHAT, &body).await.text(), text(&answer));
}

#[tokio::test]
async fn log_probabilities_are_those_of_its_logits() {
    let (_server, client) = start("");
    let parameters =
        json!({"temperature": 0, "max_tokens": 1, "logprobs": true, "top_logprobs": 3});
    let (_, answer) = client.post(CHAT, &chat("x", parameters)).await;
    let token = &answer["choices"][0]["logprobs"]["content"][0];
    let top = token["top_logprobs"].as_array().unwrap();
    assert_eq!(top.len(), 3);
    assert_eq!(top[0]["token"], token["token"]);
    assert_eq!(top[0]["logprob"], token["logprob"]);
    let logprobs: Vec<f64> = top
        .iter()
        .map(|top| top["logprob"].as_f64().unwrap())
        .collect();
    assert!(logprobs.is_sorted_by(|a, b| a >= b), "{logprobs:?}");
    let mass: f64 = logprobs.iter().map(|logprob| logprob.exp()).sum();
    assert!(mass > 0.0 && mass <= 1.0 + 1e-6, "{mass}");
}

#[tokio::test]
async fn an_answer_obeys_a_schema() {
    let (_server, client) = start("");
    let schema = json!({
        "type": "object",
        "properties": {"colour": {"enum": ["red", "green"]}, "count": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["colour", "count"],
        "additionalProperties": false,
    });
    let format = json!({"type": "json_schema", "json_schema": {"name": "a", "strict": true, "schema": schema}});
    for temperature in [0, 1] {
        let parameters = json!({"temperature": temperature, "seed": 7, "max_tokens": 200, "response_format": format});
        let answer = client.chat("A colour, please", parameters).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert!(
            ["red", "green"]
                .map(Value::from)
                .contains(&answer["colour"]),
            "{answer}"
        );
        assert!(answer["count"].as_u64().unwrap() < 100, "{answer}");
    }
}

#[tokio::test]
async fn a_prefix_is_forked_and_not_computed_again() {
    let (_server, client) = start("");
    let common = "All begin with these words. ".repeat(20);
    let ask = async |end: &str| {
        let prompt = format!("{common}{end}");
        let body = json!({"prompt": prompt, "temperature": 0, "max_tokens": 8});
        let before = client.metric(COMPUTED).await;
        let (_, answer) = client.post(PLAIN, &body).await;
        (
            text(&answer).to_owned(),
            client.metric(COMPUTED).await - before,
        )
    };
    let (_, first) = ask("One").await;
    let (cached, second) = ask("Two").await;
    assert!(first > common.len() as f64, "{first}");
    assert!(second < 40.0, "{second}");
    let (_fresh_server, fresh) = start("");
    let body = json!({"prompt": format!("{common}Two"), "temperature": 0, "max_tokens": 8});
    let (_, alone) = fresh.post(PLAIN, &body).await;
    assert_eq!(text(&alone), cached);
}

#[tokio::test]
async fn a_crowd_gets_what_each_gets_alone() {
    let (_server, client) = start("[engine]\nmax_batch_tokens = 16\n");
    let ask = |number: u32| {
        let client = client.clone();
        async move {
            let prompt = format!("{number} and one and two");
            let parameters =
                json!({"prompt": prompt, "temperature": 1, "seed": number, "max_tokens": 40});
            let (_, answer) = client.post(PLAIN, &parameters).await;
            text(&answer).to_owned()
        }
    };
    let mut alone = Vec::new();
    for number in 0..12 {
        alone.push(ask(number).await);
    }
    assert_eq!(join_all((0..12).map(ask)).await, alone);
    // Seeds give different answers, so equal ones would show that requests were mixed up.
    assert!(alone.iter().any(|answer| *answer != alone[0]));
}

#[tokio::test]
async fn its_embedder_makes_vectors() {
    let mut server = ServerOptions::new(&[])
        .plugin(c_library("embedder"))
        .file("model.any", "")
        .arguments(&["model.any"])
        .start();
    let client = server.client();
    // The bytes of these texts are 0, 0 and 1, 3, 1 modulo 4.
    let answer = embed(&client, json!(["dh", "ace"])).await;
    let (one, two, half) = (0.2_f32.sqrt(), 0.8_f32.sqrt(), 0.5_f32.sqrt());
    check_vector(&answer, 0, [1.0, 0.0, 0.0, 0.0]);
    check_vector(&answer, 1, [0.0, two, 0.0, one]);
    assert_eq!(answer["usage"]["prompt_tokens"], 5);
    let answer = embed(&client, json!([7, 100])).await;
    check_vector(&answer, 0, [half, 0.0, 0.0, half]);

    let (_, model) = client.get("/v1/models/model").await;
    let expected = json!({"dimensions": 4, "max_tokens": 16, "pooling": "sum"});
    assert_eq!(model["embeddings"], expected);
    // More tokens than it takes.
    let body = json!({"input": "a".repeat(17)});
    let (status, answer) = client.post(EMBEDDINGS, &body).await;
    assert_eq!(status, 400, "{answer}");
    assert_eq!(answer["error"]["code"], "context_length_exceeded");
}

/// It is tried out and serves in a sandbox, which lets it read the folder of the plugin.
#[tokio::test]
async fn it_finds_a_library_that_it_brings() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = ServerOptions::new(&[])
        .plugin(c_library_with_its_own(folder.path()))
        .file("model.any", "")
        .arguments(&["model.any"])
        .start();
    let client = server.client();
    let body = json!({"prompt": "a", "temperature": 0, "max_tokens": 3});
    let (_, answer) = client.post(PLAIN, &body).await;
    assert_eq!(text(&answer), "ceg");
}

#[tokio::test]
async fn a_model_without_sessions_makes_vectors_and_no_text() {
    let mut server = ServerOptions::new(&[])
        .plugin(c_library("no-session"))
        .file("model.any", "")
        .arguments(&["model.any"])
        .start();
    let client = server.client();
    let answer = embed(&client, json!(["ace"])).await;
    let (one, two) = (0.2_f32.sqrt(), 0.8_f32.sqrt());
    check_vector(&answer, 0, [0.0, two, 0.0, one]);
    let (status, answer) = client.post(PLAIN, &json!({"prompt": "a"})).await;
    assert_eq!(status, 400, "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    let expected = "the model 'model' generates no text: use it with /v1/embeddings";
    assert_eq!(message, expected);
    assert_eq!(client.metric("tenon_engine_kv_total_tokens").await, 0.0);
}

async fn embed(client: &Client, input: Value) -> Value {
    let (status, answer) = client.post(EMBEDDINGS, &json!({"input": input})).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

#[track_caller]
fn check_vector(answer: &Value, index: usize, expected: [f32; 4]) {
    let found = answer["data"][index]["embedding"].clone();
    let found: [f32; 4] = serde_json::from_value(found).unwrap();
    let mut pairs = found.iter().zip(&expected);
    assert!(
        pairs.all(|(a, b)| (a - b).abs() < 1e-6),
        "{found:?} is not {expected:?}"
    );
}
