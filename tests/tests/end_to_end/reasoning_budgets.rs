//! Reasoning in each of the three APIs: within a budget, before an answer that follows a schema, and before calls. The model
//! writes what a script says. If its reasoning is closed early, it goes on behind the reasoning of the script.

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{Client, Server, ServerOptions, chat};

const CHAT: &str = "/v1/chat/completions";
const APIS: [Api; 3] = [Api::Chat, Api::Responses, Api::Messages];
const TAGS: &str = "reasoning_tags = ['<think>', '</think>']";

/// Tokens of the tags that count as reasoning: the last one of the opening tag, and all of the closing tag.
const OF_TAGS: u64 = 9;

#[derive(Clone, Copy, Debug)]
enum Api {
    Chat,
    Responses,
    Messages,
}

/// A question in no API's form.
#[derive(Clone, Debug, Default)]
struct Ask {
    thinks: bool,
    budget: Option<u32>,
    schema: Option<Value>,
    tool: Option<Value>,
    is_forced: bool,
}

/// An answer in no API's form.
#[derive(Debug, Default, PartialEq)]
struct Said {
    reasoning: String,
    text: String,
    reasoning_tokens: u64,
    /// Names of called tools.
    calls: Vec<String>,
}

impl Api {
    fn path(self) -> &'static str {
        match self {
            Self::Chat => CHAT,
            Self::Responses => "/v1/responses",
            Self::Messages => "/v1/messages",
        }
    }

    fn body(self, ask: &Ask) -> Value {
        let mut body = match self {
            Self::Chat => chat("Hi", json!({"max_tokens": 500})),
            Self::Responses => json!({"input": "Hi", "max_output_tokens": 500}),
            Self::Messages => {
                json!({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 500})
            }
        };
        body["temperature"] = json!(0);
        self.ask_for_reasoning(&mut body, ask);
        if let Some(schema) = &ask.schema {
            self.ask_for_schema(&mut body, schema);
        }
        if let Some(tool) = &ask.tool {
            self.offer(&mut body, tool, ask.is_forced);
        }
        body
    }

    fn ask_for_reasoning(self, body: &mut Value, ask: &Ask) {
        let (thinks, budget) = (ask.thinks, ask.budget);
        match (self, budget) {
            (Self::Messages, _) if !thinks => body["thinking"] = json!({"type": "disabled"}),
            (Self::Messages, None) => body["thinking"] = json!({"type": "adaptive"}),
            (Self::Messages, Some(budget)) => {
                body["thinking"] = json!({"type": "enabled", "budget_tokens": budget});
            }
            (_, budget) => {
                body["enable_thinking"] = json!(thinks);
                match (self, budget) {
                    (_, None) => {}
                    (Self::Chat, budget) => body["thinking_token_budget"] = json!(budget),
                    (_, budget) => body["reasoning"] = json!({"max_tokens": budget}),
                }
            }
        }
    }

    fn ask_for_schema(self, body: &mut Value, schema: &Value) {
        let format = json!({"type": "json_schema", "name": "n", "schema": schema, "strict": true});
        match self {
            Self::Chat => {
                body["response_format"] = json!({"type": "json_schema", "json_schema": format});
            }
            Self::Responses => body["text"] = json!({"format": format}),
            Self::Messages => {
                let format = json!({"type": "json_schema", "schema": schema});
                body["output_config"] = json!({"format": format});
            }
        }
    }

    fn offer(self, body: &mut Value, schema: &Value, is_forced: bool) {
        let function = json!({"name": "light", "parameters": schema});
        let tool = match self {
            Self::Chat => json!({"type": "function", "function": function}),
            Self::Responses => json!({"type": "function", "name": "light", "parameters": schema}),
            Self::Messages => json!({"name": "light", "input_schema": schema}),
        };
        body["tools"] = json!([tool]);
        body["tool_choice"] = match (self, is_forced) {
            (Self::Messages, true) => json!({"type": "any"}),
            (Self::Messages, false) => json!({"type": "auto"}),
            (_, true) => json!("required"),
            (_, false) => json!("auto"),
        };
    }

    /// Reads a whole answer.
    fn read(self, answer: &Value) -> Said {
        let mut said = Said {
            reasoning_tokens: self.reasoning_tokens(&answer["usage"]),
            ..Said::default()
        };
        let message = &answer["choices"][0]["message"];
        let blocks = [&answer["output"], &answer["content"]];
        let blocks = blocks.into_iter().filter_map(Value::as_array).flatten();
        said.add(message);
        for block in blocks {
            match block["type"].as_str() {
                Some("reasoning") => said.reasoning += text(&block["content"][0]["text"]),
                Some("message") => said.text += text(&block["content"][0]["text"]),
                _ => said.add(block),
            }
        }
        said
    }

    /// Reads the chunks of a stream.
    fn read_chunks(self, chunks: &[Value]) -> Said {
        let mut said = Said::default();
        for chunk in chunks {
            said.add(&chunk["choices"][0]["delta"]);
            match chunk["type"].as_str() {
                Some("response.reasoning_text.delta") => said.reasoning += text(&chunk["delta"]),
                Some("response.output_text.delta") => said.text += text(&chunk["delta"]),
                Some("response.output_item.done") if chunk["item"]["name"].is_string() => {
                    said.add(&chunk["item"]);
                }
                Some("content_block_start") => said.add(&chunk["content_block"]),
                Some("content_block_delta") => said.add(&chunk["delta"]),
                _ => {}
            }
            for usage in [&chunk["usage"], &chunk["response"]["usage"]] {
                said.reasoning_tokens = said.reasoning_tokens.max(self.reasoning_tokens(usage));
            }
        }
        said
    }

    fn reasoning_tokens(self, usage: &Value) -> u64 {
        let tokens = match self {
            Self::Chat => &usage["completion_tokens_details"]["reasoning_tokens"],
            Self::Responses => &usage["output_tokens_details"]["reasoning_tokens"],
            Self::Messages => &usage["output_tokens_details"]["thinking_tokens"],
        };
        tokens.as_u64().unwrap_or(0)
    }

    /// Asks for a whole answer and for a stream, which must say the same.
    async fn ask(self, client: &Client, ask: &Ask) -> Said {
        let mut body = self.body(ask);
        let (status, answer) = client.post(self.path(), &body).await;
        assert_eq!(status, StatusCode::OK, "{self:?} {ask:?}: {answer}");
        let said = self.read(&answer);
        body["stream"] = json!(true);
        if matches!(self, Self::Chat) {
            body["stream_options"] = json!({"include_usage": true});
        }
        let stream = client.stream(self.path(), &body).await;
        let streamed = self.read_chunks(&stream.chunks);
        assert_eq!(streamed, said, "{self:?} {ask:?}");
        said
    }
}

