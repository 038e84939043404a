//! Traces and metrics, as a collector gets them.

use std::{collections::BTreeSet, net::TcpListener, time::Instant};

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tenon_tests::{Backend, Client, Collector, Manner, Server, ServerOptions, chat};

const CHAT: &str = "/v1/chat/completions";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const RUNNING: &str = "tenon_engine_running_sequences";

#[tokio::test]
async fn a_chat_is_a_span_below_its_client_s() {
    let mut collector = Collector::start();
    let (mut server, client) = start(&collector.endpoint());
    let parameters = json!({
        "model": "echo", "temperature": 0.7, "top_p": 0.9, "max_tokens": 5, "seed": 3, "n": 2,
    });
    let request = traced(client.request(Method::POST, CHAT), "01")
        .header("tracestate", "vendor=x")
        .header("x-request-id", "mine")
        .json(&chat("private words", parameters));
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    let span = collector.wait_for_span(|span| span["parent"] == PARENT);
    let address = server.address();
    let port: u16 = address.rsplit(':').next().unwrap().parse().unwrap();
    let attributes = &span["attributes"];
    let expected = json!({
        "http.request.method": "POST",
        "http.route": CHAT,
        "url.path": CHAT,
        "server.address": "127.0.0.1",
        "server.port": port,
        "http.response.status_code": 200,
        "http.response.header.x-request-id": ["mine"],
        "tenon.key": "team a",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "tenon",
        "gen_ai.request.model": "echo",
        "gen_ai.response.model": "echo",
        "gen_ai.response.id": answer["id"],
        "gen_ai.usage.input_tokens": answer["usage"]["prompt_tokens"],
        "gen_ai.usage.output_tokens": answer["usage"]["completion_tokens"],
        "gen_ai.response.finish_reasons": ["length", "length"],
        "gen_ai.latency.time_to_first_token": attributes["gen_ai.latency.time_to_first_token"],
        "gen_ai.request.max_tokens": 5,
        "gen_ai.request.temperature": 0.7,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.seed": 3,
        "gen_ai.request.choice.count": 2,
    });
    assert_eq!(*attributes, expected);
    assert!(
        attributes["gen_ai.latency.time_to_first_token"]
            .as_f64()
            .unwrap()
            > 0.0
    );
    assert_eq!(
        (&span["name"], &span["kind"]),
        (&json!("chat echo"), &json!("SPAN_KIND_SERVER"))
    );
    assert_eq!(
        (&span["trace"], &span["state"]),
        (&json!(TRACE), &json!("vendor=x"))
    );
    assert_eq!(span["is_error"], false);
    assert_eq!(span["resource"]["service.name"], "tenon");
    collector.wait_for_histogram(|histogram| histogram["name"] == "gen_ai.client.token.usage");
    let log = stop(server);
    for secret in ["private words", "s3cret"] {
        assert!(
            !collector.has_seen(secret) && !log.contains(secret),
            "{log}"
        );
    }
}

#[tokio::test]
async fn every_api_has_its_operation() {
    let mut collector = Collector::start();
    let (_server, client) = start(&collector.endpoint());
    let message = json!([{"role": "user", "content": "private"}]);
    for (path, body, operation, end) in [
        (
            "/v1/completions",
            json!({"prompt": "private", "temperature": 0}),
            "text_completion",
            "length",
        ),
        ("/v1/responses", json!({"input": "private"}), "chat", "stop"),
        (
            "/v1/messages",
            json!({"max_tokens": 9, "messages": message}),
            "chat",
            "stop",
        ),
    ] {
        for is_streamed in [false, true] {
            let id = format!("{path} {is_streamed}");
            let mut body = body.clone();
            body["stream"] = json!(is_streamed);
            let request = client.request(Method::POST, path).json(&body);
            let answer = request.header("x-request-id", &id).send().await.unwrap();
            let answer = answer.text().await.unwrap();
            let span = collector.wait_for_span(|span| {
                span["attributes"]["http.response.header.x-request-id"][0] == id
            });
            let attributes = &span["attributes"];
            assert_eq!(attributes["gen_ai.operation.name"], operation, "{span}");
            assert_eq!(
                attributes["gen_ai.response.finish_reasons"],
                json!([end]),
                "{span}"
            );
            let response = attributes["gen_ai.response.id"].as_str().unwrap();
            assert!(
                answer.contains(&format!("\"id\":\"{response}\"")),
                "{response}: {answer}"
            );
            let first = &attributes["gen_ai.response.time_to_first_chunk"];
            assert_eq!(first.is_f64(), is_streamed, "{span}");
        }
    }
}

