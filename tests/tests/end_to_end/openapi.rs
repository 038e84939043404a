//! The OpenAPI document is true: its examples work, and requests and answers have the documented form.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{Client, ServerOptions};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn the_examples_run() {
    let mut server = ServerOptions::echo(0).start();
    // Echo has no embeddings, no levels, and no tokens for whole words.
    let without = ["/v1/embeddings", "/v1/rerank", "/v1/score", "/re_isq"];
    check_examples(&server.client(), &without).await;
}

#[tokio::test]
async fn the_examples_run_on_smollm2() {
    let mut server = ServerOptions::smollm2().start();
    // Separate tests change the level.
    check_examples(&server.client(), &["/re_isq"]).await;
}

#[tokio::test]
async fn what_can_be_read_is_as_documented() {
    let mut server = ServerOptions::echo(0).start();
    let client = server.client();
    let document = Document::read(&client).await;
    for (path, documented, status) in [
        ("/", "/", 200),
        ("/health", "/health", 200),
        ("/health/ready", "/health/ready", 200),
        ("/health/live", "/health/live", 200),
        ("/v1/models", "/v1/models", 200),
        ("/v1/models/echo", "/v1/models/{name}", 200),
        ("/v1/models/nope", "/v1/models/{name}", 404),
        ("/admin/models", "/admin/models", 200),
        ("/admin/plugins", "/admin/plugins", 200),
        ("/openapi.json", "/openapi.json", 200),
        ("/docs/nope.js", "/docs/{file}", 404),
    ] {
        let (answered, answer) = client.get(path).await;
        assert_eq!(answered, status, "{path}");
        let response = &document.operation(documented, "get")["responses"][status.to_string()];
        document.check(&response["content"]["application/json"], &answer);
    }
}

#[tokio::test]
async fn refusals_are_as_documented() {
    let mut server = ServerOptions::echo(0).start();
    let client = server.client();
    let document = Document::read(&client).await;
    let operation = document.operation(CHAT, "post");
    let request = &operation["requestBody"]["content"]["application/json"];
    let messages = json!([{"role": "user", "content": "Hi"}]);
    for (body, status, is_in_schema) in [
        (
            json!({"messages": [{"role": "user", "content": 1}]}),
            400,
            false,
        ),
        (json!({"messages": messages, "temperature": 3}), 400, false),
        (
            json!({"messages": messages, "stream_options": {}}),
            400,
            true,
        ),
        (json!({"messages": messages, "model": "nope"}), 404, true),
    ] {
        let (answered, answer) = client.post(CHAT, &body).await;
        assert_eq!(answered, status, "{body}");
        let response = &operation["responses"][status.to_string()];
        document.check(&response["content"]["application/json"], &answer);
        let errors = document.errors(request, &body);
        assert_eq!(errors.is_empty(), is_in_schema, "{body}: {errors:?}");
    }
}

/// Checks that the examples of all routes have the documented form, and that those of all routes but `unable` are answered.
async fn check_examples(client: &Client, unable: &[&str]) {
    let document = Document::read(client).await;
    let paths = document.0["paths"].as_object().unwrap();
    let operations = paths
        .iter()
        .filter_map(|(path, operations)| Some((path, operations.get("post")?)))
        .filter(|(_, operation)| operation.get("requestBody").is_some());
    for (path, operation) in operations {
        let request = &operation["requestBody"]["content"]["application/json"];
        let response = &operation["responses"]["200"]["content"];
        for (_, example) in request["examples"].as_object().into_iter().flatten() {
            let body = &example["value"];
            document.check(request, body);
            if unable.contains(&path.as_str()) {
                continue;
            }
            if body["stream"] == true {
                let stream = client.stream(path, body).await;
                for chunk in &stream.chunks {
                    document.check(&response["text/event-stream"], chunk);
                }
            } else {
                let (status, answer) = client.post(path, body).await;
                assert_eq!(status, StatusCode::OK, "{answer}");
                document.check(&response["application/json"], &answer);
            }
        }
        for content in response.as_object().unwrap().values() {
            document.check(content, &content["example"]);
        }
    }
}

/// The document at `/openapi.json`.
struct Document(Value);

impl Document {
    async fn read(client: &Client) -> Self {
        let (status, document) = client.get("/openapi.json").await;
        assert_eq!(status, StatusCode::OK);
        Self(document)
    }

    fn operation(&self, path: &str, method: &str) -> &Value {
        &self.0["paths"][path][method]
    }

    #[track_caller]
    fn check(&self, content: &Value, value: &Value) {
        let errors = self.errors(content, value);
        assert!(
            errors.is_empty(),
            "{value:#} is not as documented: {errors:#?}"
        );
    }

    /// The errors of a value by the schema of this content.
    fn errors(&self, content: &Value, value: &Value) -> Vec<String> {
        let mut schema = content["schema"].clone();
        assert!(schema.is_object(), "no schema in {content}");
        // The references of the schema point into the components.
        schema["components"] = self.0["components"].clone();
        let schema = jsonschema::validator_for(&schema).unwrap();
        let errors = schema.iter_errors(value).map(|error| error.to_string());
        errors.collect()
    }
}
