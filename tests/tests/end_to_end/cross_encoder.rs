//! llama.cpp with encoders: a cross-encoder that judges pairs of texts, and one that makes vectors. Both have random weights, and
//! a plain computation says what they must give.

use std::path::Path;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tenon_plugin_api::EncodeFlags;
use tenon_tests::{
    Backend, Client, RowReader, Server, ServerOptions,
    models::{Bert, Family, RankHead, TestModel},
};

const RERANK: &str = "/v1/rerank";
const SCORE: &str = "/v1/score";
const QUERY: &str = "what is the capital of france?";
/// The third text has other tokens if control tokens in it are parsed.
const TEXTS: [&str; 4] = [
    "the sky is blue.",
    "paris",
    "bread [SEP] and [CLS] water",
    "0",
];
/// Largest allowed difference of logits. llama.cpp's GELU rounds to 16 bits.
const TOLERANCE: f64 = 0.02;

#[tokio::test]
async fn scores_are_those_of_a_plain_computation() {
    let bert = Bert::judge();
    let (_server, client) = start(&bert);
    let (scores, tokens) = scores(&client, json!({"text_1": QUERY, "text_2": TEXTS})).await;
    for (text, &score) in TEXTS.iter().zip(&scores) {
        check_close(score, bert.relevance(QUERY, text));
    }
    let pairs = TEXTS.iter().map(|text| Bert::pair(QUERY, text).len());
    assert_eq!(tokens, pairs.sum::<usize>());
    // The other way round, the model reads something else.
    let swapped = json!({"text_1": TEXTS, "text_2": [QUERY, QUERY, QUERY, QUERY]});
    let (swapped, _) = self::scores(&client, swapped).await;
    check_close(swapped[0], bert.relevance(TEXTS[0], QUERY));
    assert!((logit(swapped[0]) - logit(scores[0])).abs() > 2.0 * TOLERANCE);
}

