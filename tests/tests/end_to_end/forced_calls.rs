//! Calls that must be made, and calls that the model has begun: they name existing tools, and their arguments fit the
//! schemas.

use std::collections::BTreeSet;

use futures_util::{StreamExt, stream};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon::markup::{FORMATS, ToolFormat};
use tenon_tests::{Client, ServerOptions, Stream, accepts_beginning, examples, start_echo};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn required_calls_fit_their_schemas_in_every_format() {
    for ToolFormat { name: format, .. } in FORMATS {
        let keys = format!("tool_format = \"{format}\"\nreasoning_tags = []");
        let (_server, client) = start_echo(&keys);
        for seed in 0..10 {
            let answer = post(&client, &request("required", json!({"seed": seed}))).await;
            let choice = &answer["choices"][0];
            assert_eq!(choice["finish_reason"], "tool_calls", "{format}: {answer}");
            check_calls(&choice["message"]);
        }
    }
}

#[tokio::test]
async fn a_named_function_is_called_once_and_the_answer_ends_as_any_other() {
    let (_server, client) = start_echo("");
    for seed in 0..10 {
        let named = json!({"type": "function", "function": {"name": "light"}});
        let body = request(named, json!({"seed": seed}));
        let answer = post(&client, &body).await;
        let choice = &answer["choices"][0];
        assert_eq!(choice["finish_reason"], "stop");
        let [(name, _)] = &check_calls(&choice["message"])[..] else {
            panic!("{answer}");
        };
        assert_eq!(name, "light");
        let stream = client.stream(CHAT, &body).await;
        assert_eq!(stream.finish_reason(), Some("stop"));
    }
}

#[tokio::test]
async fn without_parallel_calls_there_is_one() {
    let (_server, client) = start_echo("");
    let mut several = 0;
    for seed in 0..10 {
        let fields = json!({"seed": seed, "parallel_tool_calls": false});
        let answer = post(&client, &request("required", fields)).await;
        assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!(check_calls(&answer["choices"][0]["message"]).len(), 1);
        let answer = post(&client, &request("required", json!({"seed": seed}))).await;
        let calls = check_calls(&answer["choices"][0]["message"]).len();
        several += usize::from(calls > 1);
    }
    assert!(several > 0);
}

#[tokio::test]
async fn a_stream_has_the_calls_of_the_whole_answer() {
    let (_server, client) = start_echo("");
    for seed in 0..10 {
        let body = request("required", json!({"seed": seed}));
        let answer = post(&client, &body).await;
        let stream = client.stream(CHAT, &body).await;
        assert_eq!(stream.text(), "");
        assert_eq!(stream.finish_reason(), Some("tool_calls"));
        let expected = check_calls(&answer["choices"][0]["message"]);
        assert_eq!(streamed_calls(&stream), expected);
    }
}

#[tokio::test]
async fn each_answer_has_ids_of_its_own() {
    let (_server, client) = start_echo("");
    let answer = post(&client, &request("required", json!({"n": 8, "seed": 1}))).await;
    let mut ids = BTreeSet::new();
    for choice in answer["choices"].as_array().unwrap() {
        check_calls(&choice["message"]);
        for call in choice["message"]["tool_calls"].as_array().unwrap() {
            assert!(ids.insert(call["id"].as_str().unwrap()), "{answer}");
        }
    }
}

/// Wherever an answer is cut off, the markup of calls is not shown as text, and the arguments are the beginning of valid
/// ones.
#[tokio::test]
async fn a_cut_shows_nothing_but_calls() {
    let (_server, client) = start_echo("");
    let body = request("required", json!({"seed": 4}));
    let whole = post(&client, &body).await;
    let calls = check_calls(&whole["choices"][0]["message"]);
    assert!(calls.len() > 1, "{whole}");
    let tokens = whole["usage"]["completion_tokens"].as_u64().unwrap();
    for max_tokens in 1..tokens {
        let mut body = body.clone();
        body["max_tokens"] = json!(max_tokens);
        let answer = post(&client, &body).await;
        let choice = &answer["choices"][0];
        assert_eq!(choice["finish_reason"], "length");
        let content = choice["message"]["content"].as_str().unwrap_or_default();
        assert_eq!(content, "", "{max_tokens}: {answer}");
        let stream = client.stream(CHAT, &body).await;
        assert_eq!(stream.text(), "", "{max_tokens}");
        assert_eq!(stream.finish_reason(), Some("length"));
        let cut = streamed_calls(&stream);
        let is_beginning = cut
            .iter()
            .zip(&calls)
            .all(|((name, arguments), whole)| *name == whole.0 && whole.1.starts_with(arguments));
        assert!(is_beginning && cut.len() <= calls.len(), "{cut:?}");
    }
}

#[tokio::test]
async fn arguments_fit_every_kind_of_schema() {
    let mut server = ServerOptions::echo(0).start();
    check_examples(&server.client(), 1).await;
}

