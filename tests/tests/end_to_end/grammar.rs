//! Answers that must follow a grammar: the API, the limits, and the effect on other requests.

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{Client, Server, ServerOptions, Stream, chat, text};

const CHAT: &str = "/v1/chat/completions";
const PLAIN: &str = "/v1/completions";

#[tokio::test]
async fn every_way_to_ask_for_a_grammar_works_on_both_routes() {
    let (_server, client) = start("");
    let record = json!({
        "type": "object", "properties": {"ok": {"const": true}}, "required": ["ok"], "additionalProperties": false,
    });
    let list = json!({"grammars": [{"lark_grammar": "start: \"on\" | \"off\""}]});
    let format = json!({"type": "json_schema", "json_schema": {"name": "r", "strict": true, "schema": record}});
    for (parameters, expected) in [
        (grammar("regex", json!("(ab){2}c")), vec!["ababc"]),
        (
            grammar("lark", json!("start: \"on\" | \"off\"")),
            vec!["on", "off"],
        ),
        (
            grammar("json_schema", record.clone()),
            vec![r#"{"ok":true}"#],
        ),
        (
            grammar("json_schema", json!(record.to_string())),
            vec![r#"{"ok":true}"#],
        ),
        (grammar("llguidance", list.clone()), vec!["on", "off"]),
        (
            grammar("llguidance", json!(list.to_string())),
            vec!["on", "off"],
        ),
        (json!({"response_format": format}), vec![r#"{"ok":true}"#]),
        (
            json!({"response_format": {"type": "json_object", "schema": record}}),
            vec![r#"{"ok":true}"#],
        ),
        (
            json!({"grammar": "root ::= \"o\" (\"n\" | \"ff\")\n"}),
            vec!["on", "off"],
        ),
        (grammar("gbnf", json!("root ::= [x]{3}")), vec!["xxx"]),
    ] {
        let mut conversation = chat("hello", parameters.clone());
        conversation["seed"] = json!(3);
        for body in [prompt(parameters), conversation] {
            let path = if body["prompt"].is_null() {
                CHAT
            } else {
                PLAIN
            };
            let (status, answer) = client.post(path, &body).await;
            assert_eq!(status, StatusCode::OK, "{body}: {answer}");
            assert!(expected.contains(&text(&answer)), "{body}: {answer}");
            assert_eq!(answer["choices"][0]["finish_reason"], "stop");
            let tokens = answer["usage"]["completion_tokens"].as_u64().unwrap();
            assert_eq!(tokens as usize, text(&answer).len());
            let stream = client.stream(path, &body).await;
            assert_eq!(stream.text(), text(&answer));
            assert_eq!(stream.finish_reason(), Some("stop"));
        }
    }
}

#[tokio::test]
async fn any_object_is_json() {
    let (_server, client) = start("");
    let body = json!({"response_format": {"type": "json_object"}, "max_tokens": 4000});
    let (_, answer) = client.post(PLAIN, &prompt(body)).await;
    assert!(text(&answer).starts_with('{'), "{answer}");
    if answer["choices"][0]["finish_reason"] == "stop" {
        let object: Value = serde_json::from_str(text(&answer)).unwrap();
        assert!(object.is_object());
    }
}

#[tokio::test]
async fn none_is_none() {
    let (_server, client) = start("");
    let plain = prompt(json!({"max_tokens": 20}));
    let (_, expected) = client.post(PLAIN, &plain).await;
    for none in [
        json!({"grammar": null}),
        json!({"response_format": null}),
        json!({"response_format": {"type": "text"}}),
    ] {
        let mut body = plain.clone();
        body.as_object_mut()
            .unwrap()
            .extend(none.as_object().unwrap().clone());
        let (_, answer) = client.post(PLAIN, &body).await;
        assert_eq!(text(&answer), text(&expected));
    }
}

#[tokio::test]
async fn what_cannot_be_followed_is_a_400_with_the_reason() {
    let (_server, client) = start("");
    let schema = |schema: Value| json!({"grammar": {"type": "json_schema", "value": schema, "strict": true}});
    let both = json!({
        "grammar": {"type": "regex", "value": "a"}, "response_format": {"type": "json_object"},
    });
    for (parameters, param, expected) in [
        (grammar("regex", json!("(")), "grammar", "unclosed group"),
        (grammar("regex", json!("(?=a)a")), "grammar", "look-around"),
        (
            grammar("regex", json!("")),
            "grammar",
            "only the empty text",
        ),
        (
            grammar("regex", json!("[^\\s\\S]")),
            "grammar",
            "no text fits",
        ),
        (
            grammar("lark", json!("start: \"a\"\nfoo: \"")),
            "grammar",
            "2(7)",
        ),
        (
            grammar("lark", json!("start: \"a\" start")),
            "grammar",
            "always needs another",
        ),
        (grammar("bnf", json!("")), "grammar.type", "json_schema"),
        (
            grammar("regex", json!({})),
            "grammar.value",
            "must be a string",
        ),
        (
            grammar("json_schema", json!("{")),
            "grammar.value",
            "not valid JSON",
        ),
        (schema(json!({"not": {}})), "grammar", "\"not\""),
        (
            schema(json!({"type": "array", "uniqueItems": true})),
            "grammar",
            "uniqueItems",
        ),
        (
            schema(json!({"type": "string", "format": "color"})),
            "grammar",
            "color",
        ),
        (
            schema(json!({"type": "integer", "minimum": 2, "maximum": 1})),
            "grammar",
            "minimum (2)",
        ),
        (
            schema(
                json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}),
            ),
            "grammar",
            "always needs another",
        ),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "x"}}}}),
            "response_format",
            "Invalid type",
        ),
        (
            json!({"response_format": {"type": "xml"}}),
            "response_format.type",
            "json_object",
        ),
        (
            json!({"response_format": {"type": "json_schema"}}),
            "response_format.json_schema",
            "missing",
        ),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"strict": 1}}}),
            "response_format.json_schema.strict",
            "boolean",
        ),
        (both, "grammar", "exclude each other"),
        (
            json!({"grammar": "root ::= [a-z]+ item"}),
            "grammar",
            "'item' is used",
        ),
        (
            json!({"response_format": {"type": "json_object", "schema": {"type": "x"}}}),
            "response_format",
            "Invalid type",
        ),
        (
            json!({"response_format": {"type": "json_object", "schema": 3}}),
            "response_format",
            "must be an object",
        ),
        (json!({"grammar": 3}), "grammar", "a string or an object"),
    ] {
        for stream in [false, true] {
            let mut body = prompt(parameters.clone());
            body["stream"] = json!(stream);
            let (status, answer) = client.post(PLAIN, &body).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{body}: {answer}");
            let error = &answer["error"];
            assert_eq!(error["param"], param, "{answer}");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains(expected), "{message}");
        }
    }
    let lenient = json!({"type": "array", "items": {"const": 1}, "maxItems": 2, "uniqueItems": true, "x-guidance": {"lenient": true}});
    let (status, answer) = client.post(PLAIN, &prompt(schema(lenient))).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

