//! Grammars together with other features of sequences: several answers, log-probabilities, preemption, errors in mid-stream.

use futures_util::future::join_all;
use regex::Regex;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{Client, Server, ServerOptions, text};

const PLAIN: &str = "/v1/completions";

/// A grammar that forces half of the bytes.
const HALF_FORCED: &str = "(name: [a-z]{2}; size: [0-9]{3}\\.\\n){8}";

#[tokio::test]
async fn every_answer_of_several_obeys_the_grammar() {
    let (_server, client) = start("");
    let whole = Regex::new(&format!("^{HALF_FORCED}$")).unwrap();
    let several = post(&client, &request(json!({"n": 6}))).await;
    let texts: Vec<_> = choices(&several).iter().map(|c| &c["text"]).collect();
    for (at, text) in texts.iter().enumerate() {
        assert!(whole.is_match(text.as_str().unwrap()), "{text}");
        assert!(!texts[..at].contains(text), "{text} twice");
    }
    assert_eq!(texts.len(), 6);
    let alone = post(&client, &request(json!({}))).await;
    assert_eq!(alone["choices"][0]["text"], *texts[0]);
    let best = request(json!({"n": 2, "best_of": 6}));
    for choice in choices(&post(&client, &best).await) {
        assert!(texts.contains(&&choice["text"]));
    }
}

/// Forced tokens have the model's own log-probabilities, not 0: exactly those that the same text has as a prompt.
#[tokio::test]
async fn log_probabilities_are_the_models_own() {
    let (_server, client) = start("");
    let prompt: Vec<u32> = b"Once".iter().copied().map(u32::from).collect();
    let mut body = request(json!({"logprobs": 2}));
    body["prompt"] = json!(prompt);
    let answer = post(&client, &body).await;
    assert!(client.metric("tenon_grammar_forced_tokens_total").await > 50.0);
    let given = &answer["choices"][0]["logprobs"];
    let tokens = text(&answer).bytes().map(u32::from);
    let all: Vec<u32> = prompt.iter().copied().chain(tokens).collect();
    let echo = json!({"prompt": all, "echo": true, "logprobs": 2, "max_tokens": 0});
    let scored = &post(&client, &echo).await["choices"][0]["logprobs"];
    for key in ["tokens", "token_logprobs", "top_logprobs"] {
        let scored = scored[key].as_array().unwrap();
        assert_eq!(given[key], json!(scored[prompt.len()..]), "{key}");
    }
    let logprobs = given["token_logprobs"].as_array().unwrap();
    assert!(logprobs.iter().all(|l| l.as_f64().unwrap() < -1e-3));

    let stream = client.stream(PLAIN, &body).await;
    let streamed = stream.chunks.iter().flat_map(|chunk| {
        let logprobs = &chunk["choices"][0]["logprobs"]["token_logprobs"];
        logprobs.as_array().cloned().unwrap_or_default()
    });
    assert_eq!(json!(streamed.collect::<Vec<_>>()), given["token_logprobs"]);
}

#[tokio::test]
async fn smollm2_scores_forced_tokens_as_it_scores_a_prompt() {
    /// Kernels round differently when a batch has another shape.
    const TOLERANCE: f64 = 0.35;
    let mut server = ServerOptions::smollm2().start();
    let client = server.client();
    let prompt = "The capital of France is";
    let body = json!({
        "prompt": prompt, "temperature": 0, "logprobs": 0, "max_tokens": 40,
        "grammar": {"type": "regex", "value": " (Rome|Paris), which everybody knows well\\."},
    });
    let answer = post(&client, &body).await;
    assert_eq!(text(&answer), " Paris, which everybody knows well.");
    let given = &answer["choices"][0]["logprobs"];
    let echo = json!({"prompt": format!("{prompt}{}", text(&answer)), "echo": true, "logprobs": 0, "max_tokens": 0});
    let scored = &post(&client, &echo).await["choices"][0]["logprobs"];
    let last = |value: &Value| {
        let count = given["tokens"].as_array().unwrap().len();
        let value = value.as_array().unwrap();
        value[value.len() - count..].to_vec()
    };
    assert_eq!(last(&scored["tokens"]), last(&given["tokens"]));
    let pairs = last(&scored["token_logprobs"])
        .into_iter()
        .zip(last(&given["token_logprobs"]));
    for (scored, given) in pairs {
        let (scored, given) = (scored.as_f64().unwrap(), given.as_f64().unwrap());
        assert!((scored - given).abs() < TOLERANCE, "{scored} {given}");
    }
}

