//! What somebody asks first: the examples of the README, of `/docs` and of the chat page. The small model of the quickstart answers
//! them right, and clearly so: each token up to the answer is ahead of every other one. Of answers in a given form only the text is
//! checked, because log-probabilities are those before the form rules tokens out.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tenon_tests::{Backend, Client, ServerOptions, with_every_backend};

/// How far each token must be ahead, in log-probability. Backends, kernels and batches differ by about a tenth of that.
const MARGIN: f64 = 1.0;

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
    let questions = of_readme()
        .into_iter()
        .chain(of_document(&client).await)
        .chain(of_page());
    let mut wrong = Vec::new();
    for question in questions {
        wrong.extend(question.wrong(&client).await);
    }
    assert!(wrong.is_empty(), "{backend:?}:\n{}", wrong.join("\n"));
}

/// A question, as a request of a chat or of a completion.
struct Question {
    path: &'static str,
    body: Value,
    /// A text in the right answer.
    right: String,
}

impl Question {
    fn chat(body: Value, right: &str) -> Self {
        Self {
            path: CHAT,
            body,
            right: right.to_owned(),
        }
    }

    /// Whether a schema or a grammar rules tokens out.
    fn has_form(&self) -> bool {
        let forms = ["response_format", "grammar"];
        forms.iter().any(|form| self.body.get(form).is_some())
    }

    /// Asks greedily. Returns what is wrong with the answer.
    async fn wrong(&self, client: &Client) -> Option<String> {
        let mut body = self.body.clone();
        body["temperature"] = json!(0);
        body["stream"] = json!(false);
        body["cache_prompt"] = json!(false);
        let object = body.as_object_mut().expect("an object");
        object.remove("stream_options");
        match self.path {
            CHAT => object.extend([
                ("logprobs".into(), json!(true)),
                ("top_logprobs".into(), json!(2)),
            ]),
            _ => object.extend([("logprobs".into(), json!(2))]),
        }
        let (status, answer) = client.post(self.path, &body).await;
        assert_eq!(status, 200, "{body}: {answer}");
        let tokens = match self.path {
            CHAT => chat_tokens(&answer),
            _ => plain_tokens(&answer),
        };
        assert!(!tokens.is_empty(), "{answer}");
        let mut text = String::new();
        for (token, margin) in &tokens {
            if text.contains(&self.right) {
                break;
            }
            if *margin < MARGIN && !self.has_form() {
                return Some(format!(
                    "{body}: {token:?} after {text:?} is only {margin:.2} ahead"
                ));
            }
            text += token;
        }
        let is_right = text.contains(&self.right);
        (!is_right).then(|| format!("{body}: no {:?} in {text:?}", self.right))
    }
}

/// The tokens of a chat's answer, each with its lead over the next best.
fn chat_tokens(answer: &Value) -> Vec<(String, f64)> {
    let tokens = answer["choices"][0]["logprobs"]["content"].as_array();
    let tokens = tokens.expect("tokens").iter();
    let lead = |token: &Value| {
        let text = token["token"].as_str().expect("text");
        let top = token["top_logprobs"].as_array().expect("tokens").iter();
        let others = top.filter(|other| other["token"] != *text);
        let others = others.filter_map(|other| other["logprob"].as_f64());
        (text.to_owned(), lead(&token["logprob"], others))
    };
    tokens.map(lead).collect()
}

fn plain_tokens(answer: &Value) -> Vec<(String, f64)> {
    let all = &answer["choices"][0]["logprobs"];
    let list = |name: &str| all[name].as_array().expect("a list").iter();
    let tokens = list("tokens")
        .zip(list("token_logprobs"))
        .zip(list("top_logprobs"));
    let lead = |((text, logprob), top): ((&Value, &Value), &Value)| {
        let text = text.as_str().expect("text");
        let others = top.as_object().expect("tokens").iter();
        let others = others.filter(|(other, _)| *other != text);
        let others = others.filter_map(|(_, logprob)| logprob.as_f64());
        (text.to_owned(), lead(logprob, others))
    };
    tokens.map(lead).collect()
}

/// Infinite if no other token is possible.
fn lead(logprob: &Value, others: impl Iterator<Item = f64>) -> f64 {
    let best = others.fold(f64::NEG_INFINITY, f64::max);
    logprob.as_f64().expect("a number") - best
}

/// The requests of the README: the one of curl, and the one in Python.
fn of_readme() -> [Question; 2] {
    let readme = include_str!("../../../README.md");
    let between = |begin: &str, end: &str| {
        let (_, rest) = readme.split_once(begin).expect(begin);
        rest.split_once(end).expect(end).0
    };
    let curl = serde_json::from_str(between("  -d '", "'\n")).expect("JSON");
    let messages: Value =
        serde_json::from_str(between("    messages=", ",\n    max_tokens")).expect("JSON");
    let python = json!({"messages": messages, "max_tokens": 64});
    [Question::chat(curl, "Tokyo"), Question::chat(python, "Ag")]
}

async fn of_document(client: &Client) -> Vec<Question> {
    let (_, document) = client.get("/openapi.json").await;
    let question = |&(path, name, right): &(&'static str, &str, &str)| {
        let content = &document["paths"][path]["post"]["requestBody"]["content"];
        let example = &content["application/json"]["examples"][name]["value"];
        assert!(example.is_object(), "{path} has no example {name}");
        match path {
            PLAIN => Question {
                path: PLAIN,
                body: example.clone(),
                right: right.to_owned(),
            },
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
