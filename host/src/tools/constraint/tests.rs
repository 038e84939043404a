//! What each format's grammar allows is what its parser reads.

use serde_json::json;

use super::*;
use crate::{grammar::tests::check_fits, reply::ReasoningTags};

fn rules(format: &str, is_forced: bool) -> CallRules {
    let schema = json!({
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": false,
    });
    CallRules {
        format: ToolFormat::named(format).unwrap(),
        tools: ["f", "g"]
            .map(|name| (name.to_owned(), schema.clone()))
            .to_vec(),
        is_forced,
        is_parallel: true,
        thoughts: None,
        answer: None,
    }
}

#[track_caller]
fn check(rules: &CallRules, good: &[&str], bad: &[&str]) {
    check_fits(rules.grammar(|_| None), good, bad);
}

/// Calls as the format writes them, with compact arguments.
fn written(format: &str, calls: &[(&str, &str)]) -> String {
    ToolFormat::named(format).unwrap().write(calls)
}

#[test]
fn forced_calls_are_what_the_format_writes() {
    for format in [
        "hermes",
        "mistral",
        "mistral_args",
        "functionary",
        "granite",
    ] {
        let one = written(format, &[("f", r#"{"a":1}"#)]);
        let two = written(format, &[("g", r#"{"a":1}"#), ("f", r#"{"a":-2}"#)]);
        let wrong = written(format, &[("f", r#"{"a":"x"}"#)]);
        let unknown = written(format, &[("h", r#"{"a":1}"#)]);
        let bad = [
            "",
            "Hi",
            &wrong,
            &unknown,
            &format!("{one}?"),
            &format!("?{one}"),
        ];
        check(&rules(format, true), &[&one, &two], &bad);

        let mut single = rules(format, true);
        single.is_parallel = false;
        check(&single, &[&one], &[&two]);
    }
}

#[test]
fn llama3_writes_bare_json() {
    let call = r#"{"name": "f", "parameters": {"a":1}}"#;
    let two = format!("{call}; {call}");
    check(
        &rules("llama3", true),
        &[call, &two],
        &["", "Hi", "<|python_tag|>"],
    );
    let wrong = r#"{"name": "f", "parameters": {"b":1}}"#;
    let text = ["", "Hi", r#"{"title": "x"}"#, call, &two];
    check(
        &rules("llama3", false),
        &text,
        &[wrong, &format!("{call} Hi")],
    );
}

#[test]
fn text_is_free_until_a_call_begins() {
    for format in [
        "hermes",
        "mistral",
        "mistral_args",
        "functionary",
        "granite",
    ] {
        let call = written(format, &[("f", r#"{"a":1}"#)]);
        let wrong = written(format, &[("f", r#"{"a":"x"}"#)]);
        let good = [
            "",
            "Hi\n",
            "a < [ b",
            &call,
            &format!("Well.\n{call}"),
            &format!("{call}\n{call} ok"),
        ];
        check(
            &rules(format, false),
            &good,
            &[&wrong, &format!("Hi {wrong}")],
        );
    }
}

#[test]
fn thoughts_come_first() {
    let mut rules = rules("hermes", true);
    let call = written("hermes", &[("f", r#"{"a":1}"#)]);
    let thoughts = |are_open| {
        Some(Thoughts {
            tags: ReasoningTags::new("<think>", "</think>"),
            are_open,
        })
    };
    rules.thoughts = thoughts(false);
    let thought = format!("<think>\nso <tool_call> it\n</think>\n\n{call}");
    check(
        &rules,
        &[&call, &thought],
        &["<think></think>", "so</think>"],
    );
    rules.thoughts = thoughts(true);
    check(&rules, &[&format!("so</think>\n{call}")], &[&call]);
    rules.is_forced = false;
    check(
        &rules,
        &["so</think>\n\nHi"],
        &["so", "so</think><tool_call>Hi"],
    );
}

#[test]
fn an_answer_without_calls_may_have_a_format_of_its_own() {
    let mut rules = rules("hermes", false);
    rules.answer = Some(json!({"type": "array", "items": {"type": "null"}}));
    let call = written("hermes", &[("f", r#"{"a":1}"#)]);
    check(
        &rules,
        &["[null]", &call],
        &["Hi", "", &format!("[null]{call}")],
    );
}

#[test]
fn marks_that_are_control_tokens_are_written_as_such() {
    let control = |text: &str| (text == "[TOOL_CALLS]").then_some(256);
    let grammar = rules("mistral", true).grammar(control);
    let Grammar::Pieces(pieces) = grammar else {
        panic!("{grammar:?}")
    };
    assert_eq!(
        pieces[..2],
        [Piece::Token(256), Piece::Text("[".to_owned())]
    );
}