#[tokio::test]
async fn max_tokens_inside_of_a_grammar_is_length() {
    let (_server, client) = start("");
    for max_tokens in 1..=12 {
        // The grammar forces all bytes from the fourth on.
        let mut parameters = grammar("regex", json!("[a-c]{3}0123456789"));
        parameters["max_tokens"] = json!(max_tokens);
        let (_, answer) = client.post(PLAIN, &prompt(parameters)).await;
        assert_eq!(text(&answer).len(), max_tokens, "{answer}");
        assert_eq!(answer["choices"][0]["finish_reason"], "length");
    }
    let mut parameters = grammar("regex", json!("[a-c]{3}0123456789"));
    parameters["max_tokens"] = json!(13);
    let (_, answer) = client.post(PLAIN, &prompt(parameters)).await;
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn forced_tokens_take_no_steps() {
    let (_server, client) = start("");
    let steps = "tenon_engine_steps_total";
    let forced = "tenon_grammar_forced_tokens_total";
    let long = "The quick brown fox, ".repeat(40);
    let regex = format!("[ab]{long}[cd]{long}");
    let stream = client
        .stream(PLAIN, &prompt(grammar("regex", json!(regex))))
        .await;
    assert_eq!(stream.text().len(), 2 + 2 * long.len());
    assert_eq!(stream.finish_reason(), Some("stop"));
    assert_eq!(client.metric(forced).await, 2.0 * long.len() as f64);
    // Each step takes as many forced tokens as the reader of the stream has room for.
    let steps = client.metric(steps).await as usize;
    assert!(steps < long.len() / 2, "{steps} steps");
}

#[tokio::test]
async fn a_grammar_is_compiled_once() {
    let (_server, client) = start("");
    let body = prompt(grammar("regex", json!("[a-z]{5}")));
    let answers = join_all((0..8).map(|_| client.post(PLAIN, &body))).await;
    assert!(answers.iter().all(|(status, _)| *status == StatusCode::OK));
    assert_eq!(
        client.metric("tenon_grammar_compile_seconds_count").await,
        1.0
    );
    let (hits, misses) = (
        client.metric("tenon_grammar_cache_hits_total").await,
        client.metric("tenon_grammar_cache_misses_total").await,
    );
    assert_eq!(hits + misses, 8.0);
    assert!(misses >= 1.0);
    assert_eq!(
        client.metric("tenon_grammar_mask_seconds_count").await,
        8.0 * 5.0
    );
}

#[tokio::test]
async fn the_cache_forgets_what_was_not_used_for_longest() {
    let (_server, client) = start("[grammar]\ncache_entries = 2\n");
    for regex in ["a+b", "c+d", "a+b", "e+f", "a+b", "c+d"] {
        client
            .post(PLAIN, &prompt(grammar("regex", json!(regex))))
            .await;
    }
    assert_eq!(client.metric("tenon_grammar_cache_misses_total").await, 4.0);
    assert_eq!(client.metric("tenon_grammar_cache_hits_total").await, 2.0);
}

#[tokio::test]
async fn a_seed_gives_the_same_answer_alone_and_in_a_crowd() {
    let (_server, client) = start("");
    let schema = json!({
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "size": {"type": "integer", "maximum": 1000, "minimum": 0}},
        "required": ["name", "size"], "additionalProperties": false,
    });
    let request = |seed: usize| {
        let mut body = prompt(grammar("json_schema", schema.clone()));
        body["seed"] = json!(seed);
        body
    };
    let mut alone = Vec::new();
    for seed in 0..8 {
        alone.push(client.stream(PLAIN, &request(seed)).await.text());
    }
    let bodies: Vec<_> = (0..8).map(request).collect();
    let together = join_all(bodies.iter().map(|body| client.stream(PLAIN, body))).await;
    let together: Vec<_> = together.iter().map(Stream::text).collect();
    assert_eq!(together, alone);
    let different: std::collections::BTreeSet<_> = alone.iter().collect();
    assert_eq!(different.len(), alone.len());
}

