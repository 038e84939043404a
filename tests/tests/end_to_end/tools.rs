//! Tool calls over the wire. Echo repeats the user's last message, so the message is what the model "writes".

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon::markup::FORMATS;
use tenon_tests::{ServerOptions, Stream, start_echo};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn a_call_is_told_from_text() {
    let (_server, client) = start_echo("");
    let written = "I'll look.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Köln\"}}\n</tool_call>";
    let (status, answer) = client.post(CHAT, &ask(written, json!({}))).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let message = json!({
        "role": "assistant",
        "content": "I'll look.",
        "tool_calls": [{
            "id": answer["choices"][0]["message"]["tool_calls"][0]["id"],
            "type": "function",
            "function": {"name": "weather", "arguments": "{\"city\": \"Köln\"}"},
        }],
        "refusal": null,
    });
    let choice =
        json!({"index": 0, "message": message, "logprobs": null, "finish_reason": "tool_calls"});
    assert_eq!(answer["choices"], json!([choice]));
}

#[tokio::test]
async fn an_answer_that_only_calls_has_no_content() {
    let (_server, client) = start_echo("");
    let call = |city: &str| {
        format!(
            "<tool_call>\n{{\"name\": \"weather\", \"arguments\": {{\"city\": \"{city}\"}}}}\n</tool_call>"
        )
    };
    let written = format!("{}\n{}", call("A"), call("B"));
    let (_, answer) = client.post(CHAT, &ask(&written, json!({}))).await;
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["content"], json!(null));
    let calls = message["tool_calls"].as_array().unwrap();
    assert_eq!(calls.len(), 2, "{message}");
    assert_ne!(calls[0]["id"], calls[1]["id"]);

    let one = json!({"parallel_tool_calls": false});
    let (_, answer) = client.post(CHAT, &ask(&written, one)).await;
    let choice = &answer["choices"][0];
    assert_eq!(choice["message"]["tool_calls"].as_array().unwrap().len(), 1);
    assert_eq!(choice["finish_reason"], "tool_calls");
    client
        .wait_for_metric("tenon_engine_running_sequences", 0.0)
        .await;
}

#[tokio::test]
async fn a_stream_sends_the_head_of_a_call_once_and_its_arguments_in_pieces() {
    let (_server, client) = start_echo("");
    let arguments = r#"{"city": "Köln am Rhein"}"#;
    let written = format!(
        "Well.\n<tool_call>\n{{\"name\": \"weather\", \"arguments\": {arguments}}}\n</tool_call>"
    );
    let stream = client.stream(CHAT, &ask(&written, json!({}))).await;
    assert_eq!(stream.text(), "Well.");
    assert_eq!(stream.finish_reason(), Some("tool_calls"));
    let pieces = call_pieces(&stream);
    assert!(pieces.len() > 10, "{pieces:?}");
    let (first, more) = pieces.split_first().unwrap();
    assert_eq!(first["index"], 0);
    assert_eq!(first["type"], "function");
    assert_eq!(first["function"]["name"], "weather");
    assert!(first["id"].as_str().unwrap().starts_with("call_"));
    for piece in more {
        let keys: Vec<_> = piece.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["index", "function"]);
        let keys: Vec<_> = piece["function"].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["arguments"]);
    }
    let text = pieces
        .iter()
        .map(|piece| piece["function"]["arguments"].as_str().unwrap());
    assert_eq!(text.collect::<String>(), arguments);
}

