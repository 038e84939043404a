//! `/v1/embeddings`: vectors of texts, from SmolLM2 through each real backend.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{Backend, Client, Server, ServerOptions, smollm2, with_every_backend};

const EMBEDDINGS: &str = "/v1/embeddings";
const SKY: &str = "The sky is blue.";

with_every_backend!([
    embeds_all_forms_of_input,
    embeddings_tell_meanings_apart,
    embeddings_are_shortened_and_written_as_asked,
    refuses_what_cannot_be_embedded,
]);

/// Starts a server with a context of this many tokens.
fn start(backend: Backend, context_length: u32) -> (Server, Client) {
    backend.serve_smollm2(&format!(
        "id = 'smollm2'\ncontext_length = {context_length}"
    ))
}

async fn embed(client: &Client, body: Value) -> Value {
    let (status, answer) = client.post(EMBEDDINGS, &body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer
}

/// The vector of one input of an answer.
fn vector(answer: &Value, index: usize) -> Vec<f64> {
    let embedding = &answer["data"][index];
    assert_eq!(embedding["index"], index);
    let numbers = embedding["embedding"].as_array().unwrap();
    numbers.iter().map(|x| x.as_f64().unwrap()).collect()
}

/// The cosine of two vectors of length 1.
fn cosine(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Compares vectors with a tolerance: kernels round differently in batches of other sizes.
#[track_caller]
fn check_same(a: &[f64], b: &[f64]) {
    let cosine = cosine(a, b);
    assert!((0.999..1.001).contains(&cosine), "{cosine}");
}

async fn embeds_all_forms_of_input(backend: Backend) {
    let (_server, client) = start(backend, 1024);
    let one = embed(&client, json!({"input": SKY})).await;
    let sky = vector(&one, 0);
    assert_eq!((&one["object"], sky.len()), (&json!("list"), 576));
    check_same(&sky, &sky);

    let (_, tokens) = client.post("/tokenize", &json!({"content": SKY})).await;
    let (tokens, count) = (&tokens["tokens"], tokens["count"].as_u64().unwrap());
    let usage = |count: u64| json!({"prompt_tokens": count, "total_tokens": count});
    assert_eq!(one["usage"], usage(count));
    for input in [json!([SKY]), json!(tokens), json!([tokens])] {
        let answer = embed(&client, json!({"input": input})).await;
        check_same(&vector(&answer, 0), &sky);
    }

    // A long text that is cut into batches, with short texts around it. Each gets the same vector as alone.
    let long = "A word and another. ".repeat(60);
    let alone = embed(&client, json!({"input": long})).await;
    let crowd: Vec<&str> = [SKY; 40].into_iter().chain([&*long, SKY]).collect();
    let answer = embed(&client, json!({"input": crowd})).await;
    check_same(&vector(&answer, 39), &sky);
    check_same(&vector(&answer, 40), &vector(&alone, 0));
    check_same(&vector(&answer, 41), &sky);
    let long_count = alone["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(answer["usage"], usage(41 * count + long_count));
}

async fn embeddings_tell_meanings_apart(backend: Backend) {
    let (_server, client) = start(backend, 1024);
    let texts = [
        "A cat sleeps on the sofa.",
        "A kitten is sleeping on the couch.",
        "The stock market fell by three percent.",
    ];
    let answer = embed(&client, json!({"input": texts})).await;
    let [cat, kitten, market] = [0, 1, 2].map(|index| vector(&answer, index));
    assert!(cosine(&cat, &kitten) > cosine(&cat, &market));
}

async fn embeddings_are_shortened_and_written_as_asked(backend: Backend) {
    let (_server, client) = start(backend, 1024);
    let whole = vector(&embed(&client, json!({"input": SKY})).await, 0);
    let short = embed(&client, json!({"input": SKY, "dimensions": 16})).await;
    let short = vector(&short, 0);
    check_same(&short, &short);
    let scale = whole[..16].iter().map(|x| x * x).sum::<f64>().sqrt();
    let expected: Vec<f64> = whole[..16].iter().map(|x| x / scale).collect();
    check_same(&short, &expected);
    let body = json!({"input": SKY, "dimensions": 16, "encoding_format": "base64", "user": "me"});
    let answer = embed(&client, body).await;
    let text = answer["data"][0]["embedding"].as_str().unwrap();
    // 64 bytes in base64.
    assert_eq!(text.len(), 88);
}

async fn refuses_what_cannot_be_embedded(backend: Backend) {
    let (_server, client) = start(backend, 64);
    for (body, param, code) in [
        (json!({}), Some("input"), None),
        (json!({"input": ""}), Some("input"), None),
        (json!({"input": []}), Some("input"), None),
        (json!({"input": ["a", ""]}), Some("input"), None),
        (json!({"input": [999_999]}), Some("input"), None),
        (json!({"input": {"text": "a"}}), Some("input"), None),
        (
            json!({"input": "a", "dimensions": 577}),
            Some("dimensions"),
            None,
        ),
        (
            json!({"input": "a", "encoding_format": "hex"}),
            Some("encoding_format"),
            None,
        ),
        (
            json!({"input": "a ".repeat(65)}),
            None,
            Some("context_length_exceeded"),
        ),
    ] {
        let (status, answer) = client.post(EMBEDDINGS, &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}: {answer}");
        assert_eq!(answer["error"]["param"].as_str(), param, "{answer}");
        assert_eq!(answer["error"]["code"].as_str(), code, "{answer}");
    }
    let (_, model) = client.get("/v1/models/smollm2").await;
    let expected = json!({"dimensions": 576, "max_tokens": 64, "pooling": "mean"});
    assert_eq!(model["embeddings"], expected);
}

#[tokio::test]
async fn a_model_without_embeddings_says_so() {
    let mut server = ServerOptions::echo(0).start();
    let client = server.client();
    let (status, answer) = client.post(EMBEDDINGS, &json!({"input": "a"})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(answer["error"]["param"], "model");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("embeddings"), "{message}");
    let (_, model) = client.get("/v1/models/echo").await;
    assert_eq!(model["embeddings"], Value::Null);
}

/// While one client has many texts, another client still gets a few texts through.
#[tokio::test]
async fn clients_of_smollm2_take_turns() {
    let config = "[server]\napi_keys = ['a', 'b']\n";
    let library = Backend::CandleQuantized.library();
    let model = smollm2();
    let mut server = ServerOptions::new(&[library])
        .config(config)
        .arguments(&[&model.to_string_lossy(), "--threads", "1"])
        .start();
    let client = server.client();
    let texts: Vec<_> = (0..200)
        .map(|number| format!("{SKY} {SKY} {number}"))
        .collect();
    let many = {
        let client = client.with_key("a");
        tokio::spawn(async move { embed(&client, json!({"input": texts})).await })
    };
    // All but the first of these answers come while the first client's texts are still being embedded.
    for _ in 0..5 {
        embed(&client.with_key("b"), json!({"input": SKY})).await;
    }
    assert!(!many.is_finished());
    many.await.unwrap();
}
