//! Several answers to a request: their number, their order, and their randomness.

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{Client, Server, ServerOptions, chat};

const CHAT: &str = "/v1/chat/completions";
const PLAIN: &str = "/v1/completions";

#[tokio::test]
async fn each_answer_has_its_index_and_the_prompt_counts_once() {
    let (_server, client) = start();
    let answer = post(&client, CHAT, chat("Hi", json!({"n": 3, "temperature": 0}))).await;
    for (index, choice) in choices(&answer).iter().enumerate() {
        assert_eq!(choice["index"], index);
        assert_eq!(choice["message"]["content"], "Hi");
    }
    assert_eq!(choices(&answer).len(), 3);
    let usage = json!({
        "prompt_tokens": 6, "completion_tokens": 6, "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 0},
    });
    assert_eq!(answer["usage"], usage);
}

#[tokio::test]
async fn answers_differ_and_a_seed_gives_the_same_ones_again() {
    let (_server, client) = start();
    let answers = texts(&client, sampled(json!({"n": 4, "seed": 7}))).await;
    for (at, answer) in answers.iter().enumerate() {
        assert!(!answers[..at].contains(answer), "{answers:?}");
    }
    assert_eq!(
        texts(&client, sampled(json!({"n": 4, "seed": 7}))).await,
        answers
    );
    // A request for one answer gets the first of them.
    assert_eq!(
        texts(&client, sampled(json!({"seed": 7}))).await,
        answers[..1]
    );
    let other = texts(&client, sampled(json!({"n": 4, "seed": 8}))).await;
    assert!(other.iter().all(|text| !answers.contains(text)));
}

#[tokio::test]
async fn a_crowd_gets_the_answers_that_one_gets() {
    let (_server, client) = start();
    let request = || texts(&client, sampled(json!({"n": 5, "seed": 7})));
    let alone = request().await;
    for together in join_all((0..4).map(|_| request())).await {
        assert_eq!(together, alone);
    }
}

#[tokio::test]
async fn a_stream_has_the_answers_of_a_whole_reply() {
    let (_server, client) = start();
    let body = sampled(json!({"n": 3, "seed": 7, "stream_options": {"include_usage": true}}));
    let mut whole = body.clone();
    whole.as_object_mut().unwrap().remove("stream_options");
    let expected = texts(&client, whole).await;

    let stream = client.stream(PLAIN, &body).await;
    let (last, chunks) = stream.chunks.split_last().unwrap();
    let mut streamed = vec![String::new(); 3];
    let mut finished = vec![0; 3];
    for chunk in chunks {
        let [choice] = choices(chunk) else {
            panic!("{chunk}");
        };
        let index = choice["index"].as_u64().unwrap() as usize;
        assert_eq!(finished[index], 0, "{chunk}");
        streamed[index] += choice["text"].as_str().unwrap();
        finished[index] += usize::from(!choice["finish_reason"].is_null());
    }
    assert_eq!(streamed, expected);
    assert_eq!(finished, [1, 1, 1]);
    assert_eq!(last["usage"]["prompt_tokens"], 10);
    assert_eq!(last["usage"]["completion_tokens"], 36);
}

#[tokio::test]
async fn each_answer_of_a_chat_stream_begins_with_its_role() {
    let (_server, client) = start();
    let stream = client.stream(CHAT, &chat("Hi", json!({"n": 2}))).await;
    for index in 0..2 {
        let mut own = stream.chunks.iter().map(|chunk| &chunk["choices"][0]);
        let first = own.find(|choice| choice["index"] == index).unwrap();
        assert_eq!(first["delta"], json!({"role": "assistant", "content": ""}));
        assert!(
            own.all(|choice| choice["delta"].get("role").is_none() || choice["index"] != index)
        );
    }
}

