//! Chats as agents send them, with the templates in `shapes/`: strict alternation, no system role, one system message at
//! the beginning only, tools in a section of their own, content as parts, reasoning on and off. For one more template, add
//! a file.

use std::{fs, path::Path};

use super::*;

/// Roles of a chat's messages. `call` is an assistant's message with a tool call.
const CHATS: [&[&str]; 17] = [
    &["user"],
    &["system"],
    &["system", "user"],
    &["developer", "user"],
    &["system", "system", "user"],
    &["developer", "developer", "user"],
    &["system", "developer", "user", "assistant", "user"],
    &["user", "user"],
    &["assistant", "user"],
    &["system", "assistant", "user", "assistant", "user"],
    &["user", "system"],
    &["system", "user", "assistant", "system", "user"],
    &["system", "user", "assistant", "user", "system", "system"],
    &["user", "assistant", "assistant", "user"],
    &["user", "call", "tool"],
    &[
        "system",
        "user",
        "call",
        "tool",
        "system",
        "call",
        "tool",
        "developer",
        "assistant",
        "user",
    ],
    &["system", "user", "call", "tool", "user"],
];

fn shapes() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/prompt/tests/shapes");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let shapes = files.map(|path| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    });
    shapes.collect()
}

fn shape(wanted: &str) -> String {
    let mut shapes = shapes().into_iter();
    shapes.find(|(name, _)| name == wanted).unwrap().1
}

fn text_of(index: usize) -> String {
    format!("text {index}.")
}

fn messages(roles: &[&str]) -> Value {
    let messages = roles.iter().enumerate().map(|(index, role)| match *role {
        "call" => {
            let function = json!({"name": "look", "arguments": format!("{{\"at\": \"{}\"}}", text_of(index))});
            json!({"role": "assistant", "content": null, "tool_calls": [{"id": "call_000000001", "type": "function", "function": function}]})
        }
        "tool" => json!({"role": "tool", "tool_call_id": "call_000000001", "content": text_of(index)}),
        role => json!({"role": role, "content": text_of(index)}),
    });
    messages.collect()
}

fn render(source: &str, roles: &[&str], ending: Ending) -> Result<String, TemplateError> {
    let request = RenderRequest {
        ending,
        ..request(&messages(roles))
    };
    let chat = template(source, &CONTROL_TOKENS).render(&request)?;
    Ok(chat.pieces().concat())
}

