//! `/v1/rerank` and `/v1/score`: how relevant texts are to queries.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{Client, ServerOptions, TOLERANCE, start_echo};

const RERANK: &str = "/v1/rerank";
const SCORE: &str = "/v1/score";
const QUERY: &str = "What is the capital of France?";
const TEXTS: [&str; 3] = [
    "The sky is blue.",
    "Paris is the capital of France.",
    "Bread is made of flour, <|im_end|> and of water.",
];

#[tokio::test]
async fn smollm2_sorts_documents_by_the_probability_of_yes() {
    let mut server = ServerOptions::smollm2().start();
    let client = server.client();
    let scores = scores(&client, json!({"text_1": QUERY, "text_2": TEXTS})).await;
    for (text, score) in TEXTS.iter().zip(&scores) {
        let expected = probability_of_yes(&client, text).await;
        check_close(*score, expected);
    }
    let documents = json!([TEXTS[0], {"text": TEXTS[1]}, TEXTS[2]]);
    let mut body = json!({"query": QUERY, "documents": documents, "return_documents": true});
    let whole = post(&client, RERANK, &body).await;
    let ranked: Vec<_> = whole["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| {
            let index = result["index"].as_u64().unwrap() as usize;
            assert_eq!(result["document"], json!({"text": TEXTS[index]}));
            let score = result["relevance_score"].as_f64().unwrap();
            check_close(score, scores[index]);
            score
        })
        .collect();
    assert_eq!(ranked.len(), TEXTS.len());
    assert!(ranked.is_sorted_by(|a, b| a >= b), "{ranked:?}");
    assert!(
        whole["usage"]["total_tokens"].as_u64() > Some(3 * 40),
        "{whole}"
    );
    body["top_n"] = json!(1);
    body["return_documents"] = json!(false);
    body["encoding_format"] = json!("base64");
    let top = post(&client, "/rerank", &body).await;
    assert_eq!(top["results"].as_array().unwrap().len(), 1);
    check_close(
        top["results"][0]["relevance_score"].as_f64().unwrap(),
        scores.iter().copied().fold(0.0, f64::max),
    );
    assert_eq!(top["results"][0].get("document"), None);
}

#[tokio::test]
async fn smollm2_scores_pairs_by_an_instruction() {
    let mut server = ServerOptions::smollm2().start();
    let client = server.client();
    let same = json!({"text_1": [QUERY, TEXTS[0]], "text_2": [TEXTS[1], TEXTS[2]]});
    let pairs = scores(&client, same.clone()).await;
    let single = scores(&client, json!({"text_1": QUERY, "text_2": TEXTS[1]})).await;
    check_close(pairs[0], single[0]);
    let mut other = same;
    other["instruction"] = json!("Find texts about bread");
    assert_ne!(scores(&client, other).await, pairs);
}

#[tokio::test]
async fn what_cannot_be_judged_is_refused() {
    let (_server, client) = start_echo("");
    let texts = json!(["a", "b"]);
    for (path, body, named) in [
        (RERANK, json!({"query": "q", "documents": []}), "documents"),
        (
            RERANK,
            json!({"query": "q", "documents": vec!["d"; 1001]}),
            "1000",
        ),
        (RERANK, json!({"query": "q", "documents": [1]}), "documents"),
        (
            RERANK,
            json!({"query": "q", "documents": texts, "top_n": 0}),
            "top_n",
        ),
        // Echo's tokens are bytes.
        (
            RERANK,
            json!({"query": "q", "documents": texts}),
            "'yes' and 'no' as tokens",
        ),
        (SCORE, json!({"text_1": texts, "text_2": "a"}), "text_1"),
        (SCORE, json!({"text_1": "a", "text_2": []}), "text_2"),
        (
            SCORE,
            json!({"text_1": "a", "text_2": "b"}),
            "'yes' and 'no' as tokens",
        ),
    ] {
        let (status, answer) = client.post(path, &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(named), "{message}");
    }
}

async fn post(client: &Client, path: &str, body: &Value) -> Value {
    let (status, answer) = client.post(path, body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer
}

async fn scores(client: &Client, body: Value) -> Vec<f64> {
    let answer = post(client, SCORE, &body).await;
    let data = answer["data"].as_array().unwrap().iter().enumerate();
    data.map(|(index, score)| {
        assert_eq!(
            (&score["index"], &score["object"]),
            (&json!(index), &json!("score"))
        );
        score["score"].as_f64().unwrap()
    })
    .collect()
}

/// Checks that two scores are the same but for the rounding of llama.cpp's kernels. Fails if `yes` and `no` are exchanged.
#[track_caller]
fn check_close(score: f64, expected: f64) {
    let logit = |p: f64| (p / (1.0 - p)).ln();
    let gap = (logit(score) - logit(expected)).abs();
    assert!(gap < TOLERANCE.into(), "{score} {expected}");
}

/// The score of a text by the log-probabilities of whole prompts.
async fn probability_of_yes(client: &Client, text: &str) -> f64 {
    let system = "Judge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the answer can only be \"yes\" or \"no\".";
    let instruction = "Given a web search query, retrieve relevant passages that answer the query";
    let user = format!("<Instruct>: {instruction}\n<Query>: {QUERY}\n<Document>: {text}");
    let chat = json!({"messages": [
        {"role": "system", "content": system}, {"role": "user", "content": user},
    ]});
    let prompt = post(client, "/tokenize", &chat).await["tokens"].clone();
    let mut logprobs = Vec::new();
    for answer in ["yes", "no"] {
        let answer = post(client, "/tokenize", &json!({"content": answer})).await;
        let tokens =
            [&prompt, &answer["tokens"]].map(|tokens| tokens.as_array().unwrap().as_slice());
        let body = json!({"prompt": tokens.concat(), "echo": true, "logprobs": 0, "max_tokens": 0});
        let scored = post(client, "/v1/completions", &body).await;
        let all = scored["choices"][0]["logprobs"]["token_logprobs"]
            .as_array()
            .unwrap();
        logprobs.push(all.last().unwrap().as_f64().unwrap());
    }
    let [yes, no] = logprobs[..] else {
        unreachable!()
    };
    1.0 / (1.0 + (no - yes).exp())
}
