//! The Responses API. Echo repeats the user's last message, so the message is what the model "writes".

use regex::Regex;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tenon_tests::{Client, Event, ServerOptions, start_echo};

const RESPONSES: &str = "/v1/responses";
const THINKS: &str = "reasoning_tags = ['<think>', '</think>']";

#[tokio::test]
async fn a_whole_response_has_every_key() {
    let (_server, client) = start_echo("");
    let body = ask(
        "Hi",
        json!({"metadata": {"a": "b"}, "instructions": "S", "user": "me"}),
    );
    let response = post(&client, &body).await;
    let keys: Vec<_> = response.as_object().unwrap().keys().collect();
    let expected = [
        "id",
        "object",
        "created_at",
        "status",
        "completed_at",
        "error",
        "incomplete_details",
        "model",
        "system_fingerprint",
        "output",
        "usage",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "text",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "reasoning",
        "truncation",
        "top_logprobs",
        "temperature",
        "top_p",
        "presence_penalty",
        "frequency_penalty",
        "previous_response_id",
        "store",
        "background",
        "service_tier",
        "metadata",
        "prompt_cache_key",
        "safety_identifier",
        "user",
    ];
    assert_eq!(keys, expected);
    assert!(response["id"].as_str().unwrap().starts_with("resp_"));
    assert!(response["completed_at"].as_u64() >= response["created_at"].as_u64());
    let id = &response["output"][0]["id"];
    assert!(id.as_str().unwrap().starts_with("msg_"));
    assert_eq!(response["output"], json!([message(id, "Hi")]));
    for (key, value) in [
        ("object", json!("response")),
        ("status", json!("completed")),
        ("model", json!("echo")),
        ("instructions", json!("S")),
        ("temperature", json!(0.0)),
        ("tool_choice", json!("auto")),
        (
            "text",
            json!({"format": {"type": "text"}, "verbosity": "medium"}),
        ),
        ("metadata", json!({"a": "b"})),
        ("user", json!("me")),
    ] {
        assert_eq!(response[key], value, "{key}");
    }
    let usage = &response["usage"];
    assert_eq!(usage["output_tokens"], 2);
    assert_eq!(
        usage["input_tokens"].as_u64().unwrap() + 2,
        usage["total_tokens"]
    );
}

#[tokio::test]
async fn a_stream_makes_up_the_whole_response() {
    let (_server, client) = start_echo(THINKS);
    let call = r#"<tool_call>{"name": "weather", "arguments": {"city": "Köln"}}</tool_call>"#;
    let patch = r#"<tool_call>{"name": "patch", "arguments": {"input": "a\n\"é\""}}</tool_call>"#;
    for written in [
        "Hé".to_owned(),
        "<think>Hm.</think>Yes.".to_owned(),
        format!("<think>Hm.</think>I look.\n{call}{patch}"),
        String::new(),
    ] {
        for max_output_tokens in [1, 9, 40, 80, 400] {
            let fields = json!({"tools": tools(), "max_output_tokens": max_output_tokens});
            let body = ask(&written, fields);
            let whole = post(&client, &body).await;
            let streamed = stream(&client, &body).await;
            assert_eq!(without_ids(&streamed), without_ids(&whole), "{written}");
        }
    }
}

#[tokio::test]
async fn reasoning_is_an_item_of_its_own() {
    let (_server, client) = start_echo(THINKS);
    let written = "<think>\nLet me see.\n</think>\n\nYes.";
    let include = json!({"include": ["reasoning.encrypted_content"], "reasoning": {"effort": "low", "summary": "auto"}});
    let response = post(&client, &ask(written, include)).await;
    let [reasoning, answer] = &response["output"].as_array().unwrap()[..] else {
        panic!("{response}");
    };
    assert_eq!(reasoning["type"], "reasoning");
    assert_eq!(reasoning["summary"], json!([]));
    let content = json!([{"type": "reasoning_text", "text": "Let me see."}]);
    assert_eq!(reasoning["content"], content);
    assert_eq!(*answer, message(&answer["id"], "Yes."));
    let details = &response["usage"]["output_tokens_details"];
    assert!(
        details["reasoning_tokens"].as_u64().unwrap() > 10,
        "{details}"
    );
    assert_eq!(
        response["reasoning"],
        json!({"effort": "low", "summary": "auto"})
    );
    // Either form of the reasoning comes back in the next turn.
    let sealed = json!({"type": "reasoning", "summary": [], "encrypted_content": reasoning["encrypted_content"]});
    for reasoning in [reasoning.clone(), sealed] {
        let mut input = json!([{"role": "user", "content": written}, reasoning, answer]);
        input
            .as_array_mut()
            .unwrap()
            .push(json!({"role": "user", "content": "And now?"}));
        let next = post(&client, &json!({"input": input, "temperature": 0})).await;
        assert_eq!(text(&next), "And now?");
    }
}