#[tokio::test]
async fn smollm2_has_spans_of_what_makes_no_text_too() {
    let mut collector = Collector::start();
    let telemetry = format!(
        "id = 'smollm2'\n[telemetry]\notlp_endpoint = '{}'",
        collector.endpoint()
    );
    let (_server, client) = Backend::CandleQuantized.serve_smollm2(&telemetry);
    for (path, body, operation) in [
        ("/v1/embeddings", json!({"input": "private"}), "embeddings"),
        (
            "/v1/rerank",
            json!({"query": "private", "documents": ["a", "b"]}),
            "rerank",
        ),
        (
            "/v1/score",
            json!({"text_1": "private", "text_2": ["a", "b"]}),
            "score",
        ),
    ] {
        let request = client.request(Method::POST, path).json(&body);
        let answer = request.header("x-request-id", path).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let answer: Value = answer.json().await.unwrap();
        let span = collector.wait_for_span(|span| {
            span["attributes"]["http.response.header.x-request-id"][0] == path
        });
        let attributes = &span["attributes"];
        assert_eq!(attributes["gen_ai.operation.name"], operation, "{span}");
        assert_eq!(attributes["gen_ai.response.model"], "smollm2", "{span}");
        let tokens = &answer["usage"]["total_tokens"];
        assert_eq!(&attributes["gen_ai.usage.input_tokens"], tokens, "{span}");
        assert!(tokens.as_u64() > Some(0), "{answer}");
    }
    assert!(!collector.has_seen("private"));
}

