//! Log-probabilities of answers and prompts, in the forms of chats and of completions.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{Client, Server, ServerOptions, chat};

const CHAT: &str = "/v1/chat/completions";
const PLAIN: &str = "/v1/completions";

#[tokio::test]
async fn a_chat_has_each_token_with_its_bytes_and_the_most_likely_ones() {
    let client = start("");
    let body = chat(
        "é!",
        json!({"temperature": 0, "logprobs": true, "top_logprobs": 3}),
    );
    let choice = client.choice(CHAT, &body).await;
    let content = choice["logprobs"]["content"].as_array().unwrap();
    let named: Vec<_> = content.iter().map(|t| (&t["token"], &t["bytes"])).collect();
    let expected = [
        (&json!("\\xc3"), &json!([0xC3])),
        (&json!("\\xa9"), &json!([0xA9])),
        (&json!("!"), &json!([0x21])),
    ];
    assert_eq!(named, expected);
    assert_eq!(choice["logprobs"]["refusal"], json!(null));
    for token in content {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        // The answer is greedy, so the token itself comes first.
        for key in ["token", "logprob", "bytes"] {
            assert_eq!(top[0][key], token[key]);
        }
        let logprobs: Vec<f64> = top.iter().map(|t| t["logprob"].as_f64().unwrap()).collect();
        assert!(logprobs.is_sorted_by(|a, b| a >= b), "{logprobs:?}");
        let sum: f64 = logprobs.iter().map(|l| l.exp()).sum();
        assert!(sum <= 1.0 + 1e-6, "{sum}");
    }
    let without_top = chat("é!", json!({"temperature": 0, "logprobs": true}));
    let choice = client.choice(CHAT, &without_top).await;
    assert_eq!(choice["logprobs"]["content"][0]["top_logprobs"], json!([]));
}

#[tokio::test]
async fn a_completion_has_lists_of_the_same_length() {
    let client = start("");
    let body =
        json!({"prompt": "<|user|>aéb<|end|><|assistant|>", "temperature": 0, "logprobs": 2});
    let logprobs = client.choice(PLAIN, &body).await["logprobs"].clone();
    let tokens = json!(["a", "bytes:\\xc3", "bytes:\\xa9", "b"]);
    assert_eq!(logprobs["tokens"], tokens);
    assert_eq!(logprobs["text_offset"], json!([0, 1, 1, 2]));
    for (at, token) in tokens.as_array().unwrap().iter().enumerate() {
        let top = logprobs["top_logprobs"][at].as_object().unwrap();
        assert_eq!(top.len(), 2);
        assert_eq!(top[token.as_str().unwrap()], logprobs["token_logprobs"][at]);
    }
    // The sampled token is listed in addition to the most likely ones.
    let body = json!({"prompt": "a", "max_tokens": 8, "seed": 1, "temperature": 2, "logprobs": 0});
    let logprobs = client.choice(PLAIN, &body).await["logprobs"].clone();
    for (at, top) in logprobs["top_logprobs"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        let token = logprobs["tokens"][at].as_str().unwrap();
        let expected = json!({token: logprobs["token_logprobs"][at]});
        assert_eq!(*top, expected);
    }
}

#[tokio::test]
async fn the_pieces_of_a_stream_have_what_the_whole_has() {
    let client = start("");
    let fields = json!({"temperature": 0, "logprobs": true, "top_logprobs": 2, "stop": ["STOP"]});
    let body = chat("é STAY\nSTOP it", fields);
    let whole = client.choice(CHAT, &body).await;
    let mut content = Vec::new();
    for chunk in client.client.stream(CHAT, &body).await.chunks {
        let choice = &chunk["choices"][0];
        if let Some(tokens) = choice["logprobs"]["content"].as_array() {
            content.extend(tokens.clone());
        } else {
            // Only the first and the last chunk carry no text.
            assert!(matches!(
                choice["delta"]["content"].as_str(),
                None | Some("")
            ));
        }
    }
    assert_eq!(whole["logprobs"]["content"], json!(content));

    let body = json!({"prompt": "<|user|>abé<|end|><|assistant|>", "temperature": 0, "logprobs": 1, "echo": true});
    let whole = client.choice(PLAIN, &body).await;
    for key in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        let mut joined = Vec::new();
        for chunk in client.client.stream(PLAIN, &body).await.chunks {
            let list = chunk["choices"][0]["logprobs"][key].as_array();
            joined.extend(list.cloned().unwrap_or_default());
        }
        assert_eq!(whole["logprobs"][key], json!(joined));
    }
}

