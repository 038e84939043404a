//! The access log and the audit log.

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tenon_tests::{Authority, Client, Identity, Server, ServerOptions, TlsClient, chat, whole};

const CHAT: &str = "/v1/chat/completions";
const KEYS: &str = "[[keys]]\nname = 'team a'\nkey = 's3cret-a'\n\
                    [[keys]]\nname = 'ops'\nkey = 's3cret-ops'\nadmin = true\n";
const RUNNING: &str = "tenon_engine_running_sequences";

/// The answer to a chat with the id `whole`.
async fn ask(client: &Client) -> Response {
    let request = client.request(Method::POST, CHAT);
    let request = request.header("x-request-id", "whole");
    let request = request.json(&chat("private", json!({"temperature": 0})));
    request.send().await.unwrap()
}

#[tokio::test]
async fn each_request_has_a_line_with_what_it_used() {
    let (mut server, client) = start("access_log = true\nlog_format = 'json'");
    let client = client.with_key("s3cret-a");
    let answer = ask(&client).await;
    assert_eq!(answer.headers()["x-request-id"], "whole");
    let answer: Value = answer.json().await.unwrap();
    let line = line(&mut server, "access", "whole");
    let expected = json!({
        "message": "access", "method": "POST", "path": CHAT, "status": 200, "complete": true,
        "key": "team a", "client": "127.0.0.1", "model": "echo", "id": "whole",
        "prompt_tokens": answer["usage"]["prompt_tokens"],
        "completion_tokens": answer["usage"]["completion_tokens"],
        "duration_ms": line["duration_ms"],
    });
    assert_eq!(line, expected);
    assert!(line["duration_ms"].is_u64());

    let request = client
        .request(Method::POST, CHAT)
        .header("x-request-id", "stream");
    let parameters = json!({"temperature": 0, "stream": true});
    let stream = request.json(&chat("private", parameters)).send().await;
    assert!(
        stream
            .unwrap()
            .text()
            .await
            .unwrap()
            .ends_with("[DONE]\n\n")
    );
    let line = self::line(&mut server, "access", "stream");
    assert_eq!(
        line["completion_tokens"],
        answer["usage"]["completion_tokens"]
    );
    assert_eq!(line["complete"], true);

    let wrong = client
        .with_key("s3cret-x")
        .request(Method::GET, "/v1/models");
    let refused = wrong.header("x-request-id", "refused").send().await;
    assert_eq!(refused.unwrap().status(), StatusCode::UNAUTHORIZED);
    let line = self::line(&mut server, "access", "refused");
    assert_eq!((&line["status"], &line["key"]), (&json!(401), &Value::Null));
    assert_eq!(line["complete"], true);

    let log = rest(server);
    for secret in ["private", "s3cret"] {
        assert!(!log.contains(secret), "{log}");
    }
    assert!(!log.contains("finished processing request"), "{log}");
}

#[tokio::test]
async fn the_line_for_people_has_the_same() {
    let (mut server, client) = start("access_log = true");
    let client = client.with_key("s3cret-a");
    let answer: Value = ask(&client).await.json().await.unwrap();
    let usage = &answer["usage"];
    let line = server.wait_for_log(" access ");
    for part in [
        "method=POST".to_owned(),
        format!("path=\"{CHAT}\""),
        "status=200".to_owned(),
        "duration_ms=".to_owned(),
        "complete=true".to_owned(),
        "key=\"team a\"".to_owned(),
        "client=\"127.0.0.1\"".to_owned(),
        "model=\"echo\"".to_owned(),
        format!("prompt_tokens={}", usage["prompt_tokens"]),
        format!("completion_tokens={}", usage["completion_tokens"]),
        "id=\"whole\"".to_owned(),
    ] {
        assert!(line.contains(&part), "no {part} in {line}");
    }
}

