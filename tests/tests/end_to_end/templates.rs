//! Chats as agents send them, with templates like those of real models.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{Client, Server, ServerOptions, text};

const CHAT: &str = "/v1/chat/completions";
const SHOW: &str = "/apply-template";

/// A template that writes roles and texts, and refuses a system message that does not come first.
const STRICT: &str = "{%- for m in messages %}\
    {%- if m.role == 'system' and not loop.first %}{{ raise_exception('System message must be at the beginning.') }}{% endif %}\
    {{- '<|' + m.role + '|>' + m.content }}{%- endfor %}<|assistant|>";

fn start(template: &str, config: &str) -> (Server, Client) {
    let mut server = ServerOptions::new(&["tenon_plugin_echo"])
        .file("echo.echo", "")
        .file("chat.jinja", template)
        .config(&format!(
            "{config}\n[[models]]\npath = 'echo.echo'\nchat_template = 'chat.jinja'\n"
        ))
        .start();
    let client = server.client();
    (server, client)
}

fn messages(roles: &[&str]) -> Value {
    let messages = (0..)
        .zip(roles)
        .map(|(index, role)| json!({"role": role, "content": format!("{role} {index}")}));
    json!({"messages": messages.collect::<Value>(), "max_tokens": 1})
}

#[tokio::test]
async fn a_strict_template_gets_messages_that_it_takes() {
    let (_server, client) = start(STRICT, "");
    for (roles, prompt, adaptations) in [
        (
            &["system", "user"][..],
            "<|system|>system 0<|user|>user 1<|assistant|>",
            0,
        ),
        (
            &["system", "system", "user"],
            "<|system|>system 0\n\nsystem 1<|user|>user 2<|assistant|>",
            1,
        ),
        (
            &["developer", "developer", "user"],
            "<|system|>developer 0\n\ndeveloper 1<|user|>user 2<|assistant|>",
            1,
        ),
        (
            &["system", "user", "assistant", "system", "user"],
            "<|system|>system 0<|user|>user 1<|assistant|>assistant 2<|user|>system 3\n\nuser 4<|assistant|>",
            1,
        ),
    ] {
        let (status, answer) = client.post(CHAT, &messages(roles)).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let (_, shown) = client.post(SHOW, &messages(roles)).await;
        assert_eq!(shown["prompt"], prompt);
        assert_eq!(
            shown["adaptations"].as_array().unwrap().len(),
            adaptations,
            "{shown}"
        );
    }
}

#[tokio::test]
async fn none_is_not_iterable() {
    let (_server, client) = start(
        "{% if tools is iterable and tools | length > 0 %}TOOLS {% endif %}{{ messages[0].content }}",
        "",
    );
    let (_, shown) = client.post(SHOW, &messages(&["user"])).await;
    assert_eq!(shown["prompt"], "user 0");
}

/// A chat whose system message begins with a line that differs each time.
fn volatile(number: u32) -> Value {
    let rules = "Mind the rules. ".repeat(40);
    let system = format!("x-anthropic-billing-header: cc_version=1; cch={number:05x};\n{rules}");
    json!({
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": "Hi"}],
        "max_tokens": 1,
    })
}

#[tokio::test]
async fn volatile_lines_do_not_end_what_is_cached() {
    for (config, is_cached) in [("", true), ("[prompts]\nvolatile_lines = []\n", false)] {
        let (_server, client) = start(STRICT, config);
        client.post(CHAT, &volatile(0xabcde)).await;
        let (_, answer) = client.post(CHAT, &volatile(0x12345)).await;
        let usage = &answer["usage"];
        let cached = usage["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap();
        let prompt = usage["prompt_tokens"].as_u64().unwrap();
        assert_eq!(cached == prompt - 1, is_cached, "{usage}");
    }
}

#[tokio::test]
async fn a_prompt_of_text_begins_once() {
    let (_server, client) = start(STRICT, "");
    for (fields, tokens) in [
        (json!({"prompt": "Hi"}), 3),
        (json!({"prompt": "<|begin|>Hi"}), 3),
        (json!({"prompt": "Hi", "add_special_tokens": false}), 2),
        (
            json!({"prompt": "<|begin|>Hi", "add_special_tokens": false}),
            3,
        ),
    ] {
        let (_, answer) = client.post("/v1/completions", &fields).await;
        assert_eq!(answer["usage"]["prompt_tokens"], tokens, "{fields}");
    }
}

/// The empty reasoning block before an answer is not in the history. Everything before the block is reused. Only the last
/// answer is computed again, because it now follows other tokens.
#[tokio::test]
async fn without_reasoning_all_but_the_last_answer_stays_cached() {
    const BLOCK: &str = "<think>\n\n</think>\n\n";
    let template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}\
                    {% if add_generation_prompt %}<|assistant|>{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}";
    // First a backend that can truncate sequences anywhere, then one that can only reuse them as a whole.
    let (_server, client) = start(template, "");
    check_turns(&client, BLOCK.len()).await;
    let mut server = ServerOptions::new(&["tenon_fixture_recurrent"])
        .file("model.recurrent", "")
        .file("chat.jinja", template)
        .config("[[models]]\npath = 'model.recurrent'\nchat_template = 'chat.jinja'\n")
        .start();
    check_turns(&server.client(), BLOCK.len()).await;
}

/// The last `passing` bytes of each prompt occur in no later prompt.
async fn check_turns(client: &Client, passing: usize) {
    let mut talk = Vec::new();
    let mut reusable = 0;
    for turn in 0..4 {
        talk.push(json!({"role": "user", "content": format!("What is number {turn}?")}));
        let body = json!({"messages": talk, "temperature": 0, "max_tokens": 20});
        let (_, answer) = client.post(CHAT, &body).await;
        let usage = &answer["usage"];
        let cached = usage["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap();
        assert_eq!(cached, reusable, "turn {turn}: {usage}");
        reusable = usage["prompt_tokens"].as_u64().unwrap() - passing as u64;
        talk.push(json!({"role": "assistant", "content": format!("Number {turn}.")}));
    }
}

/// At this temperature many answers do not consist of the tokens that their text encodes to.
#[tokio::test]
async fn smollm2_s_answers_stay_cached_however_they_were_sampled() {
    let mut server = ServerOptions::smollm2().start();
    let client = server.client();
    let mut talk = vec![json!({"role": "user", "content": "Tell me a strange story."})];
    let (mut cached_before, mut rewritten) = (0, 0);
    for seed in 0..6 {
        let body = json!({"messages": talk, "temperature": 1.3, "seed": seed, "max_tokens": 48});
        let (_, answer) = client.post(CHAT, &body).await;
        let number = |value: &Value| value.as_u64().unwrap();
        let usage = &answer["usage"];
        let prompt = number(&usage["prompt_tokens"]);
        let cached = number(&usage["prompt_tokens_details"]["cached_tokens"]);
        // The last token of an answer may have no KV yet.
        assert!(cached + 1 >= cached_before, "turn {seed}: {usage}");
        cached_before = prompt + number(&usage["completion_tokens"]);
        let (_, canonical) = client.post("/tokenize", &body).await;
        rewritten += u64::from(number(&canonical["count"]) != prompt);
        talk.push(json!({"role": "assistant", "content": text(&answer)}));
        talk.push(json!({"role": "user", "content": "Go on."}));
    }
    assert!(
        rewritten > 0,
        "no answer was sampled in other tokens than its text has"
    );
}
