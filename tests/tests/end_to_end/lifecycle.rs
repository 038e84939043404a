//! The life of a server, from the first line of the log to the exit code.

use std::{net::TcpListener, time::Duration};

use serde_json::{Value, json};
use tenon_tests::{Client, Event, PATIENCE, Server, ServerOptions, chat};

const DRAIN_DELAY: &str = "TENON__SERVER__DRAIN_DELAY_SECS";

/// A chat whose answer takes about `len` steps.
fn long_chat(len: usize) -> Value {
    chat(&"x".repeat(len), json!({"temperature": 0}))
}

/// Waits until the server computes a sequence.
async fn wait_until_running(server: &mut Server) {
    let client = server.client();
    let running = async {
        while client.metric("tenon_engine_running_sequences").await == 0.0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, running)
        .await
        .expect("a running sequence");
}

/// Checks that readiness is answered with this HTTP status, that the server is alive, and that both probes report `status`.
async fn check_probes(client: &Client, ready: u16, status: &str) {
    for (path, expected) in [("/health/ready", ready), ("/health/live", 200)] {
        let (answered, probe) = client.get(path).await;
        assert_eq!(answered, expected, "{path}");
        assert_eq!(probe, json!({"status": status}), "{path}");
    }
}

#[tokio::test]
async fn a_stop_refuses_new_work_and_lets_running_requests_finish() {
    for (signal, delay_secs) in [("TERM", "0"), ("INT", "0"), ("TERM", "1")] {
        let mut server = ServerOptions::echo(10)
            .environment(DRAIN_DELAY, delay_secs)
            .environment("TENON__ENGINE__MAX_DRAFT_TOKENS", "0")
            .start();
        let client = server.client();
        let request = long_chat(400);
        let running = async move { client.stream("/v1/chat/completions", &request).await };
        let running = tokio::spawn(running);
        wait_until_running(&mut server).await;
        server.signal(signal);
        server.wait_for_log("new requests are refused");

        // The server closes idle connections now, so this client opens a new one.
        let client = server.client();
        check_probes(&client, 503, "draining").await;
        let refused = client.send("/v1/chat/completions", &long_chat(1)).await;
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after"));
        let (status, health) = client.get("/health").await;
        assert_eq!(status, 503, "{health}");

        let finished = running.await.expect("a stream");
        assert_eq!(finished.text(), "x".repeat(400));
        assert!(finished.done);
        assert_eq!(server.wait().code(), Some(0));
    }
}

#[tokio::test]
async fn until_the_drain_delay_is_over_all_requests_are_answered() {
    // The second signal ends the server long before the delay is over.
    let mut server = ServerOptions::echo(0)
        .environment(DRAIN_DELAY, "1000")
        .start();
    let client = server.client();
    check_probes(&client, 200, "ok").await;
    server.signal("TERM");
    server.wait_for_log("requests are still taken");

    // The first client has a connection from before the signal. The second opens a new one.
    for client in [client, server.client()] {
        check_probes(&client, 503, "draining").await;
        assert_eq!(client.get("/health").await.0, 200);
        assert_eq!(client.chat("Hi", json!({"temperature": 0})).await, "Hi");
        let stream = client.stream("/v1/chat/completions", &long_chat(20)).await;
        assert_eq!(stream.text(), "x".repeat(20));
        assert!(stream.done);
    }
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(130));
}

/// A hook drains the server, and then SIGTERM arrives, as with Kubernetes.
#[tokio::test]
async fn a_drain_by_an_administrator_is_a_stop_that_the_first_signal_does_not_hasten() {
    let mut server = ServerOptions::echo(0)
        .environment(DRAIN_DELAY, "1000")
        .start();
    let client = server.client();
    for begun in [true, false] {
        let (status, answer) = client.post("/admin/drain", &json!({})).await;
        assert_eq!((status.as_u16(), &answer["begun"]), (202, &json!(begun)));
        assert_eq!(answer["drain_delay_secs"], 1000);
    }
    server.wait_for_log("requests are still taken");
    server.signal("TERM");
    server.wait_for_log("stop again to end at once");
    check_probes(&client, 503, "draining").await;
    assert_eq!(client.chat("Hi", json!({"temperature": 0})).await, "Hi");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(130));

    let mut server = ServerOptions::echo(0).start();
    let client = server.client();
    client.post("/admin/drain", &json!({})).await;
    assert_eq!(server.wait().code(), Some(0));
}

