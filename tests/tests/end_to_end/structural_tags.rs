//! `response_format` of type `structural_tag`: parts of an answer have a certain form. Echo repeats the user's last message as far
//! as the form allows.

use regex::Regex;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{chat, start_echo, text};

const CHAT: &str = "/v1/chat/completions";

/// Text in which integers stand between tags.
fn format() -> Value {
    let tag = |name: &str| {
        let content = json!({"type": "json_schema", "json_schema": {"type": "integer"}});
        json!({"begin": format!("<f={name}>"), "content": content, "end": "</f>"})
    };
    let format =
        json!({"type": "triggered_tags", "triggers": ["<f="], "tags": [tag("a"), tag("b")]});
    json!({"type": "structural_tag", "format": format})
}

/// The same in the form of older clients.
fn older_format() -> Value {
    let structure = |name: &str| json!({"begin": format!("<f={name}>"), "schema": {"type": "integer"}, "end": "</f>"});
    let structures = [structure("a"), structure("b")];
    json!({"type": "structural_tag", "triggers": ["<f="], "structures": structures})
}

#[tokio::test]
async fn what_fits_stays_and_what_does_not_is_changed() {
    let (_server, client) = start_echo("");
    let tag = Regex::new("^<f=[ab]>-?[0-9]+</f>").unwrap();
    for format in [format(), older_format()] {
        let ask = |message: &str, seed: u32| {
            let fields = json!({
                "response_format": format, "temperature": 1, "seed": seed, "max_tokens": 60,
            });
            chat(message, fields)
        };
        let fitting = "A <b> <f=a>12</f> and <f=b>-3</f>.";
        let (_, answer) = client.post(CHAT, &ask(fitting, 1)).await;
        assert_eq!(text(&answer), fitting);
        assert_eq!(client.stream(CHAT, &ask(fitting, 1)).await.text(), fitting);
        let mut finished = 0;
        for seed in 0..20 {
            let (_, answer) = client.post(CHAT, &ask("It <f=a>x</f>.", seed)).await;
            let said = text(&answer);
            assert!(said.starts_with("It <f=a>"), "{said}");
            if answer["choices"][0]["finish_reason"] == "stop" {
                finished += 1;
                let all_fit = said
                    .match_indices("<f=")
                    .all(|(at, _)| tag.is_match(&said[at..]));
                assert!(all_fit, "{said}");
            }
        }
        assert!(finished > 5, "only {finished} answers finished");
    }
}

#[tokio::test]
async fn a_grammar_is_followed_within_text() {
    let (_server, client) = start_echo("");
    let grammar = "root ::= word (\" \" word)*\nword ::= \"ha\"\n  | \"ho\"";
    let rules = json!([["(", {"type": "grammar", "grammar": grammar}]]);
    let format = json!({"type": "dispatch", "rules": rules, "loop": false});
    let fields = |seed: u32| json!({"response_format": {"type": "structural_tag", "format": format}, "temperature": 1, "seed": seed});
    let (_, answer) = client.post(CHAT, &chat("He says (ha ho", fields(0))).await;
    assert_eq!(text(&answer), "He says (ha ho");
    let form = Regex::new(r"^\(h[ao]( h[ao])*$").unwrap();
    for seed in 0..5 {
        let (_, answer) = client.post(CHAT, &chat("(hi there", fields(seed))).await;
        assert!(form.is_match(text(&answer)), "{answer}");
    }
    let wrong = json!({"type": "grammar", "grammar": "root ::= x"});
    let fields = json!({"response_format": {"type": "structural_tag", "format": wrong}});
    let (status, answer) = client.post(CHAT, &chat("Hi", fields)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("the rule 'x' is used"), "{message}");
}

#[tokio::test]
async fn reasoning_comes_before_the_form() {
    let (_server, client) = start_echo("reasoning_tags = ['<think>', '</think>']");
    let content = json!({"type": "regex", "pattern": "[a-z]+"});
    let tag = json!({"type": "tag", "begin": "(", "content": content, "end": ")"});
    let fields = json!({"response_format": {"type": "structural_tag", "format": tag}});
    let (_, answer) = client
        .post(CHAT, &chat("<think>So?</think>(yes)", fields))
        .await;
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["reasoning_content"], "So?");
    assert_eq!(message["content"], "(yes)");
}

#[tokio::test]
async fn what_cannot_be_followed_is_refused() {
    let (_server, client) = start_echo("");
    let of = |format: Value| json!({"type": "structural_tag", "format": format});
    let any = json!({"type": "any_text"});
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    for (fields, part) in [
        (
            json!({"response_format": {"type": "structural_tag"}}),
            "'format'",
        ),
        (
            json!({"response_format": of(json!({"type": "token", "token": 1}))}),
            "token",
        ),
        (
            json!({"response_format": of(json!({"type": "any_text", "max_tokens": 3}))}),
            "max_tokens",
        ),
        (
            json!({"response_format": of(json!({"type": "star", "content": any}))}),
            "no end",
        ),
        (
            json!({"response_format": of(json!({"type": "regex", "pattern": "("}))}),
            "regex",
        ),
        (
            json!({"response_format": format(), "tools": tools}),
            "tools",
        ),
    ] {
        let (status, answer) = client.post(CHAT, &chat("Hi", fields)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(part), "{message}");
    }
    let body = json!({"input": "Hi", "text": {"format": {"type": "structural_tag"}}});
    let (status, answer) = client.post("/v1/responses", &body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    assert_eq!(answer["error"]["param"], "text.format.type");
}
