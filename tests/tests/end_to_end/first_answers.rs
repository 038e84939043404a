//! The questions that people ask first: the examples of the README, of `/docs` and of the chat page. The small model of the
//! quickstart answers them correctly and clearly.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tenon_tests::{Backend, Client, Question, ServerOptions, with_every_backend};

const CHAT: &str = "/v1/chat/completions";
const PLAIN: &str = "/v1/completions";

/// The examples of the API's documentation that have a right answer, with a text that is in it.
const DOCUMENTED: &[(&str, &str, &str)] = &[
    (CHAT, "Basic", "Tokyo"),
    (CHAT, "Conversation", "Ag"),
    (CHAT, "Schema", r#""Tokyo""#),
    (CHAT, "Prefill", "Tokyo"),
    (CHAT, "Stream", "Ag"),
    (PLAIN, "Grammar", "Paris"),
    (PLAIN, "Stream", "Earth"),
    ("/v1/responses", "Basic", "Tokyo"),
    ("/v1/responses", "Schema", r#""Tokyo""#),
    ("/v1/responses", "Stream", "Ag"),
    ("/v1/messages", "Basic", "Tokyo"),
    ("/v1/messages", "Conversation", "Ag"),
    ("/v1/messages", "Schema", r#""Tokyo""#),
    ("/v1/messages", "Stream", "Ag"),
];

/// The other examples of requests for text, each with the reason why no answer to it is right.
const WITHOUT_A_RIGHT_ANSWER: &[(&str, &str, &str)] = &[
    (
        CHAT,
        "Choices",
        "any colour is right, and the answers are sampled",
    ),
    (CHAT, "Tools", "the small model need not call"),
    (
        CHAT,
        "Forced call",
        "the values of its arguments are sampled; others hold their form",
    ),
    (
        CHAT,
        "Tool result",
        "the small model does not use the result",
    ),
    (PLAIN, "Basic", "a story may go on in any way"),
    (PLAIN, "Echo", "nothing is generated"),
    (PLAIN, "Prompts", "the answers are sampled"),
    (
        "/v1/responses",
        "Conversation",
        "the small model does not use the result of the call",
    ),
    (
        "/v1/responses",
        "Tools",
        "the values of its arguments are sampled; others hold their form",
    ),
    (
        "/v1/messages",
        "Tools",
        "the values of its arguments are sampled; others hold their form",
    ),
    (
        "/v1/messages",
        "Tool result",
        "the small model does not use the result",
    ),
];

/// Routes whose examples ask for text.
const ROUTES: [&str; 4] = [CHAT, PLAIN, "/v1/responses", "/v1/messages"];

/// What the chat page proposes, in its order.
const PROPOSED: &[&str] = &["Tokyo", "Ag", "num % 2 == 0"];

with_every_backend!([the_first_answers_are_right]);

#[tokio::test]
async fn every_documented_example_is_held_or_has_a_reason() {
    let mut server = ServerOptions::echo(0).start();
    let (_, document) = server.client().get("/openapi.json").await;
    let examples = ROUTES.iter().flat_map(|path| {
        let content = &document["paths"][path]["post"]["requestBody"]["content"];
        let examples = content["application/json"]["examples"].as_object();
        let names = examples.expect("examples").keys();
        names.map(|name| (*path, name.clone()))
    });
    let documented: BTreeSet<_> = examples.collect();
    let listed = DOCUMENTED.iter().chain(WITHOUT_A_RIGHT_ANSWER);
    let listed: Vec<_> = listed
        .map(|&(path, name, _)| (path, name.to_owned()))
        .collect();
    assert_eq!(documented, listed.iter().cloned().collect());
    assert_eq!(documented.len(), listed.len(), "one is listed twice");
}

async fn the_first_answers_are_right(backend: Backend) {
    let (_server, client) = backend.serve_smollm2("");
    let questions = Question::of_readme()
        .into_iter()
        .chain(of_document(&client).await)
        .chain(of_page());
    let mut wrong = Vec::new();
    for question in questions {
        wrong.extend(question.wrong(&client).await);
    }
    assert!(wrong.is_empty(), "{backend:?}:\n{}", wrong.join("\n"));
}

async fn of_document(client: &Client) -> Vec<Question> {
    let (_, document) = client.get("/openapi.json").await;
    let question = |&(path, name, right): &(&'static str, &str, &str)| {
        let content = &document["paths"][path]["post"]["requestBody"]["content"];
        let example = &content["application/json"]["examples"][name]["value"];
        assert!(example.is_object(), "{path} has no example {name}");
        match path {
            PLAIN => Question::completion(example.clone(), right),
            _ => Question::chat(as_chat(example), right),
        }
    };
    DOCUMENTED.iter().map(question).collect()
}

/// A request of any of the APIs as one that can ask for log-probabilities. It has the same prompt.
fn as_chat(example: &Value) -> Value {
    let system = [
        &example["system"][0]["text"],
        &example["system"],
        &example["instructions"],
    ];
    let system = system.into_iter().find(|system| system.is_string());
    let system = system.map(|text| json!({"role": "system", "content": text}));
    let asked = match example["input"].as_str() {
        Some(question) => vec![json!({"role": "user", "content": question})],
        None => example["messages"].as_array().expect("messages").clone(),
    };
    let messages: Vec<Value> = system.into_iter().chain(asked).collect();
    let formats = [
        &example["text"]["format"]["schema"],
        &example["output_config"]["format"]["schema"],
    ];
    let schema = formats.into_iter().find(|schema| schema.is_object());
    let mut chat = match schema {
        Some(schema) => {
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}})
        }
        None => json!({}),
    };
    for same in ["response_format", "continue_final_message"] {
        if let Some(value) = example.get(same) {
            chat[same] = value.clone();
        }
    }
    chat["messages"] = json!(messages);
    chat["max_tokens"] = json!(32);
    chat
}

fn of_page() -> Vec<Question> {
    let page = include_str!("../../../host/page/transcript.js");
    let prompts = page.split("prompt: \"").skip(1);
    let prompts: Vec<_> = prompts.filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(prompts.len(), PROPOSED.len(), "{prompts:?}");
    let question = |(prompt, right): (&str, &&str)| {
        let messages = json!([{"role": "user", "content": prompt}]);
        Question::chat(json!({"messages": messages, "max_tokens": 48}), right)
    };
    prompts.into_iter().zip(PROPOSED).map(question).collect()
}