#[tokio::test]
async fn smollm2_makes_the_calls_it_has_to() {
    let mut server = ServerOptions::smollm2().start();
    let client = server.client();
    check_examples(&client, 30).await;
    let body = request("required", json!({"seed": 1}));
    let answer = post(&client, &body).await;
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    let calls = check_calls(&answer["choices"][0]["message"]);
    assert_eq!(streamed_calls(&client.stream(CHAT, &body).await), calls);
}

/// Checks every `step`th of the example schemas that describe objects.
async fn check_examples(client: &Client, step: usize) {
    let mut examples = examples();
    // A key that a pattern allows may come twice. That is valid JSON, but the key counts once.
    examples.retain(|e| e.schema["type"] == "object" && e.about != "minProperties");
    let schemas: Vec<_> = examples.into_iter().map(|example| example.schema).collect();
    let schemas: Vec<_> = schemas.iter().step_by(step).collect();
    let checks = schemas.iter().map(|schema| arguments_fit(client, schema));
    let finished: Vec<_> = stream::iter(checks).buffer_unordered(8).collect().await;
    let finished = finished.into_iter().filter(|finished| *finished).count();
    assert!(
        finished * 10 >= schemas.len() * 9,
        "{finished} of {} finished",
        schemas.len()
    );
}

/// Whether the arguments of a function with this schema are complete. Panics if complete arguments do not fit the schema, or
/// if incomplete ones cannot become valid.
async fn arguments_fit(client: &Client, schema: &Value) -> bool {
    let body = json!({
        "messages": [{"role": "user", "content": "Do it."}],
        "tools": [{"type": "function", "function": {"name": "do_it", "strict": true, "parameters": schema}}],
        "tool_choice": {"type": "function", "function": {"name": "do_it"}},
        "seed": 5, "temperature": 1, "max_tokens": 512,
    });
    let answer = post(client, &body).await;
    let choice = &answer["choices"][0];
    let arguments = &choice["message"]["tool_calls"][0]["function"]["arguments"];
    let arguments = arguments.as_str().expect("a call");
    let finished = choice["finish_reason"] == "stop";
    match finished {
        true => check_arguments(schema, arguments),
        false => assert!(
            accepts_beginning(schema, arguments),
            "{schema}: {arguments}"
        ),
    }
    finished
}