#[tokio::test]
async fn a_preempted_sequence_goes_on_at_its_place_in_the_grammar() {
    let schema = json!({
        "type": "object",
        "properties": {"a_long_key_that_is_forced": {"type": "string", "pattern": "^[a-z ]{60,80}$"}, "list": {
            "type": "array", "items": {"enum": ["one of them", "another one"]}, "minItems": 8, "maxItems": 12,
        }},
        "required": ["a_long_key_that_is_forced", "list"], "additionalProperties": false,
    });
    let grammars = [
        json!({"type": "regex", "value": format!("{HALF_FORCED}[ab]{{40}}")}),
        json!({"type": "json_schema", "value": schema}),
    ];
    // Ten answers of 150 to 300 tokens.
    let bodies: Vec<_> = (0..10)
        .map(|at| {
            let fields = json!({"grammar": grammars[at % 2], "seed": at, "logprobs": at % 3});
            let mut body = request(fields);
            if at % 3 == 0 {
                body.as_object_mut().unwrap().remove("logprobs");
            }
            body
        })
        .collect();
    let (_roomy, roomy) = start("");
    let mut expected = Vec::new();
    for body in &bodies {
        expected.push(post(&roomy, body).await["choices"].clone());
    }
    assert_eq!(roomy.metric("tenon_engine_preemptions_total").await, 0.0);

    let (_narrow, narrow) = start("[engine]\nkv_tokens = 600\ncontext_length = 600\n");
    let answers = join_all(bodies.iter().map(|body| post(&narrow, body))).await;
    for (answer, expected) in answers.iter().zip(&expected) {
        assert_eq!(answer["choices"], *expected);
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    }
    assert!(narrow.metric("tenon_engine_preemptions_total").await > 0.0);
}

/// Masks of this grammar take longer and longer.
#[tokio::test]
async fn a_stream_whose_grammar_gets_too_slow_ends_with_an_error() {
    let (_server, client) = start("[grammar]\nmax_items = 1000\n");
    let grammar = json!({"type": "lark", "value": "start: e{200}\ne: \"a\" | \"b\" | e e"});
    let stream = client
        .stream(PLAIN, &request(json!({"grammar": grammar})))
        .await;
    assert!(stream.done);
    let (last, chunks) = stream.chunks.split_last().unwrap();
    let message = last["error"]["message"].as_str().unwrap();
    assert!(message.contains("Too many items"), "{message}");
    assert!(!chunks.is_empty());
    assert!(chunks.iter().all(|chunk| chunk.get("error").is_none()));
    // Other requests are not affected.
    let answer = post(&client, &request(json!({}))).await;
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn a_compilation_that_nobody_waits_for_ends_and_makes_room() {
    let (_server, client) = start("[grammar]\ncompile_timeout_ms = 1\ncompile_threads = 1\n");
    let words: Vec<_> = (0..20_000).map(|at| format!("word {at}")).collect();
    let large =
        json!({"type": "json_schema", "value": {"type": "array", "items": {"enum": words}}});
    let (status, answer) = client
        .post(PLAIN, &request(json!({"grammar": large})))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    client
        .wait_for_metric("tenon_grammar_compile_seconds_count", 1.0)
        .await;
}

fn start(config: &str) -> (Server, Client) {
    let mut server = ServerOptions::echo(0).config(config).start();
    let client = server.client();
    (server, client)
}

/// A request whose logits are pseudo-random.
fn request(fields: Value) -> Value {
    let mut body = json!({
        "prompt": "Once", "temperature": 1, "seed": 3, "max_tokens": 500,
        "grammar": {"type": "regex", "value": HALF_FORCED},
    });
    for (key, value) in fields.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

async fn post(client: &Client, body: &Value) -> Value {
    let (status, answer) = client.post(PLAIN, body).await;
    assert_eq!(status, StatusCode::OK, "{body}: {answer}");
    answer
}

fn choices(answer: &Value) -> &[Value] {
    answer["choices"].as_array().unwrap()
}