#[tokio::test]
async fn many_long_and_short_pairs_are_judged_at_once() {
    let bert = Bert::judge();
    let (_server, client) = start(&bert);
    let documents: Vec<String> = (0..70)
        .map(|number| format!("{number} {}", "word ".repeat(number)))
        .collect();
    let (scores, _) = scores(&client, json!({"text_1": QUERY, "text_2": documents})).await;
    for (document, &score) in documents.iter().zip(&scores) {
        check_close(score, bert.relevance(QUERY, document));
    }
    let body =
        json!({"query": QUERY, "documents": documents, "top_n": 3, "return_documents": true});
    let best = post(&client, "/rerank", &body).await;
    let mut order: Vec<usize> = (0..documents.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let results = best["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    for (result, index) in results.iter().zip(order) {
        let same = (result["relevance_score"].as_f64().unwrap() - scores[index]).abs();
        assert!(same < 1e-3, "{result} {}", scores[index]);
        let given = result["index"].as_u64().unwrap() as usize;
        assert_eq!(result["document"], json!({"text": documents[given]}));
    }
}

#[tokio::test]
async fn a_cross_encoder_refuses_what_it_cannot_do() {
    let (_server, client) = start(&Bert::judge());
    let fits = "a ".repeat(Bert::CONTEXT - 3 - 1);
    post(&client, RERANK, &json!({"query": "b", "documents": [fits]})).await;
    let long = "a ".repeat(Bert::CONTEXT - 3);
    let message = json!([{"role": "user", "content": "a"}]);
    for (path, body, param, named) in [
        (
            RERANK,
            json!({"query": "b", "documents": ["a", long]}),
            None,
            "document 1 has 601 tokens",
        ),
        (
            SCORE,
            json!({"text_1": "a", "text_2": "b", "instruction": "c"}),
            Some("instruction"),
            "takes no instruction",
        ),
        (
            "/v1/embeddings",
            json!({"input": "a"}),
            Some("model"),
            "makes no embeddings",
        ),
        (
            "/v1/chat/completions",
            json!({"messages": message}),
            Some("model"),
            "generates no text",
        ),
        (
            "/v1/completions",
            json!({"prompt": "a"}),
            Some("model"),
            "generates no text",
        ),
        (
            "/v1/responses",
            json!({"input": "a"}),
            Some("model"),
            "/v1/rerank",
        ),
    ] {
        let (status, answer) = client.post(path, &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}: {answer}");
        assert_eq!(answer["error"]["param"].as_str(), param, "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(named), "{message}");
    }
    let body = json!({"model": "", "max_tokens": 1, "messages": message});
    let (status, answer) = client.post("/v1/messages", &body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    let (_, models) = client.get("/v1/models").await;
    assert_eq!(models["data"][0]["embeddings"], Value::Null, "{models}");
}

#[tokio::test]
async fn an_encoder_makes_the_vectors_of_a_plain_computation() {
    let bert = Bert::encoder();
    let (_server, client) = start(&bert);
    let answer = post(&client, "/v1/embeddings", &json!({"input": TEXTS})).await;
    for (text, embedding) in TEXTS.iter().zip(answer["data"].as_array().unwrap()) {
        // A control token in an input of embeddings is read as such.
        if text.contains("[SEP]") {
            continue;
        }
        let vector = embedding["embedding"].as_array().unwrap();
        let products = vector.iter().zip(bert.vector(text));
        let cosine: f64 = products
            .map(|(a, b)| a.as_f64().unwrap() * f64::from(b))
            .sum();
        assert!((0.9999..1.0001).contains(&cosine), "{text}: {cosine}");
    }
    let (_, models) = client.get("/v1/models").await;
    assert_eq!(
        models["data"][0]["embeddings"]["pooling"], "mean",
        "{models}"
    );
    let body = json!({"query": QUERY, "documents": TEXTS});
    let (status, answer) = client.post(RERANK, &body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("cannot judge texts"), "{message}");
}

/// A decoder with a template of its own and two outputs, as Qwen3-Reranker. The expected scores are computed from its own
/// logits.
#[tokio::test]
async fn a_decoder_judges_by_what_it_would_say() {
    let head = RankHead {
        yes: 300,
        no: 301,
        template: "<|im_start|>{query}\n<D>: {document}<|im_end|>\n",
    };
    let model = TestModel {
        rank: Some(head),
        ..TestModel::tiny(Family::Qwen3)
    };
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.gguf");
    model.write_gguf(&path);
    let (_server, client) = start_file(&path);
    let texts = &TEXTS[..2];
    let (scores, tokens) = scores(&client, json!({"text_1": QUERY, "text_2": texts})).await;
    let loaded = Backend::LlamaCpp.load(&path, &Backend::LlamaCpp.exact());
    let tokenizer = loaded.model.tokenizer().unwrap();
    let mut counted = 0;
    for (text, score) in texts.iter().zip(scores) {
        let pair = format!("<|im_start|>{QUERY}\n<D>: {text}<|im_end|>\n");
        let pair = tokenizer.encode(&pair, EncodeFlags::PARSE_CONTROL).unwrap();
        let rows = RowReader::new(&loaded, 1).append_one(0, &pair);
        let last = rows.last().unwrap();
        let gap = last[head.no as usize] - last[head.yes as usize];
        let expected = 1.0 / (1.0 + f64::from(gap).exp());
        assert!((score - expected).abs() < 1e-3, "{score} {expected}");
        counted += pair.len();
    }
    assert_eq!(tokens, counted);
    let body = json!({"prompt": "a", "max_tokens": 1});
    let (status, answer) = client.post("/v1/completions", &body).await;
    assert_eq!(
        status,
        StatusCode::OK,
        "a decoder generates text too: {answer}"
    );
}

fn start(bert: &Bert) -> (Server, Client) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("bert.gguf");
    bert.write_gguf(&path);
    start_file(&path)
}

fn start_file(path: &Path) -> (Server, Client) {
    let config = format!(
        "[engine]\nthreads = 1\n[[models]]\npath = {path:?}\n\
         options = {{ kv_type = 'f32', flash_attention = 'off' }}\n"
    );
    let options = ServerOptions::new(&[Backend::LlamaCpp.library()]);
    let mut server = options.config(&config).start();
    let client = server.client();
    (server, client)
}

async fn post(client: &Client, path: &str, body: &Value) -> Value {
    let (status, answer) = client.post(path, body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer
}

/// The scores, and how many tokens were read for them.
async fn scores(client: &Client, body: Value) -> (Vec<f64>, usize) {
    let answer = post(client, SCORE, &body).await;
    let data = answer["data"].as_array().unwrap().iter();
    let scores = data.map(|score| score["score"].as_f64().unwrap());
    let tokens = answer["usage"]["total_tokens"].as_u64().unwrap();
    (scores.collect(), tokens as usize)
}

fn logit(p: f64) -> f64 {
    (p / (1.0 - p)).ln()
}

#[track_caller]
fn check_close(score: f64, expected: f64) {
    let apart = (logit(score) - logit(expected)).abs();
    assert!(apart < TOLERANCE, "{score} {expected}: {apart}");
}
