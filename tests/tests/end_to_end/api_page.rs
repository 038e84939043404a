//! `config/API.md` has a row for each field of a request, and calls refused what is refused.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{Client, ServerOptions};

const PAGE: &str = include_str!("../../../config/API.md");

/// Each route, its section of the page, and what its rows have under `where`. A table of only one route has no such column.
const TABLES: [(&str, &str, &[&str]); 8] = [
    (
        "/v1/chat/completions",
        "Chats and completions",
        &["both", "chat"],
    ),
    (
        "/v1/completions",
        "Chats and completions",
        &["both", "completions"],
    ),
    (
        "/v1/embeddings",
        "Embeddings and ranking",
        &["all", "embeddings"],
    ),
    ("/v1/rerank", "Embeddings and ranking", &["all", "rerank"]),
    ("/v1/score", "Embeddings and ranking", &["all", "score"]),
    ("/v1/responses", "Responses", &[]),
    ("/v1/messages", "Anthropic's API", &["both", "messages"]),
    ("/v1/messages/count_tokens", "Anthropic's API", &["both"]),
];

#[tokio::test]
async fn the_tables_have_all_fields_and_no_others() {
    let mut server = ServerOptions::echo(0).start();
    let client = server.client();
    let (_, document) = client.get("/openapi.json").await;
    for (path, heading, places) in TABLES {
        let content = &document["paths"][path]["post"]["requestBody"]["content"];
        let known = properties(&document, &content["application/json"]["schema"]);
        assert!(known.contains("model"), "{path}: {known:?}");
        let documented = documented(heading, places);
        let missing: Vec<_> = known.difference(&documented).collect();
        assert!(missing.is_empty(), "{path} has no row for {missing:?}");
        for name in documented.difference(&known) {
            check_refused(&client, path, name).await;
        }
    }
}

/// A field that no request has is in the tables only because it is refused.
async fn check_refused(client: &Client, path: &str, name: &str) {
    let mut body =
        json!({"messages": [{"role": "user", "content": "Hi"}], "prompt": "Hi", "max_tokens": 1});
    if path == "/v1/responses" {
        body = json!({"input": "Hi"});
    }
    body[name] = json!({"any": "value"});
    let (status, answer) = client.post(path, &body).await;
    assert_eq!(
        status,
        StatusCode::BAD_REQUEST,
        "{path} takes {name}: {answer}"
    );
    let message = answer["error"]["message"].as_str().unwrap();
    let expected = format!("'{name}' is not supported by this server: ");
    assert!(message.starts_with(&expected), "{path}: {message}");
}

/// The fields that the tables of a section have for these places.
fn documented(heading: &str, places: &[&str]) -> BTreeSet<String> {
    let (_, section) = PAGE
        .split_once(&format!("\n## {heading}\n"))
        .expect(heading);
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| "));
    let rows = rows.filter(|row| {
        let place = row.split(" | ").nth(1).unwrap();
        places.is_empty() || place.split(", ").any(|place| places.contains(&place))
    });
    rows.flat_map(|row| names(row.split(" | ").next().unwrap()))
        .collect()
}

/// The names in a cell. Of `text.format` this is `text`.
fn names(cell: &str) -> impl Iterator<Item = String> {
    let quoted = cell.split('`').skip(1).step_by(2);
    quoted.map(|name| name.split('.').next().unwrap().to_owned())
}

/// The properties of a schema of the document.
fn properties(document: &Value, schema: &Value) -> BTreeSet<String> {
    let own = schema["properties"].as_object();
    let mut found: BTreeSet<String> = own
        .into_iter()
        .flatten()
        .map(|(name, _)| name.clone())
        .collect();
    if let Some(reference) = schema["$ref"].as_str() {
        let place = reference
            .strip_prefix('#')
            .expect("a reference within the document");
        found.extend(properties(document, document.pointer(place).unwrap()));
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        found.extend(properties(document, part));
    }
    found
}