#[tokio::test]
async fn calls_are_a_reason_for_an_end() {
    let mut collector = Collector::start();
    let (_server, client) = start(&collector.endpoint());
    let parameters = json!({
        "temperature": 0,
        "tools": [{"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}, "additionalProperties": false}}}],
        "tool_choice": "required",
    });
    let (status, answer) = client.post(CHAT, &chat("private", parameters)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    let span = collector.wait_for_span(|_| true);
    assert_eq!(
        span["attributes"]["gen_ai.response.finish_reasons"],
        json!(["tool_calls"])
    );
}

#[tokio::test]
async fn errors_have_their_kind() {
    let mut collector = Collector::start();
    let (server, client) = start(&collector.endpoint());
    let wrong = json!({"model": "private-model"});
    let (status, _) = client.post(CHAT, &chat("x", wrong)).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let span = collector.wait_for_span(|span| span["name"] == "chat private-model");
    assert_eq!(span["attributes"]["error.type"], "model_not_found");
    // A wrong request is no error of the server.
    assert_eq!(span["is_error"], false);
    let wrong_key = client.with_key("s3cret-x");
    wrong_key.post(CHAT, &chat("x", json!({}))).await;
    let span = collector.wait_for_span(|span| span["name"] == "POST /v1/chat/completions");
    assert_eq!(span["attributes"]["error.type"], "invalid_api_key");

    let slow = json!({"model": "slow", "temperature": 0});
    let mut stream = client.open(CHAT, &chat(&"x".repeat(2000), slow)).await;
    stream.next_text().await;
    drop(stream);
    client.wait_for_metric(RUNNING, 0.0).await;
    let span = collector.wait_for_span(|span| span["name"] == "chat slow");
    assert_eq!(span["attributes"]["error.type"], "cancelled");
    assert_eq!(
        span["attributes"]["gen_ai.response.finish_reasons"],
        json!(["abort"])
    );

    let failed = collector
        .wait_for_histogram(|histogram| histogram["attributes"]["error.type"] == "model_not_found");
    assert_eq!(failed["name"], "gen_ai.server.request.duration");
    // The model name that the client sent is not used as a label.
    assert_eq!(failed["attributes"]["gen_ai.request.model"], Value::Null);
    stop(server);
}

#[tokio::test]
async fn metrics_have_the_names_and_buckets_of_the_conventions() {
    let mut collector = Collector::start();
    let (_server, client) = start(&collector.endpoint());
    let parameters = json!({"model": "echo", "temperature": 0});
    let mut tokens = [0, 0];
    for _ in 0..3 {
        let (_, answer) = client
            .post(CHAT, &chat("private", parameters.clone()))
            .await;
        tokens[0] += answer["usage"]["prompt_tokens"].as_u64().unwrap();
        tokens[1] += answer["usage"]["completion_tokens"].as_u64().unwrap();
    }
    let labels = json!({
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "tenon",
        "gen_ai.request.model": "echo", "gen_ai.response.model": "echo",
    });
    for (name, bounds, last) in [
        ("gen_ai.server.request.duration", 14, 81.92),
        ("gen_ai.server.time_to_first_token", 16, 10.0),
        ("gen_ai.server.time_per_output_token", 13, 2.5),
    ] {
        let histogram = collector
            .wait_for_histogram(|histogram| histogram["name"] == name && histogram["count"] == 3);
        assert_eq!(histogram["attributes"], labels, "{name}");
        let all = histogram["bounds"].as_array().unwrap();
        assert_eq!(
            (all.len(), &all[bounds - 1]),
            (bounds, &json!(last)),
            "{name}"
        );
        assert_eq!(histogram["unit"], "s");
        assert!(histogram["sum"].as_f64().unwrap() > 0.0, "{histogram}");
    }
    for (kind, expected) in ["input", "output"].into_iter().zip(tokens) {
        let histogram = collector.wait_for_histogram(|histogram| {
            histogram["attributes"]["gen_ai.token.type"] == kind && histogram["count"] == 3
        });
        assert_eq!(histogram["name"], "gen_ai.client.token.usage");
        assert_eq!(
            (&histogram["sum"], &histogram["unit"]),
            (&json!(expected as f64), &json!("{token}"))
        );
        let bounds = histogram["bounds"].as_array().unwrap();
        assert_eq!((bounds.len(), &bounds[13]), (14, &json!(67_108_864.0)));
    }
}

#[tokio::test]
async fn only_work_and_what_clients_trace_has_spans() {
    let mut collector = Collector::start();
    let (server, client) = start(&collector.endpoint());
    for path in ["/health", "/metrics", "/v1/models"] {
        client.get_text(path).await;
    }
    // The client does not record its trace.
    let unsampled = traced(client.request(Method::POST, CHAT), "00");
    let unsampled = unsampled.json(&chat("x", json!({}))).send().await;
    assert_eq!(unsampled.unwrap().status(), StatusCode::OK);
    let models = traced(client.request(Method::GET, "/v1/models"), "01");
    models.send().await.unwrap();
    client.post("/tokenize", &json!({"prompt": "x"})).await;
    stop(server);
    let names: BTreeSet<_> = collector
        .spans()
        .iter()
        .map(|span| span["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, BTreeSet::from(["GET /v1/models", "POST /tokenize"]));
}

#[tokio::test]
async fn the_variables_of_opentelemetry_count() {
    let mut collector = Collector::start();
    let mut server = options("")
        .environment("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint())
        .environment(
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=Basic%20eA==,x-tenant=t",
        )
        .environment("OTEL_SERVICE_NAME", "front")
        .environment(
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test,service.name=other",
        )
        .start();
    let client = server.client().with_key("s3cret-a");
    client.post("/tokenize", &json!({"prompt": "x"})).await;
    let span = collector.wait_for_span(|_| true);
    assert_eq!(span["resource"]["service.name"], "front");
    assert_eq!(span["resource"]["deployment.environment.name"], "test");
    assert_eq!(collector.headers["x-tenant"], "t");
    assert_eq!(collector.headers["authorization"], "Basic eA==");
    assert_eq!(collector.headers["content-type"], "application/x-protobuf");
}

#[tokio::test]
async fn a_collector_that_is_down_is_told_once_and_holds_nothing_up() {
    let port = free_port();
    let (mut server, client) = start(&format!("http://127.0.0.1:{port}"));
    let ask = async || {
        client
            .post(CHAT, &chat("x", json!({"temperature": 0})))
            .await
    };
    for _ in 0..3 {
        assert_eq!(ask().await.0, StatusCode::OK);
    }
    server.wait_for_log("takes no traces");
    server.wait_for_log("takes no metrics");
    for _ in 0..20 {
        assert_eq!(ask().await.0, StatusCode::OK);
    }
    let mut collector = Collector::at(port, Manner::Takes);
    client.post("/tokenize", &json!({"prompt": "x"})).await;
    collector.wait_for_span(|span| span["name"] == "POST /tokenize");
    server.wait_for_log("takes traces again");
    server.wait_for_log("takes metrics again");
    let log = stop(server);
    for line in ["takes no traces", "takes no metrics", "takes traces again"] {
        assert_eq!(log.matches(line).count(), 1, "{log}");
    }
}

#[tokio::test]
async fn a_collector_that_is_silent_does_not_hold_up_the_end() {
    let mut collector = Collector::at(0, Manner::IsSilent);
    let (server, client) = start(&collector.endpoint());
    for _ in 0..20 {
        let (status, _) = client
            .post(CHAT, &chat("x", json!({"temperature": 0})))
            .await;
        assert_eq!(status, StatusCode::OK);
    }
    collector.wait_for_span(|_| true);
    let begin = Instant::now();
    stop(server);
    assert!(begin.elapsed().as_secs() < 5, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn the_last_spans_are_sent_at_the_end() {
    let mut collector = Collector::start();
    let mut server = options(&collector.endpoint())
        .environment("OTEL_BSP_SCHEDULE_DELAY", "3600000")
        .start();
    let client = server.client().with_key("s3cret-a");
    client.post("/tokenize", &json!({"prompt": "x"})).await;
    assert!(collector.spans().is_empty());
    stop(server);
    assert_eq!(collector.spans().len(), 1);
}

/// A port at which nobody listens.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A request of a client that has a span. The client records the span if the flags are `01`.
fn traced(request: RequestBuilder, flags: &str) -> RequestBuilder {
    request.header("traceparent", format!("00-{TRACE}-{PARENT}-{flags}"))
}

/// A server of the models `echo` and `slow` that sends to this collector soon. Its client has a key.
fn start(endpoint: &str) -> (Server, Client) {
    let mut server = options(endpoint).start();
    server.wait_for_log("slow\"");
    let client = server.client().with_key("s3cret-a");
    (server, client)
}

fn options(endpoint: &str) -> ServerOptions {
    let telemetry = match endpoint {
        "" => String::new(),
        endpoint => format!("[telemetry]\notlp_endpoint = '{endpoint}'\n"),
    };
    let config = format!(
        "[[keys]]\nname = 'team a'\nkey = 's3cret-a'\n[engine]\nmax_draft_tokens = 0\n\
         [[models]]\npath = 'echo.echo'\n[[models]]\npath = 'slow.echo'\n{telemetry}"
    );
    ServerOptions::new(&["tenon_plugin_echo"])
        .file("echo.echo", "1")
        .file("slow.echo", "20")
        .config(&config)
        .environment("OTEL_BSP_SCHEDULE_DELAY", "20")
        .environment("OTEL_METRIC_EXPORT_INTERVAL", "50")
}

/// Stops a server. Returns its log.
fn stop(mut server: Server) -> String {
    server.signal("TERM");
    server.wait();
    server.rest_of_log()
}
