//! Tests that the parser of each format reads what the grammar of the format allows.

use serde_json::json;

use super::*;
use crate::{
    grammar::tests::{check_fits, check_tokens_fit},
    markup::{Callable, Demand, InPrompt, ReasoningTags, ToolFormat},
};

/// Formats with arguments in JSON behind a mark.
const MARKED: [&str; 5] = [
    "hermes",
    "mistral",
    "mistral_args",
    "functionary",
    "granite",
];

fn rules(format: &str, demand: Demand) -> AnswerRules {
    let schema = json!({
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": false,
    });
    let function = |name: &str| Callable {
        name: name.to_owned(),
        parameters: schema.clone(),
    };
    AnswerRules {
        calls: CallRules {
            format: ToolFormat::named(format).unwrap(),
            functions: ["f", "g"].map(function).into(),
            is_parallel: true,
            demand,
        },
        reasoning: None,
        answer: None,
    }
}

#[track_caller]
fn check(rules: &AnswerRules, good: &[&str], bad: &[&str]) {
    check_fits(rules.grammar(&Marks::default()).unwrap(), good, bad);
}

/// Writes calls in a format. Each is a name with arguments in compact JSON.
fn written(format: &str, calls: &[(&str, &str)]) -> String {
    ToolFormat::named(format).unwrap().write(calls)
}

