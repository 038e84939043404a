//! Anthropic's Messages API over the wire. Echo repeats the user's last message, so the message is what the model "writes".

use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{Client, ServerOptions, start_echo};

const MESSAGES: &str = "/v1/messages";
const COUNT_TOKENS: &str = "/v1/messages/count_tokens";

#[tokio::test]
async fn a_whole_answer_has_every_key() {
    let (_server, client) = start_echo("");
    let answer = post(&client, &ask("Hi", json!({}))).await;
    let id = answer["id"].as_str().unwrap();
    assert!(id.starts_with("msg_"), "{id}");
    let expected = json!({
        "id": id, "type": "message", "role": "assistant", "model": "echo",
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {
            "input_tokens": 6, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
            "output_tokens": 2,
        },
    });
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn a_stream_has_its_events_in_order() {
    let (_server, client) = start_echo("");
    let chunks = stream(&client, &ask("Hé", json!({}))).await;
    let message = &chunks[0]["message"];
    assert_eq!(message["content"], json!([]));
    assert_eq!(message["stop_reason"], json!(null));
    assert_eq!(message["usage"]["input_tokens"], 7);
    let delta = |text: &str| {
        let delta = json!({"type": "text_delta", "text": text});
        json!({"type": "content_block_delta", "index": 0, "delta": delta})
    };
    let usage = json!({
        "input_tokens": 7, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
        "output_tokens": 3,
    });
    let end = json!({"stop_reason": "end_turn", "stop_sequence": null});
    let expected = [
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        delta("H"),
        delta("é"),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": end, "usage": usage}),
        json!({"type": "message_stop"}),
    ];
    assert_eq!(chunks, expected);
}

#[tokio::test]
async fn a_stream_begins_with_the_cached_tokens() {
    let (_server, client) = start_echo("");
    let body = ask(&"Read the file. ".repeat(20), json!({}));
    post(&client, &body).await;
    let events = stream(&client, &body).await;
    let usage = &events[0]["message"]["usage"];
    let end = &events[events.len() - 2]["usage"];
    for key in ["input_tokens", "cache_read_input_tokens"] {
        assert_eq!(usage[key], end[key], "{end}");
    }
    let cached = usage["cache_read_input_tokens"].as_u64().unwrap();
    assert!(cached > 200, "{usage}");
}

#[tokio::test]
async fn a_stream_that_is_put_together_is_the_whole_answer() {
    let (_server, client) = start_echo("reasoning_tags = ['<think>', '</think>']");
    let call = |city: &str| {
        format!(
            "<tool_call>\n{{\"name\": \"weather\", \"arguments\": {{\"city\": \"{city}\"}}}}\n</tool_call>"
        )
    };
    let written = format!("<think>Hm.</think>Well. {}\n{}", call("Köln"), call("Bonn"));
    let body = ask(
        &written,
        json!({"tools": [weather()], "thinking": {"type": "adaptive"}}),
    );
    let answer = post(&client, &body).await;
    let content = answer["content"].as_array().unwrap();
    let [thinking, text, first, second] = &content[..] else {
        panic!("{answer}")
    };
    assert_eq!(thinking["thinking"], "Hm.");
    assert_eq!(text["text"], "Well.");
    assert_eq!(first["input"], json!({"city": "Köln"}));
    assert_eq!(second["input"], json!({"city": "Bonn"}));
    assert_eq!(second["name"], "weather");
    assert!(first["id"].as_str().unwrap().starts_with("toolu_"));
    assert_ne!(first["id"], second["id"]);
    assert_eq!(answer["stop_reason"], "tool_use");
    assert!(answer["usage"]["output_tokens_details"]["thinking_tokens"].as_u64() > Some(3));
    let chunks = stream(&client, &body).await;
    check_order(&chunks);
    assert_eq!(without_ids(&put_together(&chunks)), without_ids(content));
    assert_eq!(chunks[chunks.len() - 2]["delta"]["stop_reason"], "tool_use");
}

#[tokio::test]
async fn reasoning_may_be_omitted() {
    let (_server, client) = start_echo("reasoning_tags = ['<think>', '</think>']");
    let thinking = json!({"type": "enabled", "budget_tokens": 1024, "display": "omitted"});
    let body = ask("<think>Hm.</think>Yes.", json!({"thinking": thinking}));
    let expected = json!([
        {"type": "thinking", "thinking": "", "signature": "unsigned"},
        {"type": "text", "text": "Yes."},
    ]);
    assert_eq!(post(&client, &body).await["content"], expected);
    let chunks = stream(&client, &body).await;
    check_order(&chunks);
    assert_eq!(Value::from(put_together(&chunks)), expected);
}

#[tokio::test]
async fn an_answer_says_why_it_ended() {
    let (_server, client) = start_echo("");
    for (fields, text, reason, sequence) in [
        (json!({}), "one, two", "end_turn", json!(null)),
        (json!({"max_tokens": 3}), "one", "max_tokens", json!(null)),
        (
            json!({"stop_sequences": ["x", ", t"]}),
            "one",
            "stop_sequence",
            json!(", t"),
        ),
    ] {
        let body = ask("one, two", fields);
        let answer = post(&client, &body).await;
        assert_eq!(answer["content"][0]["text"], text);
        let end = json!({"stop_reason": reason, "stop_sequence": sequence});
        assert_eq!(answer["stop_reason"], end["stop_reason"]);
        assert_eq!(answer["stop_sequence"], end["stop_sequence"]);
        let chunks = stream(&client, &body).await;
        assert_eq!(chunks[chunks.len() - 2]["delta"], end);
    }
}

#[tokio::test]
async fn calls_that_must_be_made_fit_their_schema() {
    let (_server, client) = start_echo("");
    let schema = json!({
        "type": "object",
        "properties": {"city": {"enum": ["Bonn", "Berlin"]}, "on": {"type": "boolean"}},
        "required": ["city", "on"],
        "additionalProperties": false,
    });
    let tools = json!([weather(), {"name": "light", "input_schema": schema}]);
    let judge = jsonschema::validator_for(&schema).unwrap();
    for choice in [
        json!({"type": "tool", "name": "light"}),
        json!({"type": "any", "disable_parallel_tool_use": true}),
    ] {
        let tools = match choice["type"] == "any" {
            true => json!([tools[1]]),
            false => tools.clone(),
        };
        let fields =
            json!({"tools": tools, "tool_choice": choice, "temperature": 1, "max_tokens": 500});
        let answer = post(&client, &ask("Light!", fields)).await;
        let [call] = &answer["content"].as_array().unwrap()[..] else {
            panic!("{answer}")
        };
        assert_eq!(call["name"], "light");
        assert!(judge.is_valid(&call["input"]), "{answer}");
        assert_eq!(answer["stop_reason"], "tool_use");
    }
}

#[tokio::test]
async fn an_answer_may_have_to_follow_a_schema() {
    let (_server, client) = start_echo("");
    let schema = json!({"enum": ["yes", "no"]});
    let format = json!({"type": "json_schema", "schema": schema});
    let fields = json!({"output_config": {"format": format}, "temperature": 1});
    let answer = post(&client, &ask("Yes?", fields)).await;
    let text = answer["content"][0]["text"].as_str().unwrap();
    assert!(["\"yes\"", "\"no\""].contains(&text), "{answer}");

    let format = json!({"type": "json_schema", "schema": {"type": "array", "uniqueItems": true}});
    let error = refused(
        &client,
        &ask("Yes?", json!({"output_config": {"format": format}})),
    )
    .await;
    assert!(error.starts_with("'output_config.format'"), "{error}");
}

#[tokio::test]
async fn a_call_that_is_cut_off_has_its_arguments_as_text() {
    let (_server, client) = start_echo("");
    let written =
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Köln\"}}\n</tool_call>";
    let cut = "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city".len();
    let body = ask(written, json!({"tools": [weather()], "max_tokens": cut}));
    let answer = post(&client, &body).await;
    assert_eq!(answer["stop_reason"], "max_tokens");
    let arguments = answer["content"][0]["input"]["INVALID_JSON"]
        .as_str()
        .unwrap();
    assert!(
        arguments.starts_with("{\"c") && "{\"city".starts_with(arguments),
        "{answer}"
    );
}

/// A conversation of an agent, with the lines that Claude Code puts into it.
#[tokio::test]
async fn later_turns_compute_only_what_is_new() {
    let (_server, client) = start_echo("");
    let billing = |hash: u32| format!("x-anthropic-billing-header: cc_version=2; cch={hash};");
    let system = |hash: u32| {
        json!([
            {"type": "text", "text": billing(hash)},
            {"type": "text", "text": "You are an agent. ".repeat(20), "cache_control": {"type": "ephemeral"}},
        ])
    };
    let mut messages = vec![json!({"role": "user", "content": "Read the file."})];
    let mut read_before = 0;
    for turn in 0..3 {
        let body = json!({
            "model": "", "max_tokens": 64000, "temperature": 0,
            "system": system(turn), "messages": messages, "tools": [weather()],
        });
        let count = client.post(COUNT_TOKENS, &body).await.1["input_tokens"].as_u64();
        let answer = post(&client, &body).await;
        let usage = &answer["usage"];
        let (computed, read) = (
            usage["input_tokens"].as_u64().unwrap(),
            usage["cache_read_input_tokens"].as_u64().unwrap(),
        );
        assert_eq!(Some(computed + read), count, "turn {turn}: {usage}");
        assert!(turn == 0 || read > read_before, "turn {turn}: {usage}");
        assert!(turn == 0 || computed < 200, "turn {turn}: {usage}");
        read_before = read;
        let call = json!({"type": "tool_use", "id": format!("toolu_{turn}"), "name": "weather", "input": {"city": "Bonn"}});
        let result = json!({"type": "tool_result", "tool_use_id": format!("toolu_{turn}"), "content": "dry", "is_error": turn == 1});
        messages.push(json!({"role": "assistant", "content": [answer["content"][0], call]}));
        messages.push(json!({"role": "user", "content": [result]}));
        messages.push(json!({"role": "system", "content": "Tokens left: 1000."}));
    }
}

#[tokio::test]
async fn an_answer_goes_on_with_the_assistant_s_message() {
    let (_server, client) = start_echo("");
    let messages = json!([
        {"role": "user", "content": "Hello there."},
        {"role": "assistant", "content": "Hello"},
    ]);
    let body = json!({"max_tokens": 50, "temperature": 0, "messages": messages});
    assert_eq!(post(&client, &body).await["content"][0]["text"], " there.");
}

#[tokio::test]
async fn an_alias_stands_for_the_names_of_a_client() {
    let mut server = ServerOptions::new(&["tenon_plugin_echo"])
        .file("a.echo", "")
        .file("b.echo", "")
        .config(
            "[[models]]\npath = 'a.echo'\naliases = ['claude-*']\n\
             [[models]]\npath = 'b.echo'\naliases = ['claude-haiku']\n",
        )
        .start();
    server.wait_for_log(r#"model ready model="b""#);
    let client = server.client();
    for (name, model) in [("claude-opus-5", "a"), ("claude-haiku", "b"), ("b", "b")] {
        let answer = post(&client, &ask("Hi", json!({"model": name}))).await;
        assert_eq!(answer["model"], model, "{name}");
    }
    let (status, answer) = client
        .post(MESSAGES, &ask("Hi", json!({"model": "gpt"})))
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(answer["error"]["type"], "not_found_error");
}

#[tokio::test]
async fn what_is_too_much_is_clamped_where_clients_ask_for_it_and_refused_elsewhere() {
    let mut server = ServerOptions::echo(0)
        .config("[engine]\nmax_output_tokens = 2\n")
        .start();
    let client = server.client();
    let answer = post(&client, &ask("Hello", json!({"max_tokens": 64000}))).await;
    assert_eq!(answer["content"][0]["text"], "He");
    assert_eq!(answer["stop_reason"], "max_tokens");
    let error = refused(&client, &ask(&"a".repeat(9000), json!({}))).await;
    assert!(error.starts_with("prompt is too long"), "{error}");
    assert!(error.contains("8192"), "{error}");
    for (field, value) in [
        ("max_tokens", json!(0)),
        ("temperature", json!(3)),
        ("thread", json!({})),
    ] {
        let error = refused(&client, &ask("Hi", json!({field: value}))).await;
        assert!(error.starts_with(&format!("'{field}'")), "{error}");
    }
}

#[tokio::test]
async fn smollm2_answers_and_counts() {
    let mut server = ServerOptions::smollm2().start();
    let client = server.client();
    let body = ask("What is the capital of France?", json!({"max_tokens": 32}));
    let (_, count) = client.post(COUNT_TOKENS, &body).await;
    let answer = post(&client, &body).await;
    let (_, chat) = client.post("/v1/chat/completions", &body).await;
    let text = &chat["choices"][0]["message"]["content"];
    assert_eq!(answer["content"][0]["text"], *text);
    assert_eq!(answer["usage"]["input_tokens"], count["input_tokens"]);
    let chunks = stream(&client, &body).await;
    check_order(&chunks);
    assert_eq!(Value::from(put_together(&chunks)), answer["content"]);
}

/// A request with one message of the user. Its answer is this text.
fn ask(text: &str, fields: Value) -> Value {
    let mut body = json!({
        "model": "", "max_tokens": 200, "temperature": 0,
        "messages": [{"role": "user", "content": text}],
    });
    for (key, value) in fields.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn weather() -> Value {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    json!({"name": "weather", "description": "d", "input_schema": schema})
}

async fn post(client: &Client, body: &Value) -> Value {
    let (status, answer) = client.post(MESSAGES, body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer
}

/// The data of a stream's events. There is no `[DONE]`.
async fn stream(client: &Client, body: &Value) -> Vec<Value> {
    let stream = client.stream(MESSAGES, body).await;
    assert!(!stream.done);
    stream.chunks
}

/// The message of an error.
async fn refused(client: &Client, body: &Value) -> String {
    let (status, answer) = client.post(MESSAGES, body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    assert_eq!(answer["type"], "error");
    assert_eq!(answer["error"]["type"], "invalid_request_error");
    answer["error"]["message"].as_str().unwrap().to_owned()
}

/// Checks that blocks begin and end one after the other, with indexes from 0.
fn check_order(chunks: &[Value]) {
    let mut blocks = 0;
    let mut is_open = false;
    let kinds: Vec<_> = chunks
        .iter()
        .map(|chunk| chunk["type"].as_str().unwrap())
        .collect();
    for (chunk, kind) in chunks.iter().zip(&kinds) {
        let (opens, closes) = (
            *kind == "content_block_start",
            *kind == "content_block_stop",
        );
        if opens || closes || *kind == "content_block_delta" {
            assert_eq!(chunk["index"], blocks, "{kinds:?}");
            assert_eq!(is_open, !opens, "{kinds:?}");
        }
        is_open = opens || is_open && !closes;
        blocks += u32::from(closes);
    }
    assert!(!is_open);
    assert_eq!(kinds[0], "message_start");
    assert_eq!(kinds[kinds.len() - 2..], ["message_delta", "message_stop"]);
}

/// The blocks that the events make up.
fn put_together(chunks: &[Value]) -> Vec<Value> {
    let mut blocks: Vec<Value> = Vec::new();
    let mut arguments = String::new();
    for chunk in chunks {
        let (block, delta) = (blocks.last_mut(), &chunk["delta"]);
        match (chunk["type"].as_str().unwrap(), block) {
            ("content_block_start", _) => blocks.push(chunk["content_block"].clone()),
            ("content_block_delta", Some(block)) => {
                arguments += delta["partial_json"].as_str().unwrap_or_default();
                for key in ["text", "thinking", "signature"] {
                    if let Some(more) = delta[key].as_str() {
                        block[key] = json!(block[key].as_str().unwrap().to_owned() + more);
                    }
                }
            }
            ("content_block_stop", Some(block)) if block["type"] == "tool_use" => {
                block["input"] = serde_json::from_str(&std::mem::take(&mut arguments)).unwrap();
            }
            _ => {}
        }
    }
    blocks
}

fn without_ids(blocks: &[Value]) -> Vec<Value> {
    let without = |block: &Value| {
        let mut block = block.clone();
        block.as_object_mut().unwrap().remove("id");
        block
    };
    blocks.iter().map(without).collect()
}
