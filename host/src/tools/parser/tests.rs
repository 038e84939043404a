//! Each format, as its models write it, in every chunking.

use super::*;

fn parser(format: &str, is_parallel: bool, demand: Demand) -> CallParser {
    CallParser::new(CallSyntax {
        format: ToolFormat::named(format).unwrap(),
        names: ["f", "g"].map(str::to_owned).into(),
        is_parallel,
        demand,
    })
}

/// What came, in short: texts, and for each call `f(` arguments `)`, where a call that is cut off has no `)`.
fn run<'a>(mut parser: CallParser, pieces: impl IntoIterator<Item = &'a str>) -> String {
    let mut parts = Vec::new();
    for piece in pieces {
        parts.extend(parser.push(piece));
        if parser.is_done() {
            break;
        }
    }
    parts.extend(parser.finish());
    let mut shown = String::new();
    let mut calls = 0;
    for part in parts {
        match part {
            Part::Text(text) => shown += &text,
            Part::Begin { index, name, .. } => {
                assert_eq!(index, calls);
                calls += 1;
                shown += &format!("⟨{name}: ");
            }
            Part::Arguments { index, text } => {
                assert_eq!(index + 1, calls);
                shown += &text;
            }
        }
    }
    if parser.has_called() {
        shown + "⟩"
    } else {
        shown
    }
}

#[track_caller]
fn check_parser(new: impl Fn() -> CallParser, text: &str, expected: &str) {
    assert_eq!(run(new(), [text]), expected);
    let characters = text
        .char_indices()
        .map(|(at, c)| &text[at..at + c.len_utf8()]);
    assert_eq!(run(new(), characters), expected, "by character");
    let borders: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    for &first in &borders {
        for &second in borders.iter().filter(|&&second| second >= first) {
            let pieces = [&text[..first], &text[first..second], &text[second..]];
            assert_eq!(run(new(), pieces), expected, "{pieces:?}");
        }
    }
}

#[track_caller]
fn check(format: &str, text: &str, expected: &str) {
    check_parser(|| parser(format, true, Demand::Nothing), text, expected);
}

#[test]
fn text_without_calls_is_untouched() {
    for format in [
        "hermes",
        "llama3",
        "mistral",
        "mistral_args",
        "functionary",
        "granite",
    ] {
        for text in [
            "",
            " Hi\n",
            "a < b [é] <tool {\"name\": 1} \n\n",
            "<tool_cal",
            "  ",
        ] {
            check(format, text, text);
        }
    }
}

#[test]
fn hermes() {
    check(
        "hermes",
        "Let me see.\n\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"}</tool_call>\"}}\n</tool_call>\n",
        "Let me see.⟨f: {\"a\": \"}</tool_call>\"}⟩",
    );
    check(
        "hermes",
        "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n<tool_call>\n{\"arguments\": {\"é\": [1]}, \"name\": \"g\"}\n</tool_call>",
        "⟨f: {}⟨g: {\"é\": [1]}⟩",
    );
}

#[test]
fn text_between_and_behind_calls_is_kept() {
    check(
        "hermes",
        "<tool_call>{\"name\": \"f\"}</tool_call>\n and <tool_call>{\"name\": \"g\"}</tool_call> done \n",
        "⟨f: {}and⟨g: {}done⟩",
    );
}

