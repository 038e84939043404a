//! Golden cases: a file `golden/NAME.txt` for each format of the table. Each part begins with a line `=== KIND`:
//!
//! - `template`: a piece of a chat template, from which the format must be recognized
//! - `whole template` (or `shape`, a file of `prompt/tests/shapes/`), then `prompt`: a template as models of this format have it,
//!   shortened, and what it writes for `golden/conversation.json`. `prompt/tests/golden.rs` checks it.
//! - `calls`, then `written`: calls, each a name with arguments, and the text that they are written as
//! - `said`, then `pieces`: a model's text, and what is read from it: texts, and for each call `⟨name: ` and its
//!   arguments. `⟩` follows if the last call is complete.
//! - `fits`, `unfit`: texts that the grammar must allow, or must not, if the model may choose to call or not
//! - `forced`: texts that the grammar must allow if the answer must be calls

use std::fs;

use serde_json::{Map, Value, json};

use super::{
    closed,
    constraint::{AnswerRules, Marks},
};
use crate::{
    grammar::{Grammar, tests::check_fits},
    markup::{
        AnswerContent, CallParser, CallRules, Callable, Demand, FORMATS, ToolFormat,
        parser_tests::check_parser,
    },
};

/// The functions that the golden cases call.
pub fn functions() -> Vec<Callable> {
    let string = json!({"type": "string"});
    let f = json!({
        "type": "object",
        "properties": {
            "a": {"type": "integer"},
            "s": string,
            "b": {"type": "boolean"},
            "l": {"type": "array", "items": string},
            "o": {"type": "object", "properties": {"k": {"type": "integer"}, "t": string}},
            "e": {"enum": ["x y", "z"]},
            "p": {"type": "string", "pattern": "^[0-9]{2}$"},
        },
        "required": ["a"],
        "x-guidance": {"item_separator": ", ?", "key_separator": ": ?"},
    });
    let g = json!({"type": "object", "properties": {}});
    let function = |name: &str, schema: Value| Callable {
        name: name.to_owned(),
        parameters: closed(schema),
    };
    vec![function("f", f), function("g", g)]
}

/// A file of the golden cases.
pub fn file(name: &str) -> String {
    let path = format!("{}/src/tools/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The parts of a format's file, each with its kind.
pub fn parts(format: &ToolFormat) -> Vec<(String, String)> {
    let file = file(&format!("{}.txt", format.name));
    let parts = file.split("=== ").skip(1).map(|part| {
        let (kind, text) = part.split_once('\n').unwrap();
        (kind.to_owned(), text.strip_suffix('\n').unwrap().to_owned())
    });
    parts.collect()
}

/// The parts of one kind, each with the text of the part after it.
pub fn of_kind<'a>(
    parts: &'a [(String, String)],
    kind: &'a str,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let next = parts
        .iter()
        .skip(1)
        .map(|(_, text)| text.as_str())
        .chain([""]);
    let pairs = parts.iter().zip(next);
    pairs.filter_map(move |((of, text), next)| (of == kind).then_some((text.as_str(), next)))
}

fn rules(format: &'static ToolFormat, demand: Demand) -> CallRules {
    CallRules {
        format,
        functions: functions().into(),
        is_parallel: true,
        demand,
    }
}

fn grammar(format: &'static ToolFormat, demand: Demand) -> Grammar {
    let rules = AnswerRules {
        calls: rules(format, demand),
        reasoning: None,
        answer: None,
    };
    rules.grammar(&Marks::default()).unwrap()
}

#[test]
fn formats_are_recognised() {
    for format in FORMATS {
        let parts = parts(format);
        for (template, _) in of_kind(&parts, "template") {
            let found = ToolFormat::of_template(template).map(|format| format.name);
            assert_eq!(found, Some(format.name), "{template}");
        }
    }
    assert_eq!(ToolFormat::of_template("{{ message.content }}"), None);
}

#[test]
fn calls_are_written() {
    for format in FORMATS {
        let parts = parts(format);
        let mut count = 0;
        for (calls, written) in of_kind(&parts, "calls") {
            let calls: Vec<(String, Value)> = calls
                .lines()
                .map(|line| line.split_once(' ').unwrap())
                .map(|(name, json)| (name.to_owned(), serde_json::from_str(json).unwrap()))
                .collect();
            let calls: Vec<_> = calls
                .iter()
                .map(|(name, arguments)| (name.as_str(), spaced(arguments)))
                .collect();
            let calls: Vec<_> = calls
                .iter()
                .map(|(name, json)| (*name, json.as_str()))
                .collect();
            assert_eq!(format.write(&calls), written, "{}", format.name);
            count += 1;
        }
        assert!(count > 0, "{}", format.name);
    }
}

/// Writes an object as chat templates do, with spaces.
fn spaced(arguments: &Value) -> String {
    let fields: &Map<_, _> = arguments.as_object().unwrap();
    let members = fields
        .iter()
        .map(|(key, value)| format!("\"{key}\": {value}"));
    format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
}

#[test]
fn answers_are_read_however_they_are_cut() {
    for format in FORMATS {
        let parts = parts(format);
        let mut count = 0;
        for (said, pieces) in of_kind(&parts, "said") {
            let new = || CallParser::new(rules(format, Demand::Nothing));
            check_parser(new, said, pieces);
            count += 1;
        }
        assert!(count > 1, "{}", format.name);
    }
}

#[test]
fn grammars_allow_what_fits_the_schemas() {
    for format in FORMATS {
        let parts = parts(format);
        let of = |kind: &'static str| -> Vec<&str> {
            of_kind(&parts, kind).map(|(text, _)| text).collect()
        };
        let (fits, unfit, forced) = (of("fits"), of("unfit"), of("forced"));
        let all = [&fits[..], &["", "Hi.\n", "a < [ {\"b\": 1}"], &forced].concat();
        assert!(!unfit.is_empty() && !forced.is_empty(), "{}", format.name);
        check_fits(grammar(format, Demand::Nothing), &all, &unfit);
        let unforced = [&unfit[..], &["", "Hi."]].concat();
        check_fits(grammar(format, Demand::Any), &forced, &unforced);
    }
}

/// Texts that a forced grammar allows are read as calls.
#[test]
fn what_is_forced_is_read_as_calls() {
    for format in FORMATS {
        let parts = parts(format);
        for (forced, _) in of_kind(&parts, "forced") {
            let mut parser = CallParser::new(rules(format, Demand::Any));
            let said = parser.push(forced);
            assert!(parser.ends_with_calls(), "{}: {forced}", format.name);
            let is_call = |part: &AnswerContent| !matches!(part, AnswerContent::Text(_));
            assert!(said.iter().all(is_call), "{}: {said:?}", format.name);
        }
    }
}

/// Nothing of a call is read as text, wherever an answer is cut off.
#[test]
fn cut_off_calls_are_no_text() {
    for format in FORMATS {
        let parts = parts(format);
        for (forced, _) in of_kind(&parts, "forced") {
            let cuts = forced.char_indices().map(|(at, _)| &forced[..at]);
            for demand in [Demand::Nothing, Demand::Any, Demand::Named] {
                for cut in cuts.clone() {
                    let mut parser = CallParser::new(rules(format, demand));
                    let said = [parser.push(cut), parser.finish(true)].concat();
                    let text = said
                        .iter()
                        .find(|part| matches!(part, AnswerContent::Text(_)));
                    assert_eq!(text, None, "{}: {cut}", format.name);
                }
            }
        }
    }
}