#[test]
fn forced_calls_are_what_the_format_writes() {
    for format in MARKED {
        let one = written(format, &[("f", r#"{"a":1}"#)]);
        let two = written(format, &[("g", r#"{"a":1}"#), ("f", r#"{"a":-2}"#)]);
        let wrong = written(format, &[("f", r#"{"a":"x"}"#)]);
        let unknown = written(format, &[("h", r#"{"a":1}"#)]);
        let (before, behind) = (format!("?{one}"), format!("{one}?"));
        let bad = ["", "Hi", &wrong, &unknown, &behind, &before];
        check(&rules(format, Demand::Any), &[&one, &two], &bad);

        let mut single = rules(format, Demand::Any);
        single.calls.is_parallel = false;
        check(&single, &[&one], &[&two]);
    }
}

/// Rules of forced calls of one function in Gemma's notation.
fn gemma4(parameters: Value) -> AnswerRules {
    let mut rules = rules("gemma4", Demand::Any);
    let name = "f".to_owned();
    rules.calls.functions = [Callable { name, parameters }].into();
    rules
}

#[test]
fn a_schema_within_itself_is_followed_in_json() {
    let node = json!({
        "type": "object",
        "properties": {"n": {"type": "integer"}, "next": {"$ref": "#/$defs/node"}},
        "additionalProperties": false,
    });
    let rules = gemma4(json!({
        "type": "object",
        "properties": {"node": {"$ref": "#/$defs/node"}},
        "additionalProperties": false,
        "$defs": {"node": node},
    }));
    let call = |value: &str| format!("<|tool_call>call:f{{node:{value}}}<tool_call|>");
    let good = ["{n:1}", r#"{n:1,next:{"n":2,"next":{"n":3}}}"#].map(call);
    let bad = ["{n:true}", r#"{n:1,next:{"n":2,"next":{"n":true}}}"#].map(call);
    check(
        &rules,
        &good.each_ref().map(|s| &**s),
        &bad.each_ref().map(|s| &**s),
    );
}

/// A schema whose definitions refer to the next one as often as `members` says, `depth` times.
fn deep(members: usize, depth: usize) -> Value {
    let object = |level: usize| {
        let member = match level < depth {
            true => json!({"$ref": format!("#/$defs/{}", level + 1)}),
            false => json!({"type": "boolean"}),
        };
        let members = (0..members).map(|at| (format!("m{at}"), member.clone()));
        json!({
            "type": "object",
            "properties": Value::Object(members.collect()),
            "additionalProperties": false,
        })
    };
    let mut root = object(0);
    root["$defs"] = (1..=depth)
        .map(|level| (level.to_string(), object(level)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    root
}

#[test]
fn schemas_that_are_too_large_are_refused() {
    for (members, depth) in [(3, 20), (40, 3), (2000, 0)] {
        let made = gemma4(deep(members, depth)).grammar(&Marks::default());
        let why = made.unwrap_err().to_string();
        assert!(
            why.contains("make the schema smaller"),
            "{members}, {depth}: {why}"
        );
    }
    for (members, depth) in [(1, 5000), (60, 0), (6, 2)] {
        let made = gemma4(deep(members, depth)).grammar(&Marks::default());
        assert!(made.is_ok(), "{members}, {depth}: {made:?}");
    }
}

#[test]
fn patterns_are_followed_as_their_authors_mean_them() {
    for (pattern, good, bad) in [
        (r"^a/b$", &["a/b"][..], &["a/bc", "a"][..]),
        (r"^a\/b$", &["a/b"], &["a/bc", r"a\/b"]),
        (r"^a\\$", &[r"a\"], &["a", r"a\b"]),
        (r"^a\$", &["a$", "a$b"], &["a"]),
        (r"^a$|^b$", &["a", "b"], &["ab", "bc", ""]),
        (r"^a|b$", &["a", "ax", "xb"], &["xa", "bx"]),
        (r"^(a|b)[|(]$", &["a|", "b("], &["a", "b)"]),
    ] {
        let mut rules = rules("qwen3_coder", Demand::Any);
        let parameters = json!({
            "type": "object",
            "properties": {"p": {"type": "string", "pattern": pattern}},
            "required": ["p"],
            "additionalProperties": false,
        });
        let name = "f".to_owned();
        rules.calls.functions = [Callable { name, parameters }].into();
        let call = |value: &&str| {
            let parameter = format!("<parameter=p>\n{value}\n</parameter>\n");
            format!("<tool_call>\n<function=f>\n{parameter}</function>\n</tool_call>")
        };
        let (good, bad): (Vec<_>, Vec<_>) = (
            good.iter().map(call).collect(),
            bad.iter().map(call).collect(),
        );
        let (good, bad): (Vec<_>, Vec<_>) = (
            good.iter().map(|s| &**s).collect(),
            bad.iter().map(|s| &**s).collect(),
        );
        check(&rules, &good, &bad);
    }
}

#[test]
fn a_bare_call_ends_the_answer() {
    let call = r#"{"name": "f", "parameters": {"a":1}}"#;
    let two = format!("{call}; {call}");
    let good = ["", "Hi", r#"{"title": "x"}"#, call, &two];
    let bad = [&*format!("{call} Hi")];
    check(&rules("llama3", Demand::Nothing), &good, &bad);
}

#[test]
fn text_is_free_until_a_call_begins() {
    for format in MARKED {
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
        let bad = [&*wrong, &format!("Hi {wrong}")];
        check(&rules(format, Demand::Nothing), &good, &bad);
    }
}

fn thinking(in_prompt: InPrompt) -> Option<Reasoning> {
    let tags = ReasoningTags::new("<think>", "</think>");
    Some(Reasoning { tags, in_prompt })
}

#[test]
fn reasoning_comes_first() {
    let mut rules = rules("hermes", Demand::Any);
    let call = written("hermes", &[("f", r#"{"a":1}"#)]);
    rules.reasoning = thinking(InPrompt::Nothing);
    let thought = format!("<think>\nso <tool_call> it\n</think>\n\n{call}");
    let bad = ["<think></think>", "so</think>"];
    check(&rules, &[&call, &thought], &bad);
    rules.reasoning = thinking(InPrompt::Opened);
    check(&rules, &[&format!("so</think>\n{call}")], &[&call]);
    rules.calls.demand = Demand::Nothing;
    let bad = ["so", "so</think><tool_call>Hi"];
    check(&rules, &["so</think>\n\nHi"], &bad);
}

#[test]
fn what_is_forced_follows_closed_reasoning_at_once() {
    let call = written("hermes", &[("f", r#"{"a":1}"#)]);
    let bad = ["", "<think>", "\n\n", &*format!("<think></think>{call}")];
    let mut rules = rules("hermes", Demand::Any);
    rules.reasoning = thinking(InPrompt::Closed);
    check(&rules, &[&call], &bad);
    rules.calls.demand = Demand::Nothing;
    // Text may be reasoning again.
    check(&rules, &["Hi", &format!("<think></think>{call}")], &[]);
    rules.answer = Some(json!({"type": "null"}));
    check(&rules, &[&call, "null"], &bad);
}

#[test]
fn an_answer_without_calls_may_have_a_format_of_its_own() {
    let mut rules = rules("hermes", Demand::Nothing);
    rules.answer = Some(json!({"type": "array", "items": {"type": "null"}}));
    let call = written("hermes", &[("f", r#"{"a":1}"#)]);
    let bad = ["Hi", "", &format!("[null]{call}")];
    check(&rules, &["[null]", &call], &bad);
}

#[test]
fn a_mark_within_reasoning_begins_no_call() {
    let mut rules = rules("hermes", Demand::Nothing);
    rules.reasoning = thinking(InPrompt::Nothing);
    let call = written("hermes", &[("f", r#"{"a":1}"#)]);
    let thought = "<think>I could write <tool_call> but no.</think>";
    let good = [
        &*format!("{thought}Hello."),
        &format!("\n{thought}\n\nHello.\n{call}"),
        &format!("Hello <think>\n{call}"),
        &format!("<thin\n{call}"),
        &call,
    ];
    let bad = [
        &*format!("{thought}<tool_call>Hello"),
        "Hello <think><tool_call> but",
        "<thin<tool_call> but",
    ];
    check(&rules, &good, &bad);
}

#[test]
fn marks_that_are_control_tokens_are_written_as_such() {
    let marks = Marks::from_iter([("[TOOL_CALLS]".to_owned(), 256)]);
    let grammar = rules("mistral", Demand::Any).grammar(&marks).unwrap();
    let Grammar::Patterns(patterns) = grammar else {
        panic!("{grammar:?}")
    };
    let begin = [Pattern::Token(256), Pattern::Text("[".to_owned())];
    assert_eq!(patterns[..2], begin);
}

/// Control tokens of gpt-oss.
const CHANNELS: [&str; 7] = [
    "<|start|>",
    "<|channel|>",
    "<|message|>",
    "<|constrain|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
];

fn channel_marks() -> Marks {
    let marks = (256..).zip(CHANNELS);
    marks
        .map(|(token, text)| (text.to_owned(), token))
        .collect()
}

fn harmony(demand: Demand) -> (AnswerRules, Grammar) {
    let mut rules = rules("harmony", demand);
    rules.reasoning = Some(Reasoning {
        tags: ReasoningTags::of_template("<|channel|>analysis").unwrap(),
        in_prompt: InPrompt::Nothing,
    });
    let grammar = rules.grammar(&channel_marks()).unwrap();
    (rules, grammar)
}

#[test]
fn channels_of_control_tokens_are_followed() {
    let thought = "<|channel|>analysis<|message|>so to=functions.x it<|end|><|start|>assistant";
    let head = "<|channel|>commentary to=functions.f <|constrain|>json<|message|>";
    let call = format!("{head}{{\"a\":1}}<|call|>");
    let wrong = format!("{head}{{\"a\":true}}<|call|>");
    let answers = [
        "<|channel|>final<|message|>Hello.",
        &format!("{thought}<|channel|>final<|message|>Hello."),
        &format!("{thought}<|channel|>commentary<|message|>Look.<|end|><|start|>assistant{call}"),
    ];
    let untyped = "<|channel|>commentary to=functions.f<|message|>{\"a\":1}<|call|>";
    let calls = [call.as_str(), untyped, &format!("{thought}{call}")];
    let untyped_and_wrong = untyped.replace('1', "true");
    let bad = [
        wrong.as_str(),
        &untyped_and_wrong,
        &format!("{thought}{wrong}"),
    ];
    let (_, free) = harmony(Demand::Nothing);
    check_tokens_fit(&free, &CHANNELS, &[&answers[..], &calls].concat(), &bad);
    let (_, forced) = harmony(Demand::Any);
    check_tokens_fit(&forced, &CHANNELS, &calls, &[&answers[..], &bad].concat());
}

#[test]
fn a_recipient_in_the_role_begins_a_call() {
    let thought = "<|channel|>analysis<|message|>so to=functions.x it<|end|><|start|>assistant";
    let look = "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant";
    let call = |name: &str, kind: &str, a: &str| {
        let header = format!(" to=functions.{name}<|channel|>commentary {kind}<|message|>");
        format!("{header}{{\"a\":{a}}}<|call|>")
    };
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for before in ["", thought, look, &format!("{thought}{look}")] {
        good.push(format!("{before}{}", call("f", "json", "1")));
        good.push(format!("{before}{}", call("g", "<|constrain|>json", "1")));
        bad.push(format!("{before}{}", call("f", "json", "true")));
        bad.push(format!("{before}{}", call("h", "json", "1")));
        bad.push(format!("{before}{} Hi", call("f", "so", "1")));
    }
    let good: Vec<_> = good.iter().map(String::as_str).collect();
    let bad: Vec<_> = bad.iter().map(String::as_str).collect();
    check_tokens_fit(&harmony(Demand::Nothing).1, &CHANNELS, &good, &bad);
}

#[test]
fn a_header_may_name_the_type_of_the_answer() {
    let header = "<|channel|>final <|constrain|>json<|message|>";
    let thought = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant";
    let good = [&*format!("{header}{{}}"), &format!("{thought}{header}{{}}")];
    let (_, free) = harmony(Demand::Nothing);
    check_tokens_fit(&free, &CHANNELS, &good, &["<|call|>"]);
}

#[test]
fn an_answer_in_json_has_its_channel() {
    let (rules, _) = harmony(Demand::Nothing);
    let mut patterns = before_answer(&rules.reasoning.unwrap(), &channel_marks());
    patterns.push(Pattern::Json(json!({"type": "boolean"})));
    let final_channel = "<|channel|>final<|message|>";
    let thought = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant";
    let good = [
        &*format!("{final_channel}true"),
        &format!("{thought}{final_channel}false"),
    ];
    let bad = [
        "true",
        &format!("{final_channel}Hm"),
        &format!("{thought}true"),
    ];
    check_tokens_fit(&Grammar::Patterns(patterns), &CHANNELS, &good, &bad);
}