#[tokio::test]
async fn a_drain_has_an_end() {
    let mut server = ServerOptions::echo(50)
        .environment("TENON__SERVER__DRAIN_TIMEOUT_SECS", "1")
        .start();
    let client = server.client();
    let mut request = long_chat(4000);
    request["stream"] = json!(true);
    let response = client.send("/v1/chat/completions", &request).await;
    assert_eq!(response.status(), 200);
    server.signal("TERM");
    server.wait_for_log("cut off");
    assert_eq!(server.wait().code(), Some(0));
}

#[tokio::test]
async fn a_second_stop_ends_at_once() {
    let mut server = ServerOptions::echo(50).start();
    let client = server.client();
    let running = tokio::spawn({
        let client = client.clone();
        async move {
            client
                .send("/v1/chat/completions", &long_chat(4000))
                .await
                .status()
        }
    });
    wait_until_running(&mut server).await;
    server.signal("INT");
    server.wait_for_log("stop again to end at once");
    server.signal("INT");
    assert_eq!(server.wait().code(), Some(130));
    running.abort();
}

#[tokio::test]
async fn signals_that_mean_no_stop_are_ignored_and_logged() {
    let mut server = ServerOptions::echo(0).start();
    let client = server.client();
    for name in ["USR1", "USR2"] {
        server.signal(name);
        server.wait_for_log(&format!("SIG{name} is ignored"));
        assert_eq!(client.chat("Hi", json!({"temperature": 0})).await, "Hi");
    }
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

#[tokio::test]
async fn what_is_not_finished_at_the_end_of_a_drain_is_told_so() {
    let mut server = ServerOptions::echo(50)
        .environment("TENON__ENGINE__MAX_DRAFT_TOKENS", "0")
        .environment("TENON__SERVER__DRAIN_TIMEOUT_SECS", "1")
        .start();
    let client = server.client();
    let mut streams = Vec::new();
    let mut whole = Vec::new();
    for (path, body, last) in long_requests() {
        streams.push((path, client.open(path, &body).await, last));
        let client = client.clone();
        whole.push(tokio::spawn(async move {
            (path, client.send(path, &body).await)
        }));
    }
    client
        .wait_for_metric("tenon_engine_running_sequences", 8.0)
        .await;
    server.signal("TERM");

    for (path, mut stream, last) in streams {
        let mut events = Vec::new();
        while let Some(event) = stream.next().await {
            events.push(event);
        }
        let words: Vec<_> = events.iter().map(word).collect();
        assert!(words.ends_with(last), "{path}: {words:?}");
        assert!(words.len() > last.len(), "{path}: {words:?}");
    }
    for whole in whole {
        let (path, answer) = whole.await.expect("an answer");
        let (status, kind) = match path {
            "/v1/messages" => (529, "overloaded_error"),
            _ => (503, "draining"),
        };
        assert_eq!(answer.status(), status, "{path}");
        assert!(answer.headers().contains_key("retry-after"), "{path}");
        let answer = answer.json().await.expect("JSON");
        assert_eq!(word(&Event::Chunk(answer)), kind, "{path}");
    }
    assert_eq!(server.wait().code(), Some(0));
}

/// A long request for each streaming route, with the last events of its stream when it is cut off.
fn long_requests() -> [(&'static str, Value, &'static [&'static str]); 4] {
    let text = "x".repeat(1000);
    let chat = long_chat(1000);
    let mut message = chat.clone();
    message["max_tokens"] = json!(1000);
    [
        ("/v1/chat/completions", chat, &["draining", "[DONE]"]),
        (
            "/v1/completions",
            json!({"prompt": text, "max_tokens": 1000, "ignore_eos": true}),
            &["draining", "[DONE]"],
        ),
        (
            "/v1/responses",
            json!({"input": text}),
            &["draining", "response.failed", "[DONE]"],
        ),
        ("/v1/messages", message, &["overloaded_error"]),
    ]
}

/// The code or type of an error, else the type of an event.
fn word(event: &Event) -> &str {
    match event {
        Event::Done => "[DONE]",
        Event::Comment => "",
        Event::Chunk(chunk) => {
            let error = &chunk["error"];
            let words = [&error["code"], &error["type"], &chunk["type"]];
            let word = words.into_iter().find_map(Value::as_str);
            word.unwrap_or_default()
        }
    }
}

#[test]
fn an_idle_server_stops_at_once() {
    let mut server = ServerOptions::echo(0).start();
    server.signal("TERM");
    let started = std::time::Instant::now();
    assert_eq!(server.wait().code(), Some(0));
    // Far less time than a drain may take.
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_port_in_use_is_a_sentence_and_exit_code_2() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let mut server = ServerOptions::echo(0).port(&port).spawn();
    assert_eq!(server.wait().code(), Some(2));
    let log = server.rest_of_log();
    assert!(
        log.contains(&format!("cannot listen at 127.0.0.1:{port}")),
        "{log}"
    );
    assert!(log.contains("--port"), "{log}");
}

#[tokio::test]
async fn the_log_is_json_on_request_and_names_requests() {
    let mut server = ServerOptions::echo(0)
        .environment("TENON__SERVER__LOG_FORMAT", "json")
        .start();
    let client = server.client();
    let response = client.send("/v1/chat/completions", &long_chat(1)).await;
    let id = response.headers()["x-request-id"]
        .to_str()
        .expect("text")
        .to_owned();
    let line = server.wait_for_log(&id);
    let line: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(line["fields"]["status"], 200, "{line}");
    assert_eq!(line["span"]["path"], "/v1/chat/completions", "{line}");
}

#[tokio::test]
async fn several_models_are_served_by_their_names() {
    let config = r#"
        [[models]]
        id = "first"
        path = "one.echo"
        [[models]]
        id = "second"
        aliases = ["other"]
        path = "two.echo"
        context_length = 64
    "#;
    let mut server = ServerOptions::new(&["tenon_plugin_echo"])
        .file("one.echo", "")
        .file("two.echo", "")
        .file("tenon.toml", config)
        .spawn();
    server.wait_for_log("model=\"second\"");
    let client = server.client();
    let (_, models) = client.get("/v1/models").await;
    let ids = models["data"]
        .as_array()
        .expect("models")
        .iter()
        .map(|model| &model["id"]);
    assert_eq!(ids.collect::<Vec<_>>(), ["first", "second"]);
    for (asked, answers) in [
        ("", "first"),
        ("first", "first"),
        ("second", "second"),
        ("other", "second"),
    ] {
        let request = chat("hi", json!({"model": asked, "max_tokens": 8}));
        let (_, answer) = client.post("/v1/chat/completions", &request).await;
        assert_eq!(answer["model"], answers, "asked for {asked:?}: {answer}");
    }
    let (status, error) = client
        .post(
            "/v1/chat/completions",
            &chat("hi", json!({"model": "third"})),
        )
        .await;
    assert_eq!(status, 404);
    let message = error["error"]["message"].as_str().expect("a message");
    assert!(
        message.contains("first") && message.contains("second"),
        "{message}"
    );
    // Each model has its own budget.
    let long = chat(&"x".repeat(100), json!({"model": "second"}));
    assert_eq!(client.post("/v1/chat/completions", &long).await.0, 400);
}