#[test]
fn each_template_writes_each_chat_in_its_order() {
    let mut wrong = Vec::new();
    for (name, source) in shapes() {
        for roles in CHATS {
            match render(&source, roles, Ending::GenerationPrompt) {
                Ok(prompt) if is_in_order(&prompt, roles) => {}
                Ok(prompt) => wrong.push(format!("{name}: {roles:?}: {prompt}")),
                Err(error) => wrong.push(format!("{name}: {roles:?}: {error}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether each message's text occurs once, after that of the message before. Mistral's template shows the system text with
/// the last message, and only if that is the user's.
fn is_in_order(prompt: &str, roles: &[&str]) -> bool {
    let is_mistrals = prompt.contains("[INST]") && roles[0] == "system" && roles.len() > 1;
    let first = match is_mistrals {
        true => roles.iter().take_while(|role| **role != "user").count(),
        false => 0,
    };
    let shown = first..roles.len();
    let once = shown
        .clone()
        .all(|index| prompt.matches(&text_of(index)).count() == 1);
    once && shown.map(|index| prompt.find(&text_of(index))).is_sorted()
}

/// A later system message must not change the text before it, or the prompt's beginning would not be cached.
#[test]
fn a_later_system_message_leaves_the_beginning_as_it_is() {
    for (name, source) in shapes() {
        // In these, the system text goes with the last user message, and reasoning stays with the last answer.
        if matches!(name.as_str(), "mistral_nemo" | "qwen_3_strict") {
            continue;
        }
        let before = render(
            &source,
            &["system", "user", "assistant"],
            Ending::LastMessage,
        )
        .unwrap();
        let before = before
            .split_inclusive(&text_of(2))
            .next()
            .unwrap()
            .to_owned();
        for later in [&["system", "user"][..], &["user", "system"]] {
            let roles = [&["system", "user", "assistant"], later].concat();
            let after = render(&source, &roles, Ending::GenerationPrompt).unwrap();
            assert!(after.starts_with(&before), "{name}: {after}");
        }
    }
}

#[test]
fn what_was_changed_is_told() {
    let notes = |source: &str, roles: &[&str]| {
        let chat = template(source, &CONTROL_TOKENS).render(&request(&messages(roles)));
        chat.unwrap().notes().len()
    };
    assert_eq!(notes(GEMMA, &["user", "assistant", "user"]), 0);
    assert_eq!(notes(GEMMA, &["system", "user"]), 1);
    assert_eq!(notes(GEMMA, &["system", "system", "user", "user"]), 3);
    assert_eq!(
        notes(
            templates::CHATML,
            &["system", "system", "user", "user", "system"]
        ),
        0
    );
}

#[test]
fn thinking_is_on_or_off_as_the_request_says() {
    let (_, source) = shapes()
        .into_iter()
        .find(|(name, _)| name == "qwen_3_strict")
        .unwrap();
    for (thinks, end) in [(false, "<think>\n\n</think>\n\n"), (true, "<think>\n")] {
        let request = RenderRequest {
            variables: variables(json!({"enable_thinking": thinks})),
            ..request(&messages(&["user"]))
        };
        let chat = template(&source, &CONTROL_TOKENS).render(&request).unwrap();
        assert!(
            chat.pieces()
                .concat()
                .ends_with(&format!("assistant\n{end}")),
            "{chat:?}"
        );
    }
}

/// The template of gpt-oss reads reasoning in `thinking`, and refuses text beside it in a message with calls.
#[test]
fn gpt_oss_keeps_its_reasoning_between_calls() {
    let source = shape("gpt_oss");
    let written = |content: Value, roles: &[&str]| {
        let mut messages = messages(roles);
        messages[1]["reasoning_content"] = json!("I should look.");
        messages[1]["content"] = content;
        let chat = template(&source, &CONTROL_TOKENS).render(&request(&messages));
        chat.unwrap().pieces().concat()
    };
    let analysis = |text: &str| {
        format!(
            "<|start|>assistant<|channel|>analysis<|message|>{text}<|end|><|start|>assistant to=functions.look<|channel|>commentary json"
        )
    };
    let before_result = written(json!(null), &["user", "call", "tool"]);
    assert!(
        before_result.contains(&analysis("I should look.")),
        "{before_result}"
    );
    let with_text = written(json!("Well."), &["user", "call", "tool"]);
    assert!(
        with_text.contains(&analysis("I should look.\n\nWell.")),
        "{with_text}"
    );
    // Behind an answer, the template leaves the reasoning out.
    let over = written(json!(null), &["user", "call", "tool", "assistant", "user"]);
    assert!(!over.contains("I should look."), "{over}");
}

/// The expected text is Jinja2's own.
#[test]
fn gpt_oss_gets_the_types_of_parameters() {
    let text = json!({"type": "string"});
    let near = json!({"type": "array", "items": {"type": "object", "properties": {"x": {"type": "integer"}}}});
    let properties = json!({
        "days": {"type": "array", "items": text, "description": "Possible days"},
        "seats": {"type": "integer", "default": 2},
        "price": {"enum": ["low", "high"], "type": "string", "default": "low"},
        "note": {"type": "string", "nullable": true},
        "at": {"oneOf": [text, {"type": "number"}]},
        "size": {"type": ["number", "null"]},
        "where": {"type": "object", "properties": {"city": text, "near": near}, "required": ["city"]},
        "more": {},
    });
    let parameters = json!({"type": "object", "properties": properties, "required": ["days"]});
    let function =
        json!({"name": "book", "description": "Books a table", "parameters": parameters});
    let request = RenderRequest {
        tools: vec![json!({"type": "function", "function": function})],
        ..request(&messages(&["user"]))
    };
    let chat = template(&shape("gpt_oss"), &CONTROL_TOKENS).render(&request);
    let written = chat.unwrap().pieces().concat();
    let expected = "// Books a table\ntype book = (_: {\n// Possible days\ndays: string[],\nseats?: number, // default: 2,\n\
                    price?: \"low\" | \"high\", // default: low,\nnote?: string | null,\nat?: string | number,\nsize?: number | null,\n\
                    where?: {\ncity: string, near?: {\nx?: number}[]},\nmore?: any,\n}) => any;\n";
    assert!(written.contains(expected), "{written}");
}
