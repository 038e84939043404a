//! The OpenAPI document is true: its examples work, and requests and answers have the documented form.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tenon_tests::{Client, ServerOptions};

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";

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
async fn the_examples_of_kept_responses_run() {
    let config = "[responses]\nmax_kept_bytes = 100000";
    let mut server = ServerOptions::echo(0).config(config).start();
    let client = server.client();
    let document = Document::read(&client).await;
    let (_, response) = client.post(RESPONSES, &json!({"input": "Hi"})).await;
    let id = response["id"].as_str().unwrap();
    for (method, place, status) in [
        (Method::GET, "", 200),
        (Method::GET, "/input_items", 200),
        (Method::POST, "/cancel", 400),
        (Method::DELETE, "", 200),
    ] {
        let path = format!("{RESPONSES}/{{response_id}}{place}");
        let operation = document.operation(&path, &method.as_str().to_lowercase());
        for (id, status) in [(None, 404), (Some(id), status)] {
            let path = example_path(&path, &operation["parameters"], id);
            let answer = client.request(method.clone(), &path).send().await.unwrap();
            assert_eq!(answer.status(), status, "{method} {path}");
            let content = &operation["responses"][status.to_string()]["content"];
            let content = &content["application/json"];
            document.check(content, &answer.json().await.unwrap());
            if status != 404 {
                document.check(content, &content["example"]);
            }
        }
    }
}

/// A path with the examples of its parameters. `id` replaces that of the path.
fn example_path(path: &str, parameters: &Value, id: Option<&str>) -> String {
    let examples = parameters.as_array().unwrap().iter().map(|parameter| {
        let example = &parameter["example"];
        let example = example.as_str().map_or(example.to_string(), str::to_owned);
        (
            parameter["in"] == "path",
            parameter["name"].as_str().unwrap(),
            example,
        )
    });
    let mut path = path.to_owned();
    let mut query = Vec::new();
    for (is_in_path, name, example) in examples {
        match is_in_path {
            true => path = path.replace(&format!("{{{name}}}"), id.unwrap_or(&example)),
            false if example != "null" => query.push(format!("{name}={example}")),
            false => {}
        }
    }
    format!("{path}?{}", query.join("&"))
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
async fn references_lead_to_schemas() {
    let mut server = ServerOptions::echo(0).start();
    let Document(document) = Document::read(&server.client()).await;
    let mut values = vec![&document];
    let mut count = 0;
    while let Some(value) = values.pop() {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    let place = reference
                        .strip_prefix('#')
                        .expect("a place in the document");
                    assert!(document.pointer(place).is_some(), "{reference}");
                    count += 1;
                }
                values.extend(fields.values());
            }
            Value::Array(items) => values.extend(items),
            _ => {}
        }
    }
    assert!(count > 100, "{count}");
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