#[tokio::test]
async fn each_form_of_several_prompts_gives_answers_in_their_order() {
    let (_server, client) = start();
    let prompt = |word: &str| format!("<|user|>{word}<|end|><|assistant|>");
    let tokens = |word: &str| {
        let word = word.bytes().map(u32::from);
        let tokens = [256, 258].into_iter().chain(word).chain([257, 259]);
        tokens.collect::<Vec<u32>>()
    };
    for prompts in [
        json!([prompt("one"), prompt("two")]),
        json!([tokens("one"), tokens("two")]),
    ] {
        let body = json!({"prompt": prompts, "n": 2, "temperature": 0});
        let answer = post(&client, PLAIN, body).await;
        let texts: Vec<_> = choices(&answer)
            .iter()
            .map(|c| c["text"].as_str().unwrap())
            .collect();
        assert_eq!(texts, ["one", "one", "two", "two"]);
        assert_eq!(choices(&answer)[3]["index"], 3);
        assert_eq!(answer["usage"]["prompt_tokens"], 14);
    }
    let body = json!({"prompt": tokens("one"), "temperature": 0});
    assert_eq!(texts(&client, body).await, ["one"]);
}

#[tokio::test]
async fn the_best_answers_are_the_likeliest() {
    let (_server, client) = start();
    let all = post(
        &client,
        PLAIN,
        sampled(json!({"n": 6, "seed": 3, "logprobs": 0})),
    )
    .await;
    let mean = |choice: &Value| {
        let logprobs = choice["logprobs"]["token_logprobs"].as_array().unwrap();
        let sum: f64 = logprobs.iter().map(|l| l.as_f64().unwrap()).sum();
        sum / logprobs.len() as f64
    };
    let mut expected: Vec<_> = choices(&all).iter().collect();
    expected.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
    let best = post(
        &client,
        PLAIN,
        sampled(json!({"n": 2, "best_of": 6, "seed": 3})),
    )
    .await;
    for (choice, expected) in choices(&best).iter().zip(expected) {
        assert_eq!(choice["text"], expected["text"]);
        assert_eq!(choice["logprobs"], json!(null));
    }
    assert_eq!(choices(&best).len(), 2);
    for key in ["prompt_tokens", "completion_tokens"] {
        assert_eq!(best["usage"][key], all["usage"][key]);
    }
}

#[tokio::test]
async fn what_the_fingerprint_stands_for_does_not_change() {
    let (_server, client) = start();
    let fingerprint = post(&client, PLAIN, sampled(json!({}))).await["system_fingerprint"].clone();
    assert!(fingerprint.as_str().unwrap().starts_with("fp_"));
    let (_again, client) = start();
    let stream = client.stream(CHAT, &chat("Hi", json!({}))).await;
    for chunk in &stream.chunks {
        assert_eq!(chunk["system_fingerprint"], fingerprint);
    }
}

fn start() -> (Server, Client) {
    let mut server = ServerOptions::echo(0).start();
    let client = server.client();
    (server, client)
}

/// A request for twelve random tokens. They are only letters, so that each is a character.
fn sampled(mut fields: Value) -> Value {
    fields["prompt"] = json!("Some text");
    fields["max_tokens"] = json!(12);
    if fields.get("logit_bias").is_none() {
        let letters = (b'a'..=b'z').map(|letter| (letter.to_string(), json!(50)));
        fields["logit_bias"] = Value::Object(letters.collect());
    }
    fields
}

async fn post(client: &Client, path: &str, body: Value) -> Value {
    let (status, answer) = client.post(path, &body).await;
    assert_eq!(status, StatusCode::OK, "{body}: {answer}");
    answer
}

fn choices(answer: &Value) -> &[Value] {
    answer["choices"].as_array().unwrap()
}

async fn texts(client: &Client, body: Value) -> Vec<String> {
    let answer = post(client, PLAIN, body).await;
    let texts = choices(&answer)
        .iter()
        .map(|choice| choice["text"].as_str().unwrap().to_owned());
    texts.collect()
}