#[tokio::test]
async fn a_conversation_with_calls_goes_on_with_the_items_as_they_came() {
    let (_server, client) = start_echo("");
    let written = "I look.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bonn\"}}\n</tool_call>\n<tool_call>\n{\"name\": \"patch\", \"arguments\": {\"input\": \"a\\nb\"}}\n</tool_call>";
    let response = post(&client, &ask(written, json!({"tools": tools()}))).await;
    let output = response["output"].as_array().unwrap();
    let [said, call, custom] = &output[..] else {
        panic!("{response}");
    };
    assert_eq!(said["content"][0]["text"], "I look.");
    assert_eq!(call["type"], "function_call");
    assert_eq!(call["name"], "weather");
    assert_eq!(call["arguments"], "{\"city\": \"Bonn\"}");
    assert_eq!(custom["type"], "custom_tool_call");
    assert_eq!(custom["input"], "a\nb");
    let mut input = vec![json!({"role": "user", "content": written})];
    input.extend(output.iter().cloned());
    input
        .push(json!({"type": "function_call_output", "call_id": call["call_id"], "output": "dry"}));
    let parts = json!([{"type": "input_text", "text": "done"}]);
    input.push(
        json!({"type": "custom_tool_call_output", "call_id": custom["call_id"], "output": parts}),
    );
    let body = json!({"input": input, "tools": tools(), "temperature": 0});
    let response = post(&client, &body).await;
    // Echo's template does not support tools, so the results are sent as messages of the user.
    let results = "<tool_response>\ndry\n</tool_response>\n<tool_response>\ndone\n</tool_response>";
    assert_eq!(text(&response), results);
    // What the model read and wrote in the first turn is computed once.
    let usage = &response["usage"];
    let cached = usage["input_tokens_details"]["cached_tokens"]
        .as_u64()
        .unwrap();
    assert!(cached as usize > written.len(), "{usage}");
}

#[tokio::test]
async fn calls_that_must_be_made_fit_their_schemas_and_grammars() {
    let (_server, client) = start_echo("");
    let time = Regex::new("^[0-2][0-9]:[0-5][0-9]$").unwrap();
    let patch = Regex::new("^([+-]\"[a-z]\"\n){1,4}$").unwrap();
    let tools = json!([
        {"type": "function", "name": "light", "parameters": {
            "type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"],
        }},
        {"type": "custom", "name": "wait", "format": {
            "type": "grammar", "syntax": "regex", "definition": "[0-2][0-9]:[0-5][0-9]",
        }},
        {"type": "custom", "name": "patch", "format": {
            "type": "grammar", "syntax": "lark",
            "definition": "start: line~1..4\nline: (\"+\" | \"-\") /\"[a-z]\"/ LF\n%import common.LF",
        }},
    ]);
    let mut names = Vec::new();
    for seed in 0..30 {
        let fields =
            json!({"tools": tools, "tool_choice": "required", "temperature": 1, "seed": seed});
        let body = ask("Do it.", fields);
        let response = post(&client, &body).await;
        let output = response["output"].as_array().unwrap();
        assert!(!output.is_empty(), "{response}");
        for item in output {
            names.push(item["name"].clone());
            match item["type"].as_str() {
                Some("function_call") => {
                    let arguments = item["arguments"].as_str().unwrap();
                    let arguments: Value = serde_json::from_str(arguments).unwrap();
                    assert!(arguments["on"].is_boolean(), "{item}");
                }
                Some("custom_tool_call") => {
                    let fits = if item["name"] == "wait" {
                        &time
                    } else {
                        &patch
                    };
                    assert!(fits.is_match(item["input"].as_str().unwrap()), "{item}");
                }
                _ => panic!("{item}"),
            }
        }
        assert_eq!(
            without_ids(&stream(&client, &body).await),
            without_ids(&response)
        );
    }
    assert!(
        ["light", "wait", "patch"]
            .iter()
            .all(|name| names.contains(&json!(name)))
    );
}