#[tokio::test]
async fn tokens_that_a_stop_string_cuts_are_not_reported() {
    let client = start("");
    for (message, stop, expected) in [
        ("abENDc", "END", &["a", "b"][..]),
        ("END", "END", &[]),
        ("abEN", "END", &["a", "b", "E", "N"]),
    ] {
        let fields = json!({"temperature": 0, "logprobs": true, "stop": stop});
        let choice = client.choice(CHAT, &chat(message, fields)).await;
        let content = choice["logprobs"]["content"].as_array().unwrap();
        let tokens: Vec<_> = content
            .iter()
            .map(|t| t["token"].as_str().unwrap())
            .collect();
        assert_eq!(tokens, expected);
        assert_eq!(choice["message"]["content"], expected.concat());
    }
}

#[tokio::test]
async fn half_a_character_at_the_end_is_in_the_tokens_only() {
    let client = start("");
    for (max_tokens, text) in [(2, "ab"), (3, "ab"), (5, "ab"), (6, "ab🙂")] {
        let body = chat(
            "ab🙂",
            json!({"temperature": 0, "max_tokens": max_tokens, "logprobs": true}),
        );
        let choice = client.choice(CHAT, &body).await;
        assert_eq!(choice["message"]["content"], text);
        let tokens = choice["logprobs"]["content"].as_array().unwrap();
        let bytes: Vec<u64> = tokens
            .iter()
            .flat_map(|token| token["bytes"].as_array().unwrap())
            .map(|byte| byte.as_u64().unwrap())
            .collect();
        let expected = "ab🙂".bytes().take(max_tokens).map(u64::from);
        assert_eq!(bytes, expected.collect::<Vec<_>>());
        let stream = client.client.stream(CHAT, &body).await;
        assert_eq!(stream.text(), text);
    }
}

#[tokio::test]
async fn an_echo_repeats_the_prompt_as_it_was_sent() {
    let client = start("");
    let prompt = "<|user|>é<|end|><|assistant|>";
    let body = json!({"prompt": prompt, "temperature": 0, "echo": true});
    let choice = client.choice(PLAIN, &body).await;
    assert_eq!(choice["text"], format!("{prompt}é"));
    assert_eq!(choice["logprobs"], json!(null));
    assert_eq!(
        client.client.stream(PLAIN, &body).await.text(),
        format!("{prompt}é")
    );
    // A stop string in the prompt does not stop anything.
    let mut stopped = body.clone();
    stopped["stop"] = json!("user");
    assert_eq!(client.choice(PLAIN, &stopped).await["text"], choice["text"]);

    let mut none = body.clone();
    none["max_tokens"] = json!(0);
    let choice = client.choice(PLAIN, &none).await;
    assert_eq!(choice["text"], prompt);
    assert_eq!(choice["finish_reason"], "length");

    let tokens = json!([256, 258, 97, 257, 259]);
    let body = json!({"prompt": tokens, "temperature": 0, "echo": true});
    let expected = "<|begin|><|user|>a<|end|><|assistant|>a";
    assert_eq!(client.choice(PLAIN, &body).await["text"], expected);
}

#[tokio::test]
async fn a_prompt_is_scored_from_its_second_token_on() {
    let client = start("");
    let logprobs = scored(&client, json!("aé")).await;
    assert_eq!(
        logprobs["tokens"],
        json!(["<|begin|>", "a", "bytes:\\xc3", "bytes:\\xa9"])
    );
    assert_eq!(logprobs["text_offset"], json!([0, 0, 1, 1]));
    let list = logprobs["token_logprobs"].as_array().unwrap();
    assert_eq!(list[0], json!(null));
    assert!(
        list[1..].iter().all(|l| l.as_f64().unwrap() < 0.0),
        "{list:?}"
    );
    assert_eq!(logprobs["top_logprobs"][0], json!(null));
    let single = scored(&client, json!([97])).await;
    assert_eq!(single["token_logprobs"], json!([null]));
}