#[tokio::test]
async fn a_call_that_has_begun_fits_its_schema() {
    let (_server, client) = start_echo("");
    let call = |name: &str, arguments: &str| {
        format!(
            "Well.\n<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {arguments}}}\n</tool_call>"
        )
    };
    for (written, name) in [
        (call("weather", r#"{"city": 7, "days": "many"}"#), "weather"),
        (call("weather", "null"), "weather"),
        (call("lightning", r#"{"on": 1}"#), "light"),
    ] {
        let mut body = request("auto", json!({}));
        body["messages"][0]["content"] = json!(written);
        let answer = post(&client, &body).await;
        let message = &answer["choices"][0]["message"];
        assert!(
            message["content"].as_str().unwrap().starts_with("Well."),
            "{answer}"
        );
        assert_eq!(check_calls(message)[0].0, name);
    }
}

#[tokio::test]
async fn an_answer_in_json_may_also_be_a_call() {
    let (_server, client) = start_echo("");
    let format = json!({"type": "json_schema", "json_schema": {"name": "r", "schema": {
        "type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": false,
    }}});
    let ask = |text: &str, choice: &str| {
        let mut body = request(choice, json!({"response_format": format}));
        body["messages"][0]["content"] = json!(text);
        body
    };
    let call = "<tool_call>\n{\"name\": \"light\", \"arguments\": {\"on\": true}}\n</tool_call>";
    let answer = post(&client, &ask(r#"{"ok":true}"#, "auto")).await;
    let choice = &answer["choices"][0];
    assert_eq!(choice["message"]["content"], r#"{"ok":true}"#);
    assert_eq!(choice["finish_reason"], "stop");
    for (text, choice) in [(call, "auto"), (r#"{"ok":true}"#, "required")] {
        let mut body = ask(text, choice);
        body["parallel_tool_calls"] = json!(false);
        let answer = post(&client, &body).await;
        assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
        check_calls(&answer["choices"][0]["message"]);
    }
}

#[tokio::test]
async fn reasoning_may_come_before_a_call_that_has_to_be_made() {
    let (_server, client) = start_echo("reasoning_tags = ['<think>', '</think>']");
    let mut body = request("required", json!({}));
    body["messages"][0]["content"] = json!("<think>Hm.</think>\nI would rather not.");
    let answer = post(&client, &body).await;
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["reasoning_content"], "Hm.");
    check_calls(message);
}

#[tokio::test]
async fn schemas_that_cannot_be_followed_are_refused_by_place() {
    let (_server, client) = start_echo("");
    let unsatisfiable = json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 2, "maximum": 1}}, "required": ["a"]});
    let unsupported = json!({"type": "object", "properties": {"a": {"type": "array", "uniqueItems": true}}, "required": ["a"]});
    for (schema, strict, choice, expected) in [
        (&unsatisfiable, true, "auto", Some("minimum (2)")),
        (&unsupported, true, "required", Some("uniqueItems")),
        (&unsupported, true, "auto", Some("uniqueItems")),
        // The schema does not have to be followed exactly, because the tool is not `strict`.
        (&unsupported, false, "required", None),
        (&unsatisfiable, false, "required", None),
        (&unsatisfiable, false, "auto", None),
    ] {
        let mut body = request(choice, json!({"seed": 1, "max_tokens": 200}));
        let function = json!({"name": "wrong", "parameters": schema, "strict": strict});
        let tools = body["tools"].as_array_mut().unwrap();
        tools.push(json!({"type": "function", "function": function}));
        for stream in [false, true] {
            body["stream"] = json!(stream);
            let response = client.send(CHAT, &body).await;
            let Some(expected) = expected else {
                assert_eq!(response.status(), StatusCode::OK, "{body}");
                continue;
            };
            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{body}");
            let error = response.json::<Value>().await.unwrap()["error"].clone();
            assert_eq!(error["param"], "tools[3].function.parameters", "{error}");
            let message = error["message"].as_str().unwrap();
            assert!(
                message.contains("'wrong'") && message.contains(expected),
                "{message}"
            );
        }
    }
    let mut both = request("required", json!({}));
    both["grammar"] = json!({"type": "regex", "value": "a"});
    let (status, answer) = client.post(CHAT, &both).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(answer["error"]["param"], "grammar");
}

#[tokio::test]
async fn a_schema_that_cannot_be_followed_costs_its_own_function_only() {
    let (mut server, client) = start_echo("");
    let ahead = json!({
        "type": "object", "properties": {"v": {"type": "string", "pattern": "^(?=a)abc$"}}, "required": ["v"],
    });
    let function = json!({"name": "ahead", "parameters": ahead});
    let ahead = json!({"type": "function", "function": function});
    let call = |name: &str, arguments: &str| {
        format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {arguments}}}\n</tool_call>")
    };
    for choice in ["auto", "required"] {
        let mut body = request(
            choice,
            json!({"temperature": 0, "parallel_tool_calls": false}),
        );
        body["tools"].as_array_mut().unwrap().push(ahead.clone());
        body["messages"][0]["content"] = json!(call("light", "{\"on\": 5}"));
        let answer = post(&client, &body).await;
        check_calls(&answer["choices"][0]["message"]);

        body["messages"][0]["content"] = json!(call("ahead", "{\"v\": 5}"));
        let answer = post(&client, &body).await;
        let called = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
        assert_eq!(*called, json!({"name": "ahead", "arguments": "{\"v\": 5}"}));
    }
    let line = server.wait_for_log("calls are not bound to their function's schema");
    // Names and schemas are the client's.
    assert!(line.contains("function.parameters"), "{line}");
    assert!(!line.contains("ahead") && !line.contains("(?=a)"), "{line}");
}

#[tokio::test]
async fn arguments_are_those_that_the_function_names() {
    let (_server, client) = start_echo("");
    for parameters in [
        json!({"type": "object", "properties": {}}),
        json!({"type": "object"}),
    ] {
        let mut body = request("required", json!({"parallel_tool_calls": false}));
        let function = json!({"name": "ping", "parameters": parameters});
        body["tools"] = json!([{"type": "function", "function": function}]);
        let call =
            "<tool_call>\n{\"name\": \"ping\", \"arguments\": {\"host\": \"a\"}}\n</tool_call>";
        body["messages"][0]["content"] = json!(call);
        let answer = post(&client, &body).await;
        let called = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
        assert_eq!(*called, json!({"name": "ping", "arguments": "{}"}));
    }
}

#[tokio::test]
async fn calls_in_bare_json_fit_their_schemas() {
    let (_server, client) = start_echo("tool_format = 'llama3'");
    for written in [
        r#"{"name": "light", "parameters": {}}"#,
        r#"{"name": "light", "parameters": {"on": "yes"}}"#,
        r#" {"type": "function", "name":"light","arguments":{"of":1}}"#,
    ] {
        let fields = json!({"temperature": 0, "parallel_tool_calls": false});
        let mut body = request("auto", fields);
        body["messages"][0]["content"] = json!(written);
        let answer = post(&client, &body).await;
        assert_eq!(check_calls(&answer["choices"][0]["message"])[0].0, "light");
    }
    let mut body = request("auto", json!({"temperature": 0}));
    body["messages"][0]["content"] = json!(r#"{"name": "Ada", "age": 36}"#);
    let answer = post(&client, &body).await;
    let content = &answer["choices"][0]["message"]["content"];
    assert_eq!(content, r#"{"name": "Ada", "age": 36}"#);
}

#[tokio::test]
async fn a_call_that_comes_again_ends_the_answer() {
    let (_server, client) = start_echo("");
    let call = |on: bool| {
        format!(
            "<tool_call>\n{{\"name\": \"light\", \"arguments\": {{\"on\": {on}}}}}\n</tool_call>"
        )
    };
    let written = [true, false, true, true, true].map(call).join("\n");
    let mut body = request("required", json!({"temperature": 0}));
    body["messages"][0]["content"] = json!(written);
    let answer = post(&client, &body).await;
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(check_calls(&answer["choices"][0]["message"]).len(), 3);
    let stream = client.stream(CHAT, &body).await;
    assert_eq!(streamed_calls(&stream).len(), 3);
    assert_eq!(stream.finish_reason(), Some("tool_calls"));
}

/// The functions and their schemas.
fn functions() -> [(&'static str, Value); 3] {
    let closed = |properties: Value, required: Value| {
        json!({
            "type": "object", "properties": properties, "required": required, "additionalProperties": false,
        })
    };
    [
        (
            "weather",
            closed(
                json!({"city": {"type": "string", "maxLength": 12}, "days": {"type": "integer", "minimum": 1, "maximum": 14}}),
                json!(["city"]),
            ),
        ),
        (
            "light",
            closed(json!({"on": {"type": "boolean"}}), json!(["on"])),
        ),
        ("nothing", closed(json!({}), json!([]))),
    ]
}

/// A chat with these functions. Echo's answers are random, apart from what the message makes likely.
fn request(choice: impl Into<Value>, fields: Value) -> Value {
    let tools = functions().map(|(name, schema)| {
        // A function without parameters need not state that.
        let function = match name {
            "nothing" => json!({"name": name}),
            _ => json!({"name": name, "parameters": schema}),
        };
        json!({"type": "function", "function": function})
    });
    let mut body = json!({
        "messages": [{"role": "user", "content": "Do it."}],
        "tools": tools, "tool_choice": choice.into(), "temperature": 1, "seed": 1, "max_tokens": 2000,
    });
    for (key, value) in fields.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

async fn post(client: &Client, body: &Value) -> Value {
    let (status, answer) = client.post(CHAT, body).await;
    assert_eq!(status, StatusCode::OK, "{body}: {answer}");
    answer
}

/// Checks each call of a message. Returns names and arguments; there is at least one call.
fn check_calls(message: &Value) -> Vec<(String, String)> {
    let calls = message["tool_calls"].as_array().expect("calls");
    assert!(!calls.is_empty());
    let calls = calls.iter().map(|call| {
        assert_eq!(call["type"], "function");
        assert!(call["id"].as_str().unwrap().starts_with("call_"));
        let [name, arguments] =
            ["name", "arguments"].map(|key| call["function"][key].as_str().unwrap().to_owned());
        let functions = functions();
        let function = functions.iter().find(|(known, _)| *known == name);
        check_arguments(&function.expect("a known function").1, &arguments);
        (name, arguments)
    });
    calls.collect()
}

#[track_caller]
fn check_arguments(schema: &Value, arguments: &str) {
    let value: Value =
        serde_json::from_str(arguments).unwrap_or_else(|e| panic!("{arguments}: {e}"));
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(schema)
        .unwrap();
    if let Err(error) = validator.validate(&value) {
        panic!("{schema}: {arguments}: {error}");
    }
}

/// Checks the pieces of a stream's calls. Returns names and arguments of the calls.
fn streamed_calls(stream: &Stream) -> Vec<(String, String)> {
    let mut calls: Vec<(String, String)> = Vec::new();
    let mut ids = BTreeSet::new();
    let deltas = stream
        .chunks
        .iter()
        .map(|chunk| &chunk["choices"][0]["delta"]);
    for delta in deltas {
        let Some(pieces) = delta.get("tool_calls") else {
            continue;
        };
        let pieces = pieces.as_array().unwrap();
        assert!(!pieces.is_empty(), "{delta}");
        for piece in pieces {
            let index = piece["index"].as_u64().unwrap() as usize;
            let function = &piece["function"];
            if index == calls.len() {
                assert_eq!(piece["type"], "function");
                assert!(ids.insert(piece["id"].as_str().unwrap()));
                let name = function["name"].as_str().unwrap();
                calls.push((name.to_owned(), String::new()));
            } else {
                let rest = [piece.get("id"), piece.get("type"), function.get("name")];
                assert_eq!(rest, [None; 3], "{piece}");
            }
            calls[index].1 += function["arguments"].as_str().unwrap();
        }
    }
    calls
}