#[tokio::test]
async fn a_choice_limits_the_tools_that_are_called() {
    let (_server, client) = start_echo("");
    let tools = json!([
        {"type": "function", "name": "light"},
        {"type": "namespace", "name": "home", "tools": [{"type": "function", "name": "light"}]},
    ]);
    let name = |item: &Value| (item["namespace"].clone(), item["name"].clone());
    let named = json!({"type": "function", "namespace": "home", "name": "light"});
    for choice in [
        named.clone(),
        json!({"type": "allowed_tools", "mode": "required", "tools": [named]}),
    ] {
        for seed in 0..5 {
            let fields =
                json!({"tools": tools, "tool_choice": choice, "temperature": 1, "seed": seed});
            let response = post(&client, &ask("Do it.", fields)).await;
            assert_eq!(response["tool_choice"], choice);
            for item in response["output"].as_array().unwrap() {
                assert_eq!(name(item), (json!("home"), json!("light")), "{item}");
            }
        }
    }
    // The model may call the allowed tools, or answer with text.
    let call = |name: &str| {
        format!("<tool_call>{{\"name\": \"{name}\", \"arguments\": {{}}}}</tool_call>")
    };
    let allowed = json!({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "light"}]});
    for (written, kind) in [
        (call("light"), "function_call"),
        ("Hi".to_owned(), "message"),
    ] {
        let fields = json!({"tools": tools, "tool_choice": allowed});
        let response = post(&client, &ask(&written, fields)).await;
        assert_eq!(response["output"][0]["type"], kind, "{response}");
    }
}