#[tokio::test]
async fn drafts_change_no_answer_that_has_a_grammar() {
    let (_with, with) = start("[engine]\nmax_draft_tokens = 16\n");
    let (_without, without) = start("[engine]\nmax_draft_tokens = 0\n");
    for (regex, temperature) in [
        ("(abcab|abcad|b)*c{8}", 1),
        ("[a-b]{200}", 0),
        ("(.|\\n){200}", 1),
    ] {
        let mut body = prompt(grammar("regex", json!(regex)));
        body["temperature"] = json!(temperature);
        body["max_tokens"] = json!(300);
        let (expected, stream) = (
            without.stream(PLAIN, &body).await,
            with.stream(PLAIN, &body).await,
        );
        assert_eq!(stream.text(), expected.text(), "{body}");
        assert_eq!(stream.finish_reason(), expected.finish_reason());
    }
}

/// A grammar with more and more parses as the text grows, so masks take longer and longer. The text cannot end early.
const SLOW: &str = "start: e{200}\ne: \"a\" | \"b\" | e e";

#[tokio::test]
async fn a_slow_grammar_fails_alone() {
    for (config, expected) in [
        ("mask_timeout_ms = 10\nmax_items = 100000000", "10 ms"),
        (
            "mask_timeout_ms = 60000\nmax_items = 1000",
            "Too many items",
        ),
    ] {
        let (_server, client) = start(&format!("[grammar]\n{config}\n"));
        let slow = prompt(grammar("lark", json!(SLOW)));
        let fast = prompt(grammar("regex", json!("[a-z]{1000}")));
        let others = join_all((0..4).map(|_| client.post(PLAIN, &fast)));
        let ((status, answer), others) = tokio::join!(client.post(PLAIN, &slow), others);
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(expected), "{message}");
        for (status, answer) in others {
            assert_eq!(status, StatusCode::OK);
            assert_eq!(text(&answer).len(), 1000);
        }
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let words: Vec<_> = (0..5000).map(|at| format!("word {at}")).collect();
    let schema = json!({"enum": words});
    for (config, expected) in [
        ("max_compile_fuel = 1000", "too big"),
        ("max_symbols = 2", "too big"),
        ("compile_timeout_ms = 1", "within 1 ms"),
    ] {
        let (_server, client) = start(&format!("[grammar]\n{config}\n"));
        let list = json!({"type": "array", "items": schema});
        let body = prompt(grammar("json_schema", list));
        let (status, answer) = client.post(PLAIN, &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{config}: {answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(expected), "{config}: {message}");
    }
}

#[tokio::test]
async fn whitespace_is_as_configured() {
    let schema =
        json!({"type": "array", "items": {"type": "null"}, "minItems": 30, "maxItems": 30});
    for (config, spaces) in [
        ("", false),
        ("[grammar]\njson_whitespace = \"flexible\"\n", true),
    ] {
        let (_server, client) = start(config);
        let mut body = prompt(grammar("json_schema", schema.clone()));
        body["max_tokens"] = json!(4000);
        let (_, answer) = client.post(PLAIN, &body).await;
        assert_eq!(
            text(&answer).contains(char::is_whitespace),
            spaces,
            "{answer}"
        );
    }
}

fn start(config: &str) -> (Server, Client) {
    let mut server = ServerOptions::echo(0).config(config).start();
    let client = server.client();
    (server, client)
}

fn grammar(kind: &str, value: Value) -> Value {
    json!({"grammar": {"type": kind, "value": value}})
}

/// A request whose logits are pseudo-random.
fn prompt(mut parameters: Value) -> Value {
    let defaults = json!({"prompt": "Once", "temperature": 1, "seed": 3, "max_tokens": 2000});
    for (name, value) in defaults.as_object().unwrap() {
        if parameters[name].is_null() {
            parameters[name] = value.clone();
        }
    }
    parameters
}