#[tokio::test]
async fn every_format_that_is_configured_is_read() {
    let cases = [
        (
            "hermes",
            "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"a\": 1}}\n</tool_call>",
        ),
        ("llama3", r#"{"name": "weather", "parameters": {"a": 1}}"#),
        (
            "mistral",
            r#"[TOOL_CALLS][{"name": "weather", "arguments": {"a": 1}}]"#,
        ),
        ("mistral_args", r#"[TOOL_CALLS]weather[ARGS]{"a": 1}"#),
        ("functionary", r#"<function=weather>{"a": 1}</function>"#),
        (
            "granite",
            r#"<tool_call>[{"name": "weather", "arguments": {"a": 1}}]"#,
        ),
        (
            "qwen3_coder",
            "<tool_call>\n<function=weather>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>",
        ),
        (
            "glm",
            "<tool_call>weather\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n</tool_call>",
        ),
        ("lfm2", "<|tool_call_start|>[weather(a=1)]<|tool_call_end|>"),
        ("gemma4", "<|tool_call>call:weather{a:1}<tool_call|>"),
        (
            "harmony",
            "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{\"a\": 1}<|call|>",
        ),
        (
            "deepseek_v3_1",
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{\"a\": 1}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        ),
        (
            "deepseek_v3",
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{\"a\": 1}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        ),
        (
            "kimi_k2",
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>{\"a\": 1}<|tool_call_end|><|tool_calls_section_end|>",
        ),
        (
            "command_r7b",
            "<|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": \"weather\", \"parameters\": {\"a\": 1}}\n]<|END_ACTION|>",
        ),
        (
            "command_r",
            "Action: ```json\n[\n    {\"tool_name\": \"weather\", \"parameters\": {\"a\": 1}}\n]```",
        ),
        (
            "function_gemma",
            "<start_function_call>call:weather{a:1}<end_function_call>",
        ),
        (
            "phi4_mini",
            r#"<|tool_call|>[{"name": "weather", "arguments": {"a": 1}}]<|/tool_call|>"#,
        ),
        (
            "minimax_m2",
            "<minimax:tool_call>\n<invoke name=\"weather\">\n<parameter name=\"a\">1</parameter>\n</invoke>\n</minimax:tool_call>",
        ),
        ("functionary_v3_2", ">>>weather\n{\"a\": 1}"),
    ];
    let names: BTreeSet<_> = cases.iter().map(|(name, _)| *name).collect();
    let all: BTreeSet<_> = FORMATS.iter().map(|format| format.name).collect();
    assert_eq!(names, all);
    for (format, written) in cases {
        let (_server, client) = start_echo(&format!("tool_format = \"{format}\""));
        let mut body = ask(written, json!({}));
        body["tools"][0]["function"]["parameters"] =
            json!({"type": "object", "properties": {"a": {"type": "integer"}}});
        let (_, answer) = client.post(CHAT, &body).await;
        let function = json!({"name": "weather", "arguments": "{\"a\": 1}"});
        assert_eq!(
            answer["choices"][0]["message"]["tool_calls"][0]["function"], function,
            "{answer}"
        );
        let stream = client.stream(CHAT, &body).await;
        let names = call_pieces(&stream);
        assert_eq!(names[0]["function"]["name"], "weather", "{format}");
    }
}

#[tokio::test]
async fn a_call_that_is_cut_off_ends_with_length() {
    let (_server, client) = start_echo("");
    let written =
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bonn\"}}\n</tool_call>";
    let body = ask(written, json!({"max_tokens": 56}));
    let (_, answer) = client.post(CHAT, &body).await;
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "length");
    let function = json!({"name": "weather", "arguments": &written[45..56]});
    assert_eq!(choice["message"]["tool_calls"][0]["function"], function);
    assert_eq!(
        client.stream(CHAT, &body).await.finish_reason(),
        Some("length")
    );
}

#[tokio::test]
async fn complete_calls_that_are_cut_off_end_with_length() {
    let (_server, client) = start_echo("");
    let call = "<tool_call>\n{\"name\": \"weather\", \"arguments\": {}}\n</tool_call>";
    let body = ask(
        &format!("{call}\n{call}"),
        json!({"max_tokens": call.len() + 3}),
    );
    let (_, answer) = client.post(CHAT, &body).await;
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "length");
    assert_eq!(choice["message"]["content"], json!(null));
    assert_eq!(choice["message"]["tool_calls"].as_array().unwrap().len(), 1);
    let stream = client.stream(CHAT, &body).await;
    assert_eq!(stream.finish_reason(), Some("length"));
}

#[tokio::test]
async fn an_answer_that_is_cut_off_within_a_head_has_no_fragment_of_it() {
    let (_server, client) = start_echo("");
    let head = "<tool_call>\n{\"name\": \"weather\", \"arguments\": ";
    let written = format!("Well.\n{head}{{}}}}\n</tool_call>");
    for cut in (0..=head.len()).step_by(5) {
        let body = ask(&written, json!({"max_tokens": "Well.\n".len() + cut}));
        let (_, answer) = client.post(CHAT, &body).await;
        let choice = &answer["choices"][0];
        assert_eq!(choice["finish_reason"], "length");
        let content = choice["message"]["content"].as_str().unwrap();
        assert_eq!(content.trim_end(), "Well.", "{cut}");
        assert_eq!(client.stream(CHAT, &body).await.text(), content);
    }
}

#[tokio::test]
async fn a_mark_within_reasoning_begins_no_call() {
    let (_server, client) =
        start_echo("tool_format = 'hermes'\nreasoning_tags = ['<think>', '</think>']");
    let call = "<tool_call>\n{\"name\": \"weather\", \"arguments\": {}}\n</tool_call>";
    for (behind, content, calls) in [("Hello.", json!("Hello."), 0), (call, json!(null), 1)] {
        let written = format!("<think>I could write <tool_call> but no.</think>{behind}");
        let body = ask(&written, json!({}));
        let (_, answer) = client.post(CHAT, &body).await;
        let message = &answer["choices"][0]["message"];
        let thought = "I could write <tool_call> but no.";
        assert_eq!(message["reasoning_content"], thought, "{answer}");
        assert_eq!(message["content"], content);
        let made = message["tool_calls"].as_array().map_or(0, Vec::len);
        assert_eq!(made, calls);
        let stream = client.stream(CHAT, &body).await;
        assert_eq!(stream.text(), content.as_str().unwrap_or_default());
    }
}

#[tokio::test]
async fn channels_are_reasoning_text_and_calls() {
    let (_server, client) = start_echo("tool_format = 'harmony'");
    let thought = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant";
    let call = "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{\"city\": \"Bonn\"}<|call|>";
    for (written, text, arguments) in [
        (
            format!("{thought}<|channel|>final<|message|>Dry.<|return|>"),
            "Dry.",
            None,
        ),
        (format!("{thought}{call}"), "", Some("{\"city\": \"Bonn\"}")),
        (
            format!(
                "{thought}<|channel|>commentary<|message|>I look.<|end|><|start|>assistant{call}"
            ),
            "I look.",
            Some("{\"city\": \"Bonn\"}"),
        ),
    ] {
        let body = ask(&written, json!({}));
        let (_, answer) = client.post(CHAT, &body).await;
        let message = &answer["choices"][0]["message"];
        assert_eq!(message["reasoning_content"], "Hm.", "{answer}");
        assert_eq!(message["content"].as_str().unwrap_or_default(), text);
        let made = &message["tool_calls"][0]["function"]["arguments"];
        assert_eq!(made.as_str(), arguments);
        let stream = client.stream(CHAT, &body).await;
        assert_eq!(stream.text(), text);
        let streamed = call_pieces(&stream);
        assert_eq!(!streamed.is_empty(), arguments.is_some());
    }
}

#[tokio::test]
async fn a_stop_string_within_a_call_ends_nothing() {
    let (_server, client) = start_echo("");
    let call =
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"STOP\"}}\n</tool_call>";
    let written = format!("One.{call}\nTwo. STOP three.");
    let body = ask(&written, json!({"stop": ["STOP", "</tool_call>"]}));
    let (_, answer) = client.post(CHAT, &body).await;
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["content"], "One.Two. ", "{answer}");
    let function = json!({"name": "weather", "arguments": "{\"city\": \"STOP\"}"});
    assert_eq!(message["tool_calls"][0]["function"], function);
    let tokens = answer["usage"]["completion_tokens"].as_u64().unwrap() as usize;
    assert_eq!(tokens, written.len() - " three.".len());
    let stream = client.stream(CHAT, &body).await;
    assert_eq!(stream.text(), "One.Two. ");
    assert_eq!(stream.finish_reason(), Some("tool_calls"));
}

#[tokio::test]
async fn without_tools_nothing_is_a_call() {
    let (_server, client) = start_echo("");
    let written = "<tool_call>{\"name\": \"weather\", \"arguments\": {}}</tool_call>";
    for fields in [
        json!({"tools": null}),
        json!({"tools": []}),
        json!({"tool_choice": "none"}),
    ] {
        let (_, answer) = client.post(CHAT, &ask(written, fields)).await;
        let message = json!({"role": "assistant", "content": written, "refusal": null});
        assert_eq!(answer["choices"][0]["message"], message);
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    }
}

#[tokio::test]
async fn a_conversation_with_calls_and_results_goes_on() {
    let (_server, client) = start_echo("");
    let call = json!({"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Bonn\"}"}});
    let mut body = ask("Rain?", json!({}));
    body["messages"].as_array_mut().unwrap().extend([
        json!({"role": "assistant", "content": null, "tool_calls": [call]}),
        json!({"role": "tool", "tool_call_id": "call_1", "content": "dry"}),
    ]);
    let (status, answer) = client.post(CHAT, &body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    // Echo's template does not support tools, so the result is sent as a message of the user.
    let content = &answer["choices"][0]["message"]["content"];
    assert_eq!(content, "<tool_response>\ndry\n</tool_response>");
}

#[tokio::test]
async fn wrong_tools_are_refused_by_place() {
    let (_server, client) = start_echo("");
    let tool = |name: Value| json!([{"type": "function", "function": {"name": name}}]);
    let named = json!({"type": "function", "function": {"name": "other"}});
    for (fields, param) in [
        (json!({"tools": "f"}), "tools"),
        (
            json!({"tools": [{"type": "custom", "custom": {}}]}),
            "tools[0].type",
        ),
        (
            json!({"tools": [{"type": "function"}]}),
            "tools[0].function",
        ),
        (json!({"tools": tool(json!(7))}), "tools[0].function.name"),
        (
            json!({"tools": tool(json!("a b"))}),
            "tools[0].function.name",
        ),
        (json!({"tool_choice": "always"}), "tool_choice"),
        (json!({"tool_choice": named}), "tool_choice"),
        (
            json!({"tools": [], "tool_choice": "required"}),
            "tool_choice",
        ),
        (json!({"parallel_tool_calls": "no"}), "parallel_tool_calls"),
        (json!({"functions": [{"name": "f"}]}), "functions"),
        (json!({"function_call": {"name": "f"}}), "function_call"),
    ] {
        let (status, answer) = client.post(CHAT, &ask("Hi", fields)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        assert_eq!(answer["error"]["param"], param, "{answer}");
    }
}

#[tokio::test]
async fn a_template_of_ones_own_shows_tools_and_opens_reasoning() {
    let template = "{% for tool in tools %}{{ tool | tojson }}<tool_call>{% endfor %}\
                    {% for m in messages %}<|{{ 'assistant' if m.role == 'assistant' else 'user' }}|>{{ m.content }}<|end|>{% endfor %}\
                    <|assistant|>{% if enable_thinking %}<think>{% endif %}{# </think> #}";
    let mut server = ServerOptions::new(&["tenon_plugin_echo"])
        .file("echo.echo", "")
        .file("chat.jinja", template)
        .config("[[models]]\npath = 'echo.echo'\nchat_template = 'chat.jinja'\n")
        .start();
    let client = server.client();
    // Echo continues from its current place, which is behind the seven bytes of the tag.
    let written = "<think>Hm.</think>Fine. <tool_call>\n{\"name\": \"weather\", \"arguments\": {}}\n</tool_call>";
    let (_, answer) = client
        .post(CHAT, &ask(written, json!({"enable_thinking": true})))
        .await;
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["reasoning_content"], "Hm.", "{answer}");
    assert_eq!(message["content"], "Fine.");
    assert_eq!(message["tool_calls"][0]["function"]["arguments"], "{}");
    let details = &answer["usage"]["completion_tokens_details"];
    assert_eq!(details["reasoning_tokens"], "Hm.</think>".len());
}

/// A chat with a tool, whose answer is this text.
fn ask(text: &str, fields: Value) -> Value {
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let function = json!({"name": "weather", "description": "d", "parameters": parameters});
    let mut body = json!({
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "tools": [{"type": "function", "function": function}],
    });
    for (key, value) in fields.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn call_pieces(stream: &Stream) -> Vec<Value> {
    let deltas = stream
        .chunks
        .iter()
        .map(|chunk| &chunk["choices"][0]["delta"]);
    let calls = deltas.filter_map(|delta| delta["tool_calls"].as_array());
    calls.flatten().cloned().collect()
}

/// Templates of Functionary 3.2 end the prompt with the marker that begins calls and texts.
#[tokio::test]
async fn functionary_s_marks_are_no_text() {
    let template = "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}{{ '>>>all\n' }}{% endif %}\
                    {{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>>>>{% endif %}";
    let mut server = ServerOptions::new(&["tenon_fixture_scripted"])
        .file("chat.jinja", template)
        .file(
            "model.scripted",
            "=== answer\n>>>all\nIt is dry.\n=== answer\n>>>all\nI look.>>>f\n{\"a\": 1}\n",
        )
        .config("[[models]]\npath = 'model.scripted'\nchat_template = 'chat.jinja'\n")
        .start();
    let client = server.client();
    let user = json!({"role": "user", "content": "Rain?"});
    let message = |body: Value| {
        let client = client.clone();
        async move {
            let (status, answer) = client.post("/v1/chat/completions", &body).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
            answer["choices"][0]["message"].clone()
        }
    };
    let plain = message(json!({"messages": [user]})).await;
    assert_eq!(plain["content"], "It is dry.");
    let messages = json!([user, {"role": "assistant", "content": "It is dry."}, user]);
    let parameters = json!({"type": "object", "properties": {"a": {"type": "integer"}}});
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": parameters}}]);
    let calling = message(json!({"messages": messages, "tools": tools})).await;
    assert_eq!(calling["content"], "I look.");
    let call = &calling["tool_calls"][0]["function"];
    assert_eq!(call, &json!({"name": "f", "arguments": "{\"a\": 1}"}));
}