#[tokio::test]
async fn a_text_has_the_form_that_was_asked_for() {
    let (_server, client) = start_echo("");
    let schema = json!({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": false});
    let format = json!({"type": "json_schema", "name": "n", "schema": schema, "strict": true});
    for seed in 0..5 {
        let fields = json!({"text": {"format": format}, "temperature": 1, "seed": seed});
        let response = post(&client, &ask("Hi", fields)).await;
        let value: Value = serde_json::from_str(text(&response)).unwrap();
        assert!(value["a"].is_boolean(), "{value}");
        assert_eq!(response["text"]["format"], format);
    }
    let loose = json!({"type": "array", "uniqueItems": true});
    let format = json!({"type": "json_schema", "name": "n", "schema": loose});
    let fields =
        json!({"text": {"format": format}, "temperature": 1, "seed": 1, "max_output_tokens": 200});
    let response = post(&client, &ask("Hi", fields)).await;
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.contains("uniqueItems"), "{warning}");
    for (format, param) in [
        (
            json!({"type": "json_schema", "name": "n"}),
            "text.format.schema",
        ),
        (
            json!({"type": "json_schema", "schema": loose, "strict": true}),
            "text.format",
        ),
    ] {
        check_refused(
            &client,
            ask("Hi", json!({"text": {"format": format}})),
            param,
        )
        .await;
    }
}

#[tokio::test]
async fn a_response_that_is_cut_off_says_why() {
    let (_server, client) = start_echo("");
    let body = ask("Hello there", json!({"max_output_tokens": 5}));
    let response = post(&client, &body).await;
    assert_eq!(response["status"], "incomplete");
    assert_eq!(
        response["incomplete_details"],
        json!({"reason": "max_output_tokens"})
    );
    assert_eq!(response["completed_at"], json!(null));
    assert_eq!(response["output"][0]["status"], "incomplete");
    assert_eq!(text(&response), "Hello");
}

#[tokio::test]
async fn log_probabilities_are_those_of_the_text() {
    let (_server, client) = start_echo(THINKS);
    for fields in [
        json!({"include": ["message.output_text.logprobs"]}),
        json!({"top_logprobs": 2}),
    ] {
        let body = ask("<think>Hm.</think>Hé", fields.clone());
        let response = post(&client, &body).await;
        let logprobs = response["output"][1]["content"][0]["logprobs"]
            .as_array()
            .unwrap();
        let bytes: Vec<u8> = logprobs
            .iter()
            .flat_map(|token| token["bytes"].as_array().unwrap())
            .map(|byte| byte.as_u64().unwrap() as u8)
            .collect();
        assert_eq!(String::from_utf8(bytes).unwrap(), "Hé", "{response}");
        let top = fields["top_logprobs"].as_u64().unwrap_or(0) as usize;
        assert_eq!(logprobs[0]["top_logprobs"].as_array().unwrap().len(), top);
        assert_eq!(
            without_ids(&stream(&client, &body).await),
            without_ids(&response)
        );
    }
}

#[tokio::test]
async fn an_input_that_is_too_long_loses_its_oldest_items_on_request() {
    let (_server, client) = start_echo("context_length = 200");
    let user = |text: String| json!({"role": "user", "content": text});
    let mut input = vec![json!({"role": "system", "content": "S"})];
    input.extend((0..10).map(|number| user(format!("{number}: {}", "x".repeat(40)))));
    input.push(user("Hi".to_owned()));
    let mut body = json!({"input": input, "temperature": 0, "max_output_tokens": 20});
    let (status, answer) = client.post(RESPONSES, &body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(
        answer["error"]["code"], "context_length_exceeded",
        "{answer}"
    );
    body["truncation"] = json!("auto");
    let response = post(&client, &body).await;
    assert_eq!(text(&response), "Hi");
    assert_eq!(response["truncation"], "auto");
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("oldest messages were left out"),
        "{warning}"
    );
    assert_eq!(
        without_ids(&stream(&client, &body).await),
        without_ids(&response)
    );
    // If the last item alone is too long, leaving out older items does not help.
    body["input"] = json!("x".repeat(300));
    let (status, answer) = client.post(RESPONSES, &body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(
        answer["error"]["code"], "context_length_exceeded",
        "{answer}"
    );
}

/// A request in the form that a coding agent sends.
#[tokio::test]
async fn an_agent_is_answered_although_it_offers_tools_of_the_server() {
    let (_server, client) = start_echo("");
    let text_parts = |text: &str| json!([{"type": "input_text", "text": text}]);
    let call =
        "<tool_call>\n{\"name\": \"files.read\", \"arguments\": {\"path\": \"a\"}}\n</tool_call>";
    let read = json!({"type": "function", "name": "read", "description": "d", "strict": false, "parameters": {
        "type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"], "additionalProperties": false,
    }});
    let body = json!({
        "model": "echo",
        "input": [
            {"type": "message", "role": "developer", "content": text_parts("You edit files.")},
            {"type": "message", "role": "user", "content": text_parts(call)},
        ],
        "tools": [
            read,
            {"type": "namespace", "name": "files", "description": "d", "tools": [read]},
            {"type": "web_search", "external_web_access": false},
        ],
        "tool_choice": "auto",
        "parallel_tool_calls": true,
        "reasoning": {"summary": "auto"},
        "include": ["reasoning.encrypted_content"],
        "store": false,
        "prompt_cache_key": "key",
        "client_metadata": {"a": "b"},
        "temperature": 0,
    });
    let response = stream(&client, &body).await;
    let item = &response["output"][0];
    assert_eq!(
        (&item["namespace"], &item["name"]),
        (&json!("files"), &json!("read")),
        "{response}"
    );
    assert_eq!(response["prompt_cache_key"], "key");
    assert_eq!(response["tools"].as_array().unwrap().len(), 2);
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.contains("web_search"), "{warning}");
}

/// A function without `strict` is shown as strict, as in OpenAI's API, but its schema is not refused: a warning says what is not
/// followed.
#[tokio::test]
async fn functions_are_shown_with_their_defaults() {
    let (_server, client) = start_echo("");
    let schema = json!({"type": "object", "not": {"required": ["a"]}});
    let function = |strict: Value| json!({"type": "function", "name": "f", "strict": strict, "parameters": schema});
    for (sent, shown) in [(json!(null), true), (json!(false), false)] {
        let space = json!({"type": "namespace", "name": "n", "tools": [function(sent.clone())]});
        let tools = json!([function(sent), space]);
        let response = post(&client, &ask("Hi", json!({"tools": tools}))).await;
        let tools = &response["tools"];
        let mut expected = function(json!(shown));
        expected["description"] = json!(null);
        assert_eq!(tools[0], expected);
        assert_eq!(tools[1]["tools"][0], expected);
        let warning = shown.then_some("'not' in the schemas of 'tools' could not be enforced");
        assert_eq!(response["warnings"][0].as_str(), warning);
    }
    let refused = json!({"tools": [function(json!(true))]});
    check_refused(&client, ask("Hi", refused), "tools[0].parameters").await;
}