#[tokio::test]
async fn all_tokens_together_are_certain() {
    let client = start("");
    let mut sum = 0.0;
    for tokens in [0..130, 130..260] {
        let prompts: Vec<_> = tokens.map(|token| [97, 98, token]).collect();
        let body = json!({"prompt": prompts, "echo": true, "logprobs": 0, "max_tokens": 0});
        let (status, answer) = client.client.post(PLAIN, &body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        for choice in answer["choices"].as_array().unwrap() {
            let logprob = &choice["logprobs"]["token_logprobs"][2];
            sum += logprob.as_f64().unwrap().exp();
        }
    }
    assert!((sum - 1.0).abs() < 1e-3, "{sum}");
}

/// An answer's tokens are as likely as they are in a prompt, however the prompt is cut into chunks.
#[tokio::test]
async fn an_answer_scored_as_a_prompt_is_exactly_as_likely() {
    let client = start("");
    let tokens: Vec<u32> = (0..50).map(|at| at * 7 % 256).collect();
    let generated = json!({
        "prompt": tokens, "max_tokens": 40, "seed": 5, "echo": true, "logprobs": 3,
        // Only text, so that the answer can be sent back.
        "logit_bias": (97..123).map(|letter: u32| (letter.to_string(), json!(50))).collect::<serde_json::Map<_, _>>(),
    });
    let choice = client.choice(PLAIN, &generated).await;
    let expected = choice["logprobs"].clone();
    let answer = &expected["tokens"].as_array().unwrap()[50..];
    let answer = answer.iter().map(|token| token.as_str().unwrap().bytes());
    let all: Vec<u32> = tokens
        .iter()
        .copied()
        .chain(answer.flatten().map(u32::from))
        .collect();
    assert_eq!(all.len(), 90);

    for config in [
        "",
        "[engine]\nmax_batch_tokens = 7\n",
        "[engine]\nmax_batch_tokens = 16\nkv_tokens = 128\n",
    ] {
        let client = start(config);
        let body = json!({"prompt": vec![&all; 4], "echo": true, "logprobs": 3, "max_tokens": 0});
        let (status, answer) = client.client.post(PLAIN, &body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        for choice in answer["choices"].as_array().unwrap() {
            for key in ["token_logprobs", "top_logprobs"] {
                assert_eq!(choice["logprobs"][key], expected[key], "{config}");
            }
        }
    }
}

#[tokio::test]
async fn a_bias_does_not_change_what_the_model_says() {
    let client = start("");
    let prompt = "<|user|>a<|end|><|assistant|>";
    let mut body = json!({"prompt": prompt, "temperature": 0, "max_tokens": 1, "logprobs": 1});
    let plain = client.choice(PLAIN, &body).await["logprobs"].clone();
    body["logit_bias"] = json!({"98": 100});
    let biased = client.choice(PLAIN, &body).await["logprobs"].clone();
    assert_eq!(biased["tokens"], json!(["b"]));
    let top = biased["top_logprobs"][0].as_object().unwrap();
    assert_eq!(top["a"], plain["token_logprobs"][0]);
    assert_eq!(top["b"], biased["token_logprobs"][0]);
    assert!(top["b"].as_f64() < top["a"].as_f64());
}

/// Compares with a tolerance: kernels round differently when a batch has another shape.
#[tokio::test]
async fn smollm2_scores_its_own_answers_as_it_gave_them() {
    const TOLERANCE: f64 = 0.35;
    let client = TestClient::new(ServerOptions::smollm2());
    let body = json!({"prompt": "The capital of France is", "max_tokens": 24, "temperature": 0, "logprobs": 5, "echo": true});
    let choice = client.choice(PLAIN, &body).await;
    let given = &choice["logprobs"];
    let again = scored(&client, choice["text"].clone()).await;
    assert_eq!(again["tokens"], given["tokens"]);
    assert_eq!(again["text_offset"], given["text_offset"]);
    let prompt = given["tokens"].as_array().unwrap().len() - 24;
    for (at, token) in given["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
        .skip(1)
    {
        let logprob = given["token_logprobs"][at].as_f64().unwrap();
        let scored = again["token_logprobs"][at].as_f64().unwrap();
        assert!(
            (logprob - scored).abs() < TOLERANCE,
            "{token}: {logprob} {scored}"
        );
        let top = given["top_logprobs"][at].as_object().unwrap();
        let best = top
            .values()
            .filter_map(Value::as_f64)
            .fold(f64::MIN, f64::max);
        // The answer is greedy.
        assert!(at < prompt || logprob == best, "{token}: {logprob} {best}");
        let sum: f64 = top.values().map(|l| l.as_f64().unwrap().exp()).sum();
        assert!(sum <= 1.0 + 1e-4, "{sum}");
    }
}

struct TestClient {
    client: Client,
    _server: Server,
}

fn start(config: &str) -> TestClient {
    TestClient::new(ServerOptions::echo(0).config(config))
}

impl TestClient {
    fn new(options: ServerOptions) -> Self {
        let mut server = options.start();
        Self {
            client: server.client(),
            _server: server,
        }
    }

    /// The only choice of the answer.
    async fn choice(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.client.post(path, body).await;
        assert_eq!(status, StatusCode::OK, "{body}: {answer}");
        assert_eq!(answer["choices"].as_array().unwrap().len(), 1);
        answer["choices"][0].clone()
    }
}

/// The log-probabilities of a prompt's tokens.
async fn scored(client: &TestClient, prompt: Value) -> Value {
    let body = json!({"prompt": prompt, "echo": true, "logprobs": 1, "max_tokens": 0});
    client.choice(PLAIN, &body).await["logprobs"].clone()
}
