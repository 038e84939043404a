//! Tests of the behavior that all formats share, with answers cut in every way.

use super::*;
use crate::markup::{FORMATS, ToolFormat};

fn parser(format: &str, is_parallel: bool, demand: Demand) -> CallParser {
    let function = |name: &str| Callable {
        name: name.to_owned(),
        parameters: Value::Bool(true),
    };
    CallParser::new(CallRules {
        format: ToolFormat::named(format).unwrap(),
        functions: ["f", "g"].map(function).into(),
        is_parallel,
        demand,
    })
}

/// Shows parts in short form: texts, and for each call `⟨f: ` and its arguments. `⟩` follows if the last call is
/// complete.
fn run<'a>(mut parser: CallParser, pieces: impl IntoIterator<Item = &'a str>) -> String {
    let mut parts = Vec::new();
    for piece in pieces {
        parts.extend(parser.push(piece));
        if parser.is_done() {
            break;
        }
    }
    parts.extend(parser.finish(false));
    let mut shown = String::new();
    let mut calls = 0;
    for part in parts {
        match part {
            AnswerContent::Reasoning(text) | AnswerContent::Text(text) => shown += &text,
            AnswerContent::Call(piece) => {
                if let Some(begin) = piece.begin {
                    calls += 1;
                    shown += &format!("⟨{}: ", begin.name);
                }
                assert_eq!(piece.index + 1, calls);
                shown += &piece.arguments;
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
pub fn check_parser(new: impl Fn() -> CallParser, text: &str, expected: &str) {
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
    for format in FORMATS {
        for text in [
            "",
            " Hi\n",
            "a < b [é] <tool {\"name\": 1} \n\n",
            "<tool_cal",
            "  ",
        ] {
            check(format.name, text, text);
        }
    }
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
    let id = |parts: &[AnswerContent]| match &parts[0] {
        AnswerContent::Call(piece) => piece.begin.clone().unwrap().id,
        other => panic!("{other:?}"),
    };
    assert_eq!(parser.push(head), []);
    let first = parser.push("{\"a");
    let argument = |index, text: &str| {
        AnswerContent::Call(CallPiece {
            index,
            begin: None,
            arguments: text.to_owned(),
        })
    };
    assert_eq!(first[1], argument(0, "{\"a"));
    assert_eq!(parser.push("\": 1"), [argument(0, "\": 1")]);
    assert_eq!(parser.push("}}</tool_call>"), [argument(0, "}")]);
    let second = parser.push(&format!("{head}{{"));
    assert!(id(&first).starts_with("call_"));
    assert_ne!(id(&first), id(&second));
}

#[test]
fn a_call_that_comes_again_ends_an_answer_that_has_to_call() {
    let call = |arguments: &str| {
        format!(r#"<tool_call>{{"name": "f", "arguments": {arguments}}}</tool_call>"#)
    };
    let text = [
        call(r#"{"a": 1}"#),
        call(r#"{"a": 2}"#),
        call(r#"{"a":1}"#),
        call("{}"),
    ]
    .concat();
    let once = r#"⟨f: {"a": 1}⟨f: {"a": 2}⟨f: {"a":1}"#;
    check_parser(
        || parser("hermes", true, Demand::Any),
        &text,
        &format!("{once}⟩"),
    );
    check("hermes", &text, &format!("{once}⟨f: {{}}⟩"));
}

#[test]
fn an_answer_that_is_cut_off_within_a_mark_or_head_ends_before_it() {
    for (format, head) in [
        ("hermes", "<tool_call>\n{\"name\": \"f\", \"argu"),
        ("granite", "<tool_call>[{\"na"),
        ("qwen3_coder", "<tool_call>\n<function=f"),
    ] {
        for cut in 1..=head.len() {
            let mut parser = parser(format, true, Demand::Nothing);
            let mut parts = parser.push(&format!("Well.\n{}", &head[..cut]));
            parts.extend(parser.finish(true));
            assert_eq!(parts, [AnswerContent::Text("Well.".to_owned())], "{cut}");
        }
    }
}