/// Neither the server nor a library of it logs texts of clients, answers or keys, however much is logged.
#[tokio::test]
async fn the_most_detailed_log_has_no_texts_and_no_keys() {
    let authority = Authority::new();
    let Identity { certificate, key } = authority.sign();
    let config = format!(
        "[server]\nlog_format = 'json'\nlisten = ['127.0.0.1:0', 'http://127.0.0.1:0']\n\
         [tls]\ncertificate_file = 'server.pem'\nkey_file = 'server.key'\n{KEYS}"
    );
    let mut server = options(&config)
        .file("server.pem", &certificate)
        .file("server.key", &key)
        .addresses_of_config()
        .environment("TENON_LOG", "trace")
        .start();
    let at = |server: &mut Server, scheme: &str| {
        let line = server.wait_for_log(&format!("listening at {scheme}://"));
        let (_, address) = line.split_once("://").unwrap();
        address.split([' ', '"']).next().unwrap().to_owned()
    };
    let plain = Client::new(format!("http://{}", at(&mut server, "http")));
    let plain = plain.with_key("s3cret-a");
    let encrypted = TlsClient::new(&authority, None, &["h2"]);
    let mut encrypted = encrypted.open(&at(&mut server, "https")).await.unwrap();
    for (path, mut body) in private_requests() {
        for is_streamed in [false, true] {
            body["stream"] = json!(is_streamed);
            let request = plain.request(Method::POST, path).json(&body).send();
            let answer = request.await.unwrap().text().await.unwrap();
            // Each token of the answer is a letter.
            assert!(is_streamed || answer.contains("hidden"), "{path}: {answer}");
            let answer = encrypted.send_as("s3cret-a", path, &body.to_string()).await;
            let answer = whole(answer.unwrap()).await.unwrap();
            assert!(is_streamed || answer.contains("hidden"), "{path}: {answer}");
        }
    }
    let wrong = plain.with_key("s3cret-x").get("/v1/models").await;
    assert_eq!(wrong.0, StatusCode::UNAUTHORIZED);
    let log = rest(server);
    for library in ["\"target\":\"h2", "\"TRACE\""] {
        assert!(log.contains(library), "no {library} in {log}");
    }
    for secret in ["hidden", "s3cret"] {
        let mut lines = log.lines();
        let line = lines.find(|line| line.contains(secret));
        assert_eq!(line, None);
    }
}