#[tokio::test]
async fn what_is_not_supported_is_refused_by_name() {
    let (_server, client) = start_echo("");
    let custom = |syntax: &str, definition: &str| {
        let format = json!({"type": "grammar", "syntax": syntax, "definition": definition});
        json!([{"type": "custom", "name": "c", "format": format}])
    };
    for (fields, param) in [
        (json!({"background": true}), "background"),
        (json!({"store": true}), "store"),
        (
            json!({"previous_response_id": "resp_1"}),
            "previous_response_id",
        ),
        (json!({"conversation": "conv_1"}), "conversation"),
        (json!({"max_tokens": 3}), "max_tokens"),
        (json!({"max_output_tokens": 0}), "max_output_tokens"),
        (json!({"temperature": 3}), "temperature"),
        (json!({"top_logprobs": 21}), "top_logprobs"),
        (json!({"truncation": "some"}), "truncation"),
        (json!({"tools": [{"type": "file_search"}]}), "tools[0]"),
        (
            json!({"tools": custom("regex", "("), "tool_choice": "required"}),
            "tools[0].format.definition",
        ),
        (
            json!({"tools": custom("lark", "start: \"(\" start? \")\"")}),
            "tools[0].format.definition",
        ),
        (
            json!({"tool_choice": {"type": "function", "name": "f"}}),
            "tool_choice",
        ),
        (
            json!({"input": [{"type": "item_reference", "id": "msg_1"}]}),
            "input[0]",
        ),
        (
            json!({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:"}]}]}),
            "input[0].content[0]",
        ),
    ] {
        check_refused(&client, ask("Hi", fields), param).await;
    }
    for fields in [
        json!({"background": false, "store": false, "previous_response_id": null, "service_tier": "auto"}),
        json!({"stream_options": null, "no_such_field": 1, "max_tool_calls": 3}),
    ] {
        assert_eq!(text(&post(&client, &ask("Hi", fields)).await), "Hi");
    }
}

#[tokio::test]
async fn kept_responses_are_continued_read_and_deleted() {
    let (_server, client) = start_echo("[responses]\nmax_kept_bytes = 100000");
    let first = post(&client, &ask("One", json!({"instructions": "S"}))).await;
    assert_eq!(first["store"], true);
    let fields = json!({"previous_response_id": first["id"]});
    let second = stream(&client, &ask("Two", fields)).await;
    assert_eq!(text(&second), "Two");
    assert_eq!(second["previous_response_id"], first["id"]);
    // The whole conversation is in the prompt, without the earlier instructions.
    let whole = json!([{"role": "user", "content": "One"}, {"role": "assistant", "content": "One"}, {"role": "user", "content": "Two"}]);
    let same = post(
        &client,
        &json!({"input": whole, "temperature": 0, "store": false}),
    )
    .await;
    assert_eq!(
        same["usage"]["input_tokens"],
        second["usage"]["input_tokens"]
    );
    assert_eq!(same["store"], false);

    let path = |response: &Value| format!("{RESPONSES}/{}", response["id"].as_str().unwrap());
    assert_eq!(
        client.get(&path(&second)).await,
        (StatusCode::OK, second.clone())
    );
    let (status, list) = client
        .get(&format!("{}/input_items?order=asc", path(&second)))
        .await;
    assert_eq!(status, StatusCode::OK, "{list}");
    let items = list["data"].as_array().unwrap();
    let texts: Vec<_> = items
        .iter()
        .map(|item| item["content"][0]["text"].clone())
        .collect();
    assert_eq!(texts, ["One", "One", "Two"]);
    assert_eq!(list["first_id"], items[0]["id"]);
    let (status, _) = client
        .post(&format!("{}/cancel", path(&second)), &json!({}))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, answer) = client.get(&format!("{}?stream=true", path(&first))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(answer["error"]["param"], "stream");

    let request = client.request(Method::DELETE, &path(&first));
    let deleted: Value = request.send().await.unwrap().json().await.unwrap();
    let expected = json!({"id": first["id"], "object": "response", "deleted": true});
    assert_eq!(deleted, expected);
    for path in [
        path(&first),
        path(&same),
        format!("{RESPONSES}/resp_1/input_items"),
    ] {
        let (status, answer) = client.get(&path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{answer}");
        assert_eq!(answer["error"]["code"], "response_not_found");
    }
    let gone = ask("Three", json!({"previous_response_id": first["id"]}));
    let (status, answer) = client.post(RESPONSES, &gone).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(answer["error"]["param"], "previous_response_id");
}

#[tokio::test]
async fn items_of_the_input_are_listed_as_they_were_sent() {
    let (_server, client) = start_echo("[responses]\nmax_kept_bytes = 100000");
    let sent = json!([
        {"type": "message", "id": "msg_7", "status": "completed", "role": "user", "content": [{"type": "input_text", "text": "One"}]},
        {"type": "function_call", "id": "fc_7", "status": "incomplete", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "1"},
        {"role": "user", "content": "Two"},
    ]);
    let first = post(&client, &json!({"input": sent, "temperature": 0})).await;
    let next = ask("Three", json!({"previous_response_id": first["id"]}));
    let next = post(&client, &next).await;
    let list = async |response: &Value| {
        let id = response["id"].as_str().unwrap();
        let path = format!("{RESPONSES}/{id}/input_items?order=asc");
        let (status, list) = client.get(&path).await;
        assert_eq!(status, StatusCode::OK, "{list}");
        list["data"].as_array().unwrap().clone()
    };
    let items = list(&first).await;
    assert_eq!(items[..2], sent.as_array().unwrap()[..2]);
    let result = json!({"id": items[2]["id"], "type": "function_call_output", "status": "completed", "call_id": "c", "output": "1"});
    assert_eq!(items[2], result);
    let text = json!([{"type": "input_text", "text": "Two"}]);
    let message = json!({"id": items[3]["id"], "type": "message", "status": "completed", "role": "user", "content": text});
    assert_eq!(items[3], message);
    // An item keeps its id in later responses.
    let later = list(&next).await;
    assert_eq!(later[..4], items);
    assert_eq!(later[4..5], first["output"].as_array().unwrap()[..]);
    assert_eq!(later.len(), 6);
}

#[tokio::test]
async fn a_response_that_is_too_large_leaves_the_others() {
    let (_server, client) = start_echo("[responses]\nmax_kept_bytes = 4000");
    let small = post(&client, &ask("One", json!({}))).await;
    assert_eq!(small["store"], true);
    let long = ask(&"x".repeat(5000), json!({"max_output_tokens": 1}));
    let large = post(&client, &long).await;
    assert_eq!(large["store"], false, "{large}");
    let warnings = large["warnings"].to_string();
    assert!(warnings.contains("max_kept_bytes"), "{warnings}");
    let path = |response: &Value| format!("{RESPONSES}/{}", response["id"].as_str().unwrap());
    assert_eq!(client.get(&path(&small)).await.0, StatusCode::OK);
    assert_eq!(client.get(&path(&large)).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn smollm2_answers_and_goes_on() {
    let mut server = ServerOptions::smollm2().start();
    let client = server.client();
    let question = json!({"role": "user", "content": "What is the capital of France?"});
    let mut body = json!({"input": [question], "temperature": 0, "max_output_tokens": 32});
    let response = post(&client, &body).await;
    assert!(!text(&response).is_empty(), "{response}");
    assert_eq!(
        without_ids(&stream(&client, &body).await),
        without_ids(&response)
    );
    let tokens = response["usage"]["total_tokens"].as_u64().unwrap();
    let input = body["input"].as_array_mut().unwrap();
    input.extend(response["output"].as_array().unwrap().clone());
    input.push(json!({"role": "user", "content": "And of Italy?"}));
    let response = post(&client, &body).await;
    let cached = response["usage"]["input_tokens_details"]["cached_tokens"]
        .as_u64()
        .unwrap();
    assert!(cached + 2 >= tokens, "{cached} of {tokens}");
    let chat = json!({"messages": [question], "temperature": 0, "max_tokens": 32});
    let (_, answer) = client.post("/v1/chat/completions", &chat).await;
    let chat = answer["choices"][0]["message"]["content"].clone();
    body["input"] = json!([question]);
    assert_eq!(json!(text(&post(&client, &body).await)), chat);
}

/// A request whose answer is this text.
fn ask(text: &str, fields: Value) -> Value {
    let mut body = json!({"input": text, "temperature": 0});
    for (key, value) in fields.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn tools() -> Value {
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    json!([
        {"type": "function", "name": "weather", "description": "d", "parameters": parameters},
        {"type": "custom", "name": "patch", "description": "d"},
    ])
}

async fn post(client: &Client, body: &Value) -> Value {
    let (status, response) = client.post(RESPONSES, body).await;
    assert_eq!(status, StatusCode::OK, "{body}: {response}");
    response
}

async fn check_refused(client: &Client, body: Value, param: &str) {
    let (status, answer) = client.post(RESPONSES, &body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}: {answer}");
    assert_eq!(answer["error"]["param"], param, "{answer}");
}

/// The text of a response.
fn text(response: &Value) -> &str {
    let output = response["output"].as_array().unwrap();
    let message = output.iter().find(|item| item["type"] == "message");
    message.unwrap()["content"][0]["text"].as_str().unwrap()
}

fn message(id: &Value, text: &str) -> Value {
    let part = json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []});
    json!({"type": "message", "id": id, "status": "completed", "role": "assistant", "content": [part]})
}

/// A response without what differs each time: ids, times, and how much was cached.
fn without_ids(response: &Value) -> Value {
    let mut response = response.clone();
    for key in ["id", "created_at", "completed_at"] {
        response[key].take();
    }
    response["usage"]["input_tokens_details"].take();
    for item in response["output"].as_array_mut().unwrap() {
        for key in ["id", "call_id"] {
            if let Some(id) = item.get_mut(key) {
                id.take();
            }
        }
    }
    response
}

/// The response that a stream ends with. Checks the order of events, and that what they tell makes up the response.
async fn stream(client: &Client, body: &Value) -> Value {
    let mut events = client.open(RESPONSES, body).await;
    let mut all = Vec::new();
    let mut is_done = false;
    while let Some(event) = events.next().await {
        assert!(!is_done, "{event:?} after [DONE]");
        match event {
            Event::Chunk(event) => all.push(event),
            Event::Comment => {}
            Event::Done => is_done = true,
        }
    }
    assert!(is_done);
    for (number, event) in all.iter().enumerate() {
        assert_eq!(event["sequence_number"], number, "{event}");
    }
    assert_eq!(all[0]["type"], "response.created");
    assert_eq!(all[1]["type"], "response.in_progress");
    let last = all.last().unwrap();
    let response = last["response"].clone();
    let status = response["status"].as_str().unwrap();
    assert_eq!(last["type"], format!("response.{status}"));
    assert_eq!(all[0]["response"]["id"], response["id"]);
    let of_items = &all[2..all.len() - 1];
    let mut told = Vec::new();
    for event in of_items {
        tell(&mut told, event);
    }
    assert_eq!(json!(told), response["output"]);
    response
}

/// Applies an event of a stream to the items, as a client does.
fn tell(items: &mut Vec<Value>, event: &Value) {
    let index = event["output_index"].as_u64().unwrap() as usize;
    let kind = event["type"].as_str().unwrap();
    if kind == "response.output_item.added" {
        assert_eq!(index, items.len(), "{event}");
        items.push(event["item"].clone());
        return;
    }
    let item = &mut items[index];
    if kind == "response.output_item.done" {
        let mut expected = event["item"].clone();
        let status = expected["status"].take();
        item["status"].take();
        if let Some(sealed) = expected.get("encrypted_content") {
            item["encrypted_content"] = sealed.clone();
        }
        assert_eq!(*item, expected);
        item["status"] = status;
        return;
    }
    assert_eq!(event["item_id"], item["id"], "{event}");
    let field = match kind {
        "response.content_part.added" => {
            assert_eq!(event["content_index"], 0);
            item["content"] = json!([event["part"]]);
            return;
        }
        "response.content_part.done" => return assert_eq!(item["content"][0], event["part"]),
        kind if kind.contains("arguments") => &mut item["arguments"],
        kind if kind.contains("input") => &mut item["input"],
        _ => {
            if let Some(logprobs) = event["logprobs"].as_array()
                && kind.ends_with("delta")
            {
                let part = item["content"][0]["logprobs"].as_array_mut().unwrap();
                part.extend(logprobs.iter().cloned());
            }
            &mut item["content"][0]["text"]
        }
    };
    match event["delta"].as_str() {
        Some(delta) => *field = json!(field.as_str().unwrap().to_owned() + delta),
        None => {
            let whole = ["text", "arguments", "input"].map(|name| event.get(name));
            assert_eq!(Some(&*field), whole.into_iter().flatten().next(), "{event}");
        }
    }
}