#[test]
fn llama3() {
    for text in [
        r#"{"name": "f", "parameters": {"a": 1}}"#,
        r#" {"type": "function", "name": "f", "parameters": {"a": 1}}"#,
        r#"<|python_tag|>{"name": "f", "parameters": {"a": 1}}"#,
    ] {
        check("llama3", text, r#"⟨f: {"a": 1}⟩"#);
    }
    check(
        "llama3",
        r#"<|python_tag|>{"name": "f", "parameters": {}}; {"name": "g", "parameters": {"b": {}}}"#,
        r#"⟨f: {}⟨g: {"b": {}}⟩"#,
    );
    for text in [
        r#"{"title": "x", "name": "f"}"#,
        r#"Like {"name": "f", "parameters": {}}"#,
        r#"{"name": "Ada", "parameters": {}}"#,
    ] {
        check("llama3", text, text);
    }
}

#[test]
fn mistral() {
    check(
        "mistral",
        r#"[TOOL_CALLS] [{"name": "f", "arguments": {"a": [1]}, "id": "123456789"}, {"name": "g", "arguments": {}}]"#,
        r#"⟨f: {"a": [1]}⟨g: {}⟩"#,
    );
    check(
        "mistral",
        r#"[TOOL_CALLS][{"name": "f", "arguments": "{\"a\": 1}"}]"#,
        r#"⟨f: {"a": 1}⟩"#,
    );
    check(
        "mistral_args",
        r#"Well [TOOL_CALLS]f[ARGS]{"a": "[ARGS]"}[TOOL_CALLS]g[CALL_ID]123456789[ARGS]{}"#,
        r#"Well⟨f: {"a": "[ARGS]"}⟨g: {}⟩"#,
    );
}

#[test]
fn functionary() {
    check(
        "functionary",
        r#"<function=f>{"a": "</function>"}</function><function=g>{}</function>"#,
        r#"⟨f: {"a": "</function>"}⟨g: {}⟩"#,
    );
}

#[test]
fn granite() {
    check(
        "granite",
        r#"<|tool_call|>[{"name": "f", "arguments": {"a": 1}}]"#,
        r#"⟨f: {"a": 1}⟩"#,
    );
}

#[test]
fn what_turns_out_to_be_no_call_is_text() {
    for text in [
        "<tool_call>\n{\"name\": \"unknown\", \"arguments\": {}}\n</tool_call>",
        "<tool_call> is how calls begin.",
        "<tool_call>{\"name\": 7}",
        "<tool_call>\n{\"na",
    ] {
        check("hermes", text, text);
    }
}

#[test]
fn a_call_that_is_cut_off_is_not_complete() {
    check(
        "hermes",
        "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"b",
        "⟨f: {\"a\": \"b",
    );
    check(
        "hermes",
        "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool",
        "⟨f: {\"a\": 1}⟩",
    );
}

#[test]
fn a_call_that_is_cut_off_within_its_head_is_none() {
    for (format, call, more) in [
        (
            "hermes",
            r#"<tool_call>{"name": "f", "arguments": {}}</tool_call>"#,
            "\n<tool_call>\n{\"name\": \"",
        ),
        (
            "llama3",
            r#"{"name": "f", "parameters": {}}"#,
            r#"; {"name": "g", "par"#,
        ),
        (
            "mistral",
            r#"[TOOL_CALLS][{"name": "f", "arguments": {}}"#,
            r#", {"name": "g""#,
        ),
        (
            "mistral_args",
            "[TOOL_CALLS]f[ARGS]{}",
            "[TOOL_CALLS]g[ARGS",
        ),
        ("functionary", "<function=f>{}</function>", "<function=g"),
        (
            "granite",
            r#"<|tool_call|>[{"name": "f", "arguments": {}}"#,
            r#", {"name": "g", "#,
        ),
    ] {
        let cuts = more.char_indices().map(|(at, _)| &more[..at]);
        for cut in cuts.chain([more]) {
            check(format, &format!("{call}{cut}"), "⟨f: {}⟩");
        }
    }
}

#[test]
fn where_there_must_be_a_call_the_beginning_of_its_head_is_no_text() {
    for (format, head) in [
        ("hermes", "<tool_call>\n{\"name\": \""),
        ("llama3", r#"{"name": "f", "par"#),
        ("functionary", "<function=f"),
    ] {
        for cut in 0..=head.len() {
            for demand in [Demand::Any, Demand::Named] {
                check_parser(|| parser(format, true, demand), &head[..cut], "");
            }
        }
    }
}

#[test]
fn text_behind_a_call_is_kept_to_its_end() {
    let call = "<tool_call>{\"name\": \"f\"}</tool_call>";
    check("hermes", &format!("{call} a <"), "⟨f: {}a <⟩");
}

#[test]
fn a_call_that_was_asked_for_by_name_is_not_why_an_answer_ends() {
    for (demand, expected) in [
        (Demand::Nothing, true),
        (Demand::Any, true),
        (Demand::Named, false),
    ] {
        let mut parser = parser("hermes", true, demand);
        parser.push("<tool_call>{\"name\": \"f\"}");
        assert_eq!(parser.ends_with_calls(), expected);
        assert!(parser.has_called());
    }
}

#[test]
fn the_first_call_is_the_last_one_where_only_one_is_allowed() {
    check_parser(
        || parser("hermes", false, Demand::Nothing),
        "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call><tool_call>{\"name\": \"g\"}",
        "⟨f: {}⟩",
    );
}

#[test]
fn ids_are_unique_and_arguments_come_as_they_are_written() {
    let mut parser = parser("hermes", true, Demand::Nothing);
    let head = r#"<tool_call>{"name": "f", "arguments": "#;
    let id = |parts: &[Part]| match &parts[0] {
        Part::Begin { id, .. } => id.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(parser.push(head), []);
    let first = parser.push("{\"a");
    let argument = |index, text: &str| Part::Arguments {
        index,
        text: text.to_owned(),
    };
    assert_eq!(first[1], argument(0, "{\"a"));
    assert_eq!(parser.push("\": 1"), [argument(0, "\": 1")]);
    assert_eq!(parser.push("}}</tool_call>"), [argument(0, "}")]);
    let second = parser.push(&format!("{head}{{"));
    assert!(id(&first).starts_with("call_"));
    assert_ne!(id(&first), id(&second));
}