impl Said {
    /// Adds a part in one of the forms of chats and messages.
    fn add(&mut self, part: &Value) {
        self.reasoning += text(&part["reasoning_content"]);
        self.reasoning += text(&part["thinking"]);
        self.text += text(&part["content"]);
        self.text += text(&part["text"]);
        let calls = part["tool_calls"].as_array();
        let names = calls
            .into_iter()
            .flatten()
            .map(|call| &call["function"]["name"]);
        let names = names.chain([&part["name"]]).filter_map(Value::as_str);
        self.calls.extend(names.map(str::to_owned));
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A server whose model answers this. `opening` is the end of its prompts.
fn start(answer: &str, opening: &str, config: &str) -> (Server, Client) {
    start_script(&format!("=== answer\n{answer}\n"), opening, config)
}

fn start_script(script: &str, opening: &str, config: &str) -> (Server, Client) {
    let template = format!(
        "{{% for m in messages %}}<|{{{{ m.role }}}}|>{{{{ m.content }}}}<|end|>{{% endfor %}}<|assistant|>{opening}"
    );
    let mut server = ServerOptions::new(&["tenon_fixture_scripted"])
        .file("model.scripted", script)
        .file("chat.jinja", &template)
        .config(&format!(
            "[[models]]\npath = 'model.scripted'\nchat_template = 'chat.jinja'\n{config}\n"
        ))
        .start();
    let client = server.client();
    (server, client)
}

/// The end of the prompts of a model that reasons if it is asked to.
const OPENING: &str = "{% if enable_thinking %}{{ '<think>\\n' }}{% else %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}";

fn thinking(budget: Option<u32>) -> Ask {
    Ask {
        thinks: true,
        budget,
        ..Ask::default()
    }
}

/// An object with one boolean.
fn schema() -> Value {
    json!({
        "type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": false,
    })
}

#[tokio::test]
async fn reasoning_is_closed_at_its_budget() {
    let (_server, client) = start("<think>\nOne, two, three.</think>\n\nYes.", "", TAGS);
    for (budget, reasoning, tokens) in [
        (None, "One, two, three.", 17),
        (Some(1000), "One, two, three.", 17),
        (Some(17), "One, two, three.", 17),
        (Some(9), "One, two", 9),
        (Some(1), "", 1),
        (Some(0), "", 0),
    ] {
        let expected = Said {
            reasoning: reasoning.to_owned(),
            text: "Yes.".to_owned(),
            reasoning_tokens: tokens + OF_TAGS,
            ..Said::default()
        };
        for api in APIS {
            let said = api.ask(&client, &thinking(budget)).await;
            assert_eq!(said, expected, "{api:?} {budget:?}");
        }
    }
}

#[tokio::test]
async fn reasoning_that_the_prompt_opened_has_its_budget() {
    let answer = "<think>\nOne, two, three.</think>\n\nYes.";
    let (_server, client) = start(answer, OPENING, TAGS);
    for (budget, reasoning) in [(Some(8), "One, two"), (Some(0), "")] {
        for api in APIS {
            let said = api.ask(&client, &thinking(budget)).await;
            assert_eq!((&*said.reasoning, &*said.text), (reasoning, "Yes."));
            assert_eq!(said.reasoning_tokens, reasoning.len() as u64 + OF_TAGS - 1);
            let silent = Ask {
                budget,
                ..Ask::default()
            };
            let said = api.ask(&client, &silent).await;
            assert_eq!((&*said.reasoning, &*said.text), ("", "Yes."), "{api:?}");
        }
    }
}

/// Chats take the `reasoning` of responses too. Their own names override it.
#[tokio::test]
async fn a_chat_may_have_the_reasoning_of_a_response() {
    let answer = "<think>\nOne, two, three.</think>\n\nYes.";
    let (_server, client) = start(answer, OPENING, TAGS);
    let check = async |fields: Value, reasoning: &str| {
        let mut body = chat("Hi", fields);
        body["temperature"] = json!(0);
        let (_, answer) = client.post(CHAT, &body).await;
        let said = Api::Chat.read(&answer);
        assert_eq!(
            (&*said.reasoning, &*said.text),
            (reasoning, "Yes."),
            "{body}"
        );
    };
    for (asked, reasoning) in [
        (json!({"max_tokens": 8}), "One, two"),
        (json!({"max_tokens": 0}), ""),
        (json!({"effort": "low"}), "One, two, three."),
        (json!({"effort": "none", "max_tokens": 8}), ""),
        (json!({}), ""),
    ] {
        check(json!({"reasoning": asked}), reasoning).await;
        let overridden =
            json!({"thinking_token_budget": 3, "reasoning_effort": "low", "reasoning": asked});
        check(overridden, "One").await;
    }
    let body = chat("Hi", json!({"reasoning": {"max_tokens": "few"}}));
    let (status, answer) = client.post(CHAT, &body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(answer["error"]["param"], "reasoning.max_tokens", "{answer}");
}

/// A budget asks for reasoning unless the request says otherwise.
#[tokio::test]
async fn a_budget_turns_reasoning_on() {
    let answer = "<think>\nOne, two, three.</think>\n\nYes.";
    let (_server, client) = start(answer, OPENING, TAGS);
    for api in [Api::Chat, Api::Responses] {
        for (budget, reasoning) in [(8, "One, two"), (0, "")] {
            let mut body = api.body(&thinking(Some(budget)));
            body.as_object_mut().unwrap().remove("enable_thinking");
            let (_, answer) = client.post(api.path(), &body).await;
            assert_eq!(api.read(&answer).reasoning, reasoning, "{api:?}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_character_stays_whole() {
    let (_server, client) = start("<think>ééé</think>Yes.", "", TAGS);
    for (budget, reasoning) in [(1, "é"), (2, "é"), (3, "éé"), (5, "ééé")] {
        let said = Api::Chat.ask(&client, &thinking(Some(budget))).await;
        assert_eq!((&*said.reasoning, &*said.text), (reasoning, "Yes."));
    }
}

/// The model writes no JSON, but the answer has it.
#[tokio::test]
async fn an_answer_behind_reasoning_follows_its_schema() {
    let answer = "<think>\nOne, two, three.</think>\n\n{no JSON";
    let (_opened, opened) = start(answer, OPENING, TAGS);
    let (_free, free) = start(answer, "", TAGS);
    for (budget, within_opened, within_free) in [
        (None, "One, two, three.", "One, two, three."),
        (Some(9), "One, two,", "One, two"),
        (Some(0), "", ""),
    ] {
        let ask = Ask {
            schema: Some(schema()),
            ..thinking(budget)
        };
        let silent = Ask {
            thinks: false,
            ..ask.clone()
        };
        for api in APIS {
            for (client, ask, reasoning) in [
                (&opened, &ask, within_opened),
                (&opened, &silent, ""),
                (&free, &ask, within_free),
            ] {
                let said = api.ask(client, ask).await;
                assert_eq!(said.reasoning, reasoning, "{api:?} {ask:?}");
                let answer: Value = serde_json::from_str(&said.text).unwrap();
                assert!(answer["ok"].is_boolean(), "{api:?} {ask:?}: {answer}");
            }
        }
    }
}

/// The model would reason again behind the reasoning that the prompt has closed.
#[tokio::test]
async fn what_is_forced_follows_reasoning_that_the_prompt_closed() {
    let answer = "<think>\n\n</think>\n\n<think>Again.</think>Yes.";
    let (_server, client) = start(answer, OPENING, TAGS);
    let said = Api::Chat.ask(&client, &Ask::default()).await;
    assert_eq!((&*said.reasoning, &*said.text), ("Again.", "Yes."));
    for (schema, tool) in [(Some(schema()), None), (None, Some(schema()))] {
        for budget in [None, Some(9)] {
            let ask = Ask {
                budget,
                schema: schema.clone(),
                is_forced: tool.is_some(),
                tool: tool.clone(),
                ..Ask::default()
            };
            for api in APIS {
                let said = api.ask(&client, &ask).await;
                assert_eq!((&*said.reasoning, said.reasoning_tokens), ("", 0));
                let is_forced = match ask.is_forced {
                    true => said.calls == ["light"] && said.text.is_empty(),
                    false => serde_json::from_str(&said.text)
                        .is_ok_and(|answer: Value| answer["ok"].is_boolean()),
                };
                assert!(is_forced, "{api:?} {ask:?}: {said:?}");
            }
        }
    }
}

#[tokio::test]
async fn calls_come_behind_closed_reasoning() {
    let call = r#"{"name": "light", "arguments": {"ok": true}}"#;
    let answer = format!(
        "<think>\nOne <tool_call>, two, three.</think>\n\n<tool_call>\n{call}\n</tool_call>"
    );
    let (_server, client) = start(&answer, "", TAGS);
    for api in APIS {
        for (is_forced, budget, reasoning) in [
            (false, None, "One <tool_call>, two, three."),
            (false, Some(17), "One <tool_call>,"),
            (true, Some(17), "One <tool_call>,"),
            (true, Some(0), ""),
        ] {
            let ask = Ask {
                tool: Some(schema()),
                is_forced,
                ..thinking(budget)
            };
            let said = api.ask(&client, &ask).await;
            assert_eq!(said.reasoning, reasoning, "{api:?} {ask:?}");
            assert_eq!(said.calls, ["light"], "{api:?} {ask:?}");
        }
    }
}

#[tokio::test]
async fn a_model_that_does_not_reason_needs_no_budget() {
    let answer = "<think>abcdefgh</think>Yes.";
    let (_server, client) = start(answer, "", "reasoning_tags = []");
    for api in APIS {
        let said = api.ask(&client, &thinking(Some(5))).await;
        assert_eq!((&*said.reasoning, &*said.text), ("", answer), "{api:?}");
    }
}

/// A grammar that is no schema describes the whole text, with the reasoning.
#[tokio::test]
async fn the_closing_tag_waits_until_a_grammar_allows_it() {
    let (_server, client) = start("<think>abcdefghi</think>Yes.", "", TAGS);
    for (regex, reasoning, text) in [
        ("<think>[a-z]{6}(?s:.)*", "abcdef", "Yes."),
        ("<think>[a-z]{8}", "abcdefgh", ""),
    ] {
        let mut body = Api::Chat.body(&thinking(Some(3)));
        body["grammar"] = json!({"type": "regex", "value": regex});
        let (_, answer) = client.post(CHAT, &body).await;
        let said = Api::Chat.read(&answer);
        assert_eq!((&*said.reasoning, &*said.text), (reasoning, text));
    }
}

/// Drafts, other answers to the same prompt, and log-probabilities.
#[tokio::test]
async fn a_budget_ends_drafts_and_counts_in_each_answer() {
    let whole = "again and again ".repeat(12);
    // Drafts pay because a step takes longer than what its tokens need.
    let script = format!("1\n=== answer\n<think>{whole}</think>Yes.");
    let config = format!("{TAGS}\nmax_draft_tokens = 32");
    let (_server, client) = start_script(&script, "", &config);
    for budget in [60, 61, 62, 63, 64, 65, 80, 81, 150] {
        let mut body = Api::Chat.body(&thinking(Some(budget)));
        (body["n"], body["logprobs"]) = (json!(2), json!(budget % 2 == 1));
        let (_, answer) = client.post(CHAT, &body).await;
        for choice in answer["choices"].as_array().unwrap() {
            let reasoning = choice["message"]["reasoning_content"].as_str();
            let expected = whole[..budget as usize].trim_end();
            assert_eq!(reasoning, Some(expected), "{budget}");
            assert_eq!(choice["message"]["content"], "Yes.");
            if let Some(tokens) = choice["logprobs"]["content"].as_array() {
                let all = "<think></think>Yes.".len() + budget as usize;
                assert_eq!(tokens.len(), all);
            }
        }
    }
    assert!(client.metric("tenon_engine_accepted_tokens_total").await > 0.0);
}

#[tokio::test]
async fn a_preempted_sequence_goes_on_within_its_budget() {
    let whole: String = (100..200).map(|number| format!("{number} ")).collect();
    let answer = format!("<think>{whole}</think>Yes.");
    let config = "[engine]\nkv_tokens = 600\ncontext_length = 600\nmax_draft_tokens = 0";
    let (_server, client) = start(&answer, "", &format!("{TAGS}\n{config}"));
    let bodies = (200..210).map(|budget| (budget, Api::Chat.body(&thinking(Some(budget)))));
    let answers = bodies.map(async |(budget, body)| (budget, client.post(CHAT, &body).await));
    for (budget, (_, answer)) in join_all(answers).await {
        let said = Api::Chat.read(&answer);
        let expected = whole[..budget as usize].trim_end();
        assert_eq!((&*said.reasoning, &*said.text), (expected, "Yes."));
        assert_eq!(said.reasoning_tokens, u64::from(budget) + OF_TAGS);
    }
    assert!(client.metric("tenon_engine_preemptions_total").await > 0.0);
}
