//! Reasoning is separated from the answer. Echo repeats the user's last message.

use reqwest::StatusCode;
use serde_json::json;
use tenon_tests::{ServerOptions, chat, start_echo};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn reasoning_is_apart_from_content() {
    let (_server, client) = start_echo("reasoning_tags = ['<think>', '</think>']");
    let body = chat(
        "<think>\nLet me see.\n</think>\n\nYes.",
        json!({"temperature": 0}),
    );
    let (_, answer) = client.post(CHAT, &body).await;
    let message = json!({
        "role": "assistant", "content": "Yes.", "reasoning_content": "Let me see.", "refusal": null,
    });
    assert_eq!(answer["choices"][0]["message"], message);
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let usage = &answer["usage"];
    assert_eq!(usage["completion_tokens"], 34);
    assert_eq!(
        usage["completion_tokens_details"],
        json!({"reasoning_tokens": 28 - "<think".len()})
    );
}

#[tokio::test]
async fn a_stream_sends_reasoning_apart() {
    let (_server, client) = start_echo("reasoning_tags = ['<think>', '</think>']");
    let mut body = chat("<think>Hm, é.</think>Yes.", json!({"temperature": 0}));
    body["stream_options"] = json!({"include_usage": true});
    let stream = client.stream(CHAT, &body).await;
    assert_eq!(stream.text(), "Yes.");
    let reasoning = stream.chunks.iter().map(|chunk| {
        let thought = &chunk["choices"][0]["delta"]["reasoning_content"];
        thought.as_str().unwrap_or_default().to_owned()
    });
    let reasoning: Vec<String> = reasoning.filter(|part| !part.is_empty()).collect();
    assert!(reasoning.len() > 3, "{reasoning:?}");
    assert_eq!(reasoning.concat(), "Hm, é.");
    let usage = &stream.chunks.last().unwrap()["usage"];
    assert!(
        usage["completion_tokens_details"]["reasoning_tokens"].as_u64() > Some(5),
        "{usage}"
    );
}

#[tokio::test]
async fn reasoning_that_is_cut_off_leaves_an_empty_answer() {
    let (_server, client) = start_echo("reasoning_tags = ['<think>', '</think>']");
    let body = chat(
        "<think>Hm, hm.</think>Yes.",
        json!({"temperature": 0, "max_tokens": 12}),
    );
    let (_, answer) = client.post(CHAT, &body).await;
    let message = json!({
        "role": "assistant", "content": "", "reasoning_content": "Hm, h", "refusal": null,
    });
    assert_eq!(answer["choices"][0]["message"], message);
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn a_stop_string_within_reasoning_ends_nothing() {
    let (_server, client) = start_echo("reasoning_tags = ['<think>', '</think>']");
    for logprobs in [false, true] {
        let body = chat(
            "<think>Hm. STOP</think>Yes. STOP No.",
            json!({"temperature": 0, "stop": ["STOP", "</think>"], "logprobs": logprobs}),
        );
        let (_, answer) = client.post(CHAT, &body).await;
        let choice = &answer["choices"][0];
        assert_eq!(choice["message"]["reasoning_content"], "Hm. STOP");
        assert_eq!(choice["message"]["content"], "Yes. ");
        assert_eq!(choice["finish_reason"], "stop");
        assert_eq!(answer["usage"]["completion_tokens"], 32);
        if logprobs {
            // Tokens of the stop string are left out.
            let tokens = choice["logprobs"]["content"].as_array().unwrap();
            assert_eq!(tokens.len(), 28);
        }
        let stream = client.stream(CHAT, &body).await;
        assert_eq!(stream.text(), "Yes. ");
        assert_eq!(stream.finish_reason(), Some("stop"));
    }
}

#[tokio::test]
async fn a_model_without_tags_has_no_reasoning() {
    let (_server, client) = start_echo("");
    let text = "<think>Hm.</think>Yes.";
    let (_, answer) = client
        .post(CHAT, &chat(text, json!({"temperature": 0})))
        .await;
    let message = json!({"role": "assistant", "content": text, "refusal": null});
    assert_eq!(answer["choices"][0]["message"], message);
    assert!(answer["usage"].get("completion_tokens_details").is_none());
}

#[tokio::test]
async fn an_answer_goes_on_with_the_last_message() {
    let (_server, client) = start_echo("reasoning_tags = ['<think>', '</think>']");
    let ask = |prefill: &str| {
        json!({
            "temperature": 0,
            "continue_final_message": true,
            "messages": [
                {"role": "user", "content": "<think>Hm.</think>Hello there."},
                {"role": "assistant", "content": prefill},
            ],
        })
    };
    let (_, answer) = client.post(CHAT, &ask("<think>H")).await;
    let message = json!({
        "role": "assistant", "content": "Hello there.", "reasoning_content": "m.", "refusal": null,
    });
    assert_eq!(answer["choices"][0]["message"], message);
    let (_, answer) = client.post(CHAT, &ask("<think>Hm.</think>Hello")).await;
    assert_eq!(answer["choices"][0]["message"]["content"], " there.");

    let mut both = ask("H");
    both["add_generation_prompt"] = json!(true);
    let (status, answer) = client.post(CHAT, &both).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(answer["error"]["param"], "continue_final_message");
}

#[tokio::test]
async fn templates_get_what_the_request_says() {
    let template = "{% for m in messages %}<|user|>{{ m.content }}{% endfor %}\
                    [{{ enable_thinking }},{{ reasoning_effort }},{{ mood }}]<|assistant|>";
    let mut server = ServerOptions::new(&["tenon_plugin_echo"])
        .file("echo.echo", "")
        .file("chat.jinja", template)
        .config("[[models]]\npath = 'echo.echo'\nchat_template = 'chat.jinja'\n")
        .start();
    let client = server.client();
    for (fields, expected) in [
        (json!({}), "Hi[False,,]"),
        (json!({"enable_thinking": true}), "Hi[True,,]"),
        (json!({"reasoning_effort": "high"}), "Hi[True,high,]"),
        (
            json!({"reasoning_effort": "none", "chat_template_kwargs": {"mood": "calm"}}),
            "Hi[False,none,calm]",
        ),
    ] {
        let mut fields = fields;
        fields["temperature"] = json!(0);
        fields["max_tokens"] = json!(expected.len());
        let text = client.chat("Hi", fields).await;
        assert_eq!(text, expected);
    }
    for (key, value, param) in [
        ("reasoning_effort", json!("enormous"), "reasoning_effort"),
        ("chat_template_kwargs", json!([]), "chat_template_kwargs"),
        (
            "chat_template_kwargs",
            json!({"tools": []}),
            "chat_template_kwargs.tools",
        ),
        ("add_generation_prompt", json!(1), "add_generation_prompt"),
    ] {
        let mut body = chat("Hi", json!({}));
        body[key] = value;
        let (status, answer) = client.post(CHAT, &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        assert_eq!(answer["error"]["param"], param, "{answer}");
    }
}
