//! Questions with right answers, which a model must give clearly.

use serde_json::{Value, json};

use crate::Client;

/// How far each token must be ahead, in log-probability. Backends, kernels and batches differ by about a tenth of that.
const MARGIN: f64 = 1.0;

const CHAT: &str = "/v1/chat/completions";

/// A question, as a request of a chat or of a completion.
pub struct Question {
    path: &'static str,
    body: Value,
    /// A text in the right answer.
    right: String,
}

impl Question {
    pub fn chat(body: Value, right: &str) -> Self {
        Self::new(CHAT, body, right)
    }

    pub fn completion(body: Value, right: &str) -> Self {
        Self::new("/v1/completions", body, right)
    }

    fn new(path: &'static str, body: Value, right: &str) -> Self {
        Self {
            path,
            body,
            right: right.to_owned(),
        }
    }

    /// The requests of the README: the one of curl, and the one in Python.
    pub fn of_readme() -> [Self; 2] {
        let readme = include_str!("../../README.md");
        let between = |begin: &str, end: &str| {
            let (_, rest) = readme.split_once(begin).expect(begin);
            rest.split_once(end).expect(end).0
        };
        let curl = serde_json::from_str(between("  -d '", "'\n")).expect("JSON");
        let messages: Value =
            serde_json::from_str(between("    messages=", ",\n    max_tokens")).expect("JSON");
        let python = json!({"messages": messages, "max_tokens": 64});
        [Self::chat(curl, "Tokyo"), Self::chat(python, "Ag")]
    }

    /// Whether a schema or a grammar rules tokens out.
    fn has_form(&self) -> bool {
        let forms = ["response_format", "grammar"];
        forms.iter().any(|form| self.body.get(form).is_some())
    }

    /// Asks greedily. Returns what is wrong with the answer: each token up to the right text must be clearly ahead of every other one.
    /// Of an answer in a given form only the text is checked, because log-probabilities are those before the form rules tokens out.
    pub async fn wrong(&self, client: &Client) -> Option<String> {
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