/// A request with a secret prompt for each API.
fn private_requests() -> [(&'static str, Value); 4] {
    let chat = chat("hidden", json!({"temperature": 0, "max_tokens": 20}));
    let parameters = json!({
        "type": "object", "properties": {"hidden-parameter": {"type": "string"}},
    });
    let mut with_tool = chat.clone();
    with_tool["tools"] = json!([{
        "type": "function",
        "function": {"name": "hidden-tool", "parameters": parameters},
    }]);
    [
        (CHAT, with_tool),
        (
            "/v1/completions",
            json!({"prompt": "hidden", "echo": true, "temperature": 0, "max_tokens": 20}),
        ),
        (
            "/v1/responses",
            json!({"input": "hidden", "temperature": 0}),
        ),
        ("/v1/messages", chat),
    ]
}

#[tokio::test]
async fn the_line_says_that_a_client_has_left() {
    let (mut server, client) = start("access_log = true\nlog_format = 'json'");
    let client = client.with_key("s3cret-a");
    let long = "x".repeat(2000);
    let request = client
        .request(Method::POST, CHAT)
        .header("x-request-id", "left");
    let parameters = json!({"temperature": 0, "model": "slow", "stream": true});
    let mut stream = request.json(&chat(&long, parameters)).send().await.unwrap();
    for _ in 0..3 {
        stream.chunk().await.unwrap().unwrap();
    }
    drop(stream);
    // The connection closes while this waits.
    client.wait_for_metric(RUNNING, 0.0).await;
    let line = line(&mut server, "access", "left");
    assert_eq!(
        (&line["status"], &line["complete"]),
        (&json!(200), &json!(false))
    );
    let tokens = line["completion_tokens"].as_u64().unwrap();
    assert!((1..2000).contains(&tokens), "{line}");

    let request = client
        .request(Method::POST, CHAT)
        .header("x-request-id", "early");
    let request = request.json(&chat(&long, json!({"temperature": 0, "model": "slow"})));
    let asked = tokio::spawn(request.send());
    client.wait_for_metric(RUNNING, 1.0).await;
    asked.abort();
    client.wait_for_metric(RUNNING, 0.0).await;
    let line = self::line(&mut server, "access", "early");
    assert_eq!(
        (&line["status"], &line["complete"]),
        (&json!(499), &json!(false))
    );
}

#[tokio::test]
async fn administration_is_always_logged() {
    let (mut server, client) = start("");
    let admin = client.with_key("s3cret-ops");
    let (status, _) = admin.post("/admin/models/echo/reload", &json!({})).await;
    assert_eq!(status, StatusCode::OK);
    let line = server.wait_for_log("audit");
    for part in [
        "method=POST",
        "path=\"/admin/models/echo/reload\"",
        "status=200",
        "key=\"ops\"",
        "client=\"127.0.0.1\"",
    ] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    admin.get_text("/status").await;
    let line = server.wait_for_log("path=\"/status\" status=200");
    assert!(
        line.contains("audit") && line.contains("key=\"ops\""),
        "{line}"
    );
    let user = client.with_key("s3cret-a");
    user.post("/re_isq", &json!({"ggml_type": "Q8_0"})).await;
    let line = server.wait_for_log("/re_isq\" status=403");
    assert!(
        line.contains("audit") && line.contains("key=\"team a\""),
        "{line}"
    );
    user.post(CHAT, &chat("private", json!({"temperature": 0})))
        .await;
    let log = rest(server);
    assert!(log.contains("finished processing request"), "{log}");
    assert!(!log.contains(" access "), "{log}");
    assert!(!log.contains("s3cret"), "{log}");
}

/// Texts of clients (prompts, answers, tools) are logged only if the operator wants them.
#[tokio::test]
async fn texts_are_logged_only_if_the_configuration_says_so() {
    for is_wanted in [false, true] {
        let keys = format!("log_format = 'json'\nlog_prompts = {is_wanted}");
        let (mut server, client) = start(&keys);
        let client = client.with_key("s3cret-a");
        let parameters = json!({
            "type": "object", "required": ["v"],
            "properties": {"v": {"type": "string", "pattern": "^(?=hidden-schema)abc$"}},
        });
        let tool = json!({"type": "function", "function": {"name": "hidden-tool", "parameters": parameters}});
        let body = chat("hidden-prompt", json!({"temperature": 0, "tools": [tool]}));
        let request = client
            .request(Method::POST, CHAT)
            .header("x-request-id", "shown");
        let answer: Value = request
            .json(&body)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        assert_eq!(tenon_tests::text(&answer), "hidden-prompt", "{answer}");
        let hosted = json!({"input": "hidden-prompt", "tools": [{"type": "hidden_kind"}]});
        client.post("/v1/responses", &hosted).await;
        if is_wanted {
            let line = line(&mut server, "prompts", "shown");
            assert_eq!(line["model"], "echo");
            assert_eq!(line["answers"], "[\"hidden-prompt\"]");
            let prompts = line["prompts"].as_str().unwrap();
            for text in ["hidden-tool", "hidden-schema", "hidden-prompt"] {
                assert!(prompts.contains(text), "{prompts}");
            }
        }
        let admin = client.with_key("s3cret-ops");
        let status = admin.get_text("/status").await;
        for text in ["hidden-", "hidden_kind"] {
            assert!(!status.contains(text), "{status}");
        }
        let log = rest(server);
        assert!(log.contains("calls are not bound"), "{log}");
        assert_eq!(log.contains("hidden"), is_wanted, "{log}");
        assert!(!log.contains("s3cret"), "{log}");
    }
}

/// A server of the models `echo` and `slow` with this configuration of the rest.
fn options(config: &str) -> ServerOptions {
    let models = "[[models]]\npath = 'echo.echo'\n[[models]]\npath = 'slow.echo'\n";
    ServerOptions::new(&["tenon_plugin_echo"])
        .file("echo.echo", "0")
        .file("slow.echo", "20")
        .config(&format!(
            "{config}\n[engine]\nmax_draft_tokens = 0\n{models}"
        ))
}

/// A server of the models `echo` and `slow` with two keys, and these keys in its `[server]`.
fn start(keys: &str) -> (Server, Client) {
    let mut server = options(&format!("[server]\n{keys}\n{KEYS}")).start();
    // The text and the JSON format of the log both contain this.
    server.wait_for_log("slow\"");
    let client = server.client();
    (server, client)
}

/// The fields of the line about the request with this id.
fn line(server: &mut Server, target: &str, id: &str) -> Value {
    let line = server.wait_for_log(&format!("\"id\":\"{id}\"}},\"target\":\"{target}\""));
    let line: Value = serde_json::from_str(&line).unwrap();
    line["fields"].clone()
}

/// The whole log of a server that is stopped.
fn rest(mut server: Server) -> String {
    server.signal("TERM");
    server.wait();
    server.rest_of_log()
}
