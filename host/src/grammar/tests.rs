mod crossing;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use prometheus::Registry;
use serde_json::{Value, json};
use toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

use super::{compile::Compiler, compiled::GrammarRuntime, *};
use crate::config::{self, JsonWhitespace};

/// A model whose tokens are the bytes. There may be control tokens from 256 on.
struct Bytes {
    compiler: Compiler,
    runtime: Arc<GrammarRuntime>,
}

impl Bytes {
    fn new() -> Self {
        Self::of(&ApproximateTokEnv::single_byte_env())
    }

    fn of(environment: &TokEnv) -> Self {
        let config = config();
        Self {
            compiler: Compiler::new(environment, &config).unwrap(),
            runtime: Arc::new(GrammarRuntime {
                workers: Arc::new(Workers::start(1).unwrap()),
                metrics: GrammarMetrics::register(&Registry::new(), "bytes").unwrap(),
                mask_words: 9,
                mask_timeout: config.mask_timeout,
            }),
        }
    }

    fn compile(&self, grammar: &Grammar) -> Result<CompiledGrammar, GrammarError> {
        let source = self.compiler.source(grammar)?;
        let runtime = self.runtime.clone();
        self.compiler.compile(source, runtime, 0, &OnceLock::new())
    }

    /// Whether a whole text fits the grammar.
    fn fits(&self, grammar: &Grammar, text: &str) -> bool {
        let bytes: Vec<u32> = text.bytes().map(u32::from).collect();
        self.fit(grammar, &bytes)
    }

    fn fit(&self, grammar: &Grammar, tokens: &[u32]) -> bool {
        let compiled = self.compile(grammar).unwrap();
        let mut matcher = compiled.matcher();
        for &token in tokens {
            let mut masks = Vec::new();
            if matcher.is_finished() || matcher.masks(&[], &mut masks).is_err() {
                return false;
            }
            if masks[token as usize / 32] >> (token % 32) & 1 == 0 {
                return false;
            }
            matcher.consume(token).unwrap();
        }
        matcher.is_finished() || matcher.may_end().unwrap()
    }
}

/// Compiles a grammar over bytes.
pub fn compiled(grammar: &Grammar) -> CompiledGrammar {
    Bytes::new().compile(grammar).unwrap()
}

fn config() -> config::Grammar {
    config::Grammar {
        json_whitespace: JsonWhitespace::Compact,
        compile_timeout: Duration::from_secs(60),
        compile_threads: 1,
        mask_timeout: Duration::from_secs(60),
        mask_threads: 1,
        cache_entries: 8,
        cache_bytes: 1 << 28,
        max_text_bytes: 1 << 20,
        max_symbols: 500_000,
        max_items: 50_000,
        max_compile_fuel: 1_000_000,
        max_mask_fuel: 200_000,
    }
}

#[track_caller]
pub fn check_fits(grammar: Grammar, good: &[&str], bad: &[&str]) {
    let bytes = Bytes::new();
    for (texts, expected) in [(good, true), (bad, false)] {
        for text in texts {
            let fits = bytes.fits(&grammar, text);
            assert_eq!(fits, expected, "{text:?}: {grammar:?}");
        }
    }
}

/// The same as [`check_fits`], for a model with these control tokens, from 256 on. The texts contain them by name.
#[track_caller]
pub fn check_tokens_fit(grammar: &Grammar, controls: &[&str], good: &[&str], bad: &[&str]) {
    let marked = |text: &&str| [&[TokTrie::SPECIAL_TOKEN_MARKER], text.as_bytes()].concat();
    let end = 256 + controls.len() as u32;
    let words = (0..=255_u8).map(|byte| vec![byte]);
    let words: Vec<_> = words
        .chain(controls.iter().chain(&["<end>"]).map(marked))
        .collect();
    let trie = TokTrie::from(&TokRxInfo::new(end + 1, end), &words);
    let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
    let model = Bytes::of(&environment);
    for (texts, expected) in [(good, true), (bad, false)] {
        for text in texts {
            let tokens = encode(text, controls);
            assert_eq!(model.fit(grammar, &tokens), expected, "{text}: {grammar:?}");
        }
    }
}

fn encode(mut text: &str, controls: &[&str]) -> Vec<u32> {
    let mut tokens = Vec::new();
    while let Some(&byte) = text.as_bytes().first() {
        let control = controls
            .iter()
            .position(|control| text.starts_with(control));
        match control {
            Some(at) => {
                tokens.push(256 + at as u32);
                text = &text[controls[at].len()..];
            }
            None => {
                tokens.push(byte.into());
                text = &text[1..];
            }
        }
    }
    tokens
}

/// The error of a grammar that is refused.
#[track_caller]
pub fn refusal(grammar: &Grammar) -> String {
    Bytes::new().compile(grammar).unwrap_err().to_string()
}

#[track_caller]
fn check_refused(grammar: Grammar, expected: &str) {
    let error = refusal(&grammar);
    println!("{error}");
    assert!(error.contains(expected), "{grammar:?}: {error}");
}

#[test]
fn each_kind_of_grammar_is_followed() {
    check_fits(
        Grammar::Regex("a+|é".into()),
        &["a", "aaa", "é"],
        &["", "b", "aé"],
    );
    let lark = "start: sum\nsum: NUMBER (\"+\" NUMBER)*\nNUMBER: /[0-9]+/";
    check_fits(
        Grammar::Lark(lark.into()),
        &["1", "1+23+4"],
        &["1+", "+1", "1 + 2"],
    );
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": false});
    let compact = &["{\"a\":1}"];
    let others = &["{\"a\": 1}", "{\"a\":1.5}", "{}", "{\"a\":1,\"b\":2}"];
    check_fits(Grammar::JsonSchema(schema.clone()), compact, others);
    let source = json!({"grammars": [{"json_schema": schema}]}).to_string();
    check_fits(Grammar::LlGuidance(source), compact, others);
    check_fits(Grammar::LlGuidance(lark.into()), &["1+2"], &["+"]);
}

#[test]
fn a_schema_may_say_what_whitespace_it_wants() {
    let schema = json!({"x-guidance": {"whitespace_flexible": true}, "type": "array", "items": {"type": "null"}});
    let good = ["[null,null]", "[ null,\n null]"];
    check_fits(Grammar::JsonSchema(schema), &good, &["[null null]"]);
    let schema =
        json!({"x-guidance": {"item_separator": ", "}, "type": "array", "items": {"type": "null"}});
    let (good, bad) = (["[null, null]"], ["[null,null]"]);
    check_fits(Grammar::JsonSchema(schema), &good, &bad);
}

#[test]
fn patterns_make_a_text() {
    let schema = json!({"type": "object", "properties": {"city": {"enum": ["Paris"]}}, "required": ["city"], "additionalProperties": false});
    let call = vec![
        Pattern::Text("<tool_call>\n{\"name\": \"w\", \"arguments\": ".into()),
        Pattern::Json(schema),
        Pattern::Text("}\n</tool_call>".into()),
    ];
    let other = vec![Pattern::Token(256), Pattern::Text("x".into())];
    let text = "<tool_call>\n{\"name\": \"w\", \"arguments\": {\"city\":\"Paris\"}}\n</tool_call>";
    let grammar = Grammar::Patterns(vec![Pattern::OneOf(vec![call, other])]);
    check_fits(grammar.clone(), &[text], &["", "x", "<tool_call>"]);
    let compiled = Bytes::new().compile(&grammar).unwrap();
    let mut matcher = compiled.matcher();
    matcher.consume(256).unwrap();
    matcher.consume(120).unwrap();
    assert!(matcher.is_finished());
}

#[test]
fn a_call_follows_each_trigger() {
    let text = |text: &str| Pattern::Text(text.into());
    let call = Pattern::OneOf(vec![vec![text("(1)")], vec![text("(2)")]]);
    let grammar = Grammar::Patterns(vec![
        Pattern::Many(vec![
            Pattern::Until(TextRules::default(), "<c>".into()),
            call,
        ]),
        Pattern::Free(TextRules::default().without("<c>")),
    ]);
    let good = &[
        "",
        "hello\n",
        "a < b <c",
        "<c>(1)",
        "so <c>(2) and <<c>(1)<c>(2).",
        "<c>(1)\n",
    ];
    let bad = &["<c>", "so <c>(3)", "so <c> (1)", "<c>(1)<c>"];
    check_fits(grammar, good, bad);
}

#[test]
fn text_of_any_kind_may_stand_around_tokens() {
    let text = |text: &str| Pattern::Text(text.into());
    let call = vec![
        Pattern::Free(TextRules::default()),
        Pattern::Token(256),
        text("x"),
    ];
    let grammar = Grammar::Patterns(vec![
        Pattern::Many(call),
        Pattern::Free(TextRules::default()),
    ]);
    let compiled = Bytes::new().compile(&grammar).unwrap();
    let mut matcher = compiled.matcher();
    for (token, may_end) in [
        (97, true),
        (256, false),
        (120, true),
        (10, true),
        (256, false),
    ] {
        matcher.consume(token).unwrap();
        assert_eq!(matcher.may_end().unwrap(), may_end, "{token}");
    }
}

#[test]
fn a_text_may_not_begin_like_another() {
    let grammar = Grammar::Patterns(vec![Pattern::Free(
        TextRules::default().but_not(r"(\{a|\()(?s:.*)"),
    )]);
    check_fits(grammar, &["", "{", "{b", "a{a"], &["{a", "(", "{ab"]);
}

#[test]
fn what_cannot_be_followed_is_refused_with_its_reason() {
    check_refused(Grammar::Regex("(".into()), "regex");
    check_refused(Grammar::Regex("[^\\s\\S]".into()), "no text fits");
    check_refused(Grammar::Regex("".into()), "only the empty text");
    check_refused(Grammar::Lark("start: \"a\"\n  foo".into()), "2(6)");
    check_refused(Grammar::Lark("start: foo".into()), "foo");
    check_refused(
        Grammar::Lark("start: \"a\" start".into()),
        "always needs another",
    );
    check_refused(
        Grammar::LlGuidance("{\"grammars\": 1}".into()),
        "invalid type",
    );
    let schema = |schema: Value| Grammar::JsonSchema(schema);
    check_refused(
        schema(json!({"type": "array", "uniqueItems": true})),
        "uniqueItems",
    );
    check_refused(
        schema(json!({"type": "string", "format": "nonsense"})),
        "nonsense",
    );
    check_refused(schema(json!(false)), "Unsatisfiable");
    check_refused(
        schema(json!({"type": "integer", "minimum": 2, "maximum": 1})),
        "Unsatisfiable",
    );
    let endless = json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]});
    check_refused(schema(endless), "always needs another");
    let too_long = json!({"type": "string", "pattern": "^a$", "minLength": 5});
    check_refused(schema(too_long.clone()), "Unsatisfiable");
    let nested = json!({"type": "object", "properties": {"a": too_long}, "required": ["a"]});
    check_refused(schema(nested), "Unsatisfiable");
    check_refused(schema(json!(3)), "must be an object");
    check_refused(
        schema(json!({"$ref": "https://example.com/x.json"})),
        "example.com",
    );
}

#[test]
fn drafts_leave_no_trace() {
    let schema = json!({
        "x-guidance": {"key_separator": ": ?"}, "type": "object",
        "properties": {"a1": {"type": "boolean"}, "a3": {"enum": ["x"]}},
    });
    let compiled = Bytes::new().compile(&Grammar::JsonSchema(schema)).unwrap();
    let masks_behind = |draft: &str| {
        let (mut matcher, mut masks) = (compiled.matcher(), Vec::new());
        for token in "{\"a".bytes() {
            matcher.consume(token.into()).unwrap();
        }
        let draft: Vec<u32> = draft.bytes().map(u32::from).collect();
        matcher.masks(&draft, &mut masks).unwrap();
        assert_eq!(masks.len(), 9 * (1 + draft.len()));
        for token in "3\":".bytes() {
            matcher.consume(token.into()).unwrap();
        }
        matcher.masks(&[], &mut masks).unwrap();
        masks
    };
    let expected = masks_behind("");
    for draft in ["1", "1\":", "1\":t", "3\":\"x\""] {
        assert_eq!(masks_behind(draft), expected, "{draft}");
    }
}

#[test]
fn lenient_schemas_lose_what_is_not_supported() {
    let schema = json!({"type": "array", "items": {"type": "null"}, "uniqueItems": true, "x-guidance": {"lenient": true}});
    check_fits(Grammar::JsonSchema(schema), &["[null,null]"], &["[1]"]);
}

#[test]
fn dates_and_times_are_exact() {
    let format = |format: &str| Grammar::JsonSchema(json!({"type": "string", "format": format}));
    check_fits(
        format("date"),
        &[
            "\"2024-02-29\"",
            "\"2000-02-29\"",
            "\"2023-02-28\"",
            "\"1999-12-31\"",
        ],
        &[
            "\"2023-02-29\"",
            "\"1900-02-29\"",
            "\"2024-02-30\"",
            "\"2024-04-31\"",
        ],
    );
    check_fits(
        format("time"),
        &["\"23:59:59Z\"", "\"00:00:00.5+01:00\""],
        &["\"12:00:60Z\"", "\"24:00:00Z\""],
    );
    let inner = json!({"type": "array", "items": {"type": "string", "format": "date-time"}});
    check_fits(
        Grammar::JsonSchema(inner),
        &["[\"2023-02-28T10:00:00Z\"]", "[\"2024-02-29t23:59:59Z\"]"],
        &["[\"2023-02-29T10:00:00Z\"]", "[\"2023-02-28T10:00:60Z\"]"],
    );
}

#[test]
fn addresses_are_as_long_as_the_standards_allow() {
    let check = |format: &str, good: &[String], bad: &[String]| {
        let schema = json!({"type": "string", "format": format});
        for (texts, expected) in [(good, true), (bad, false)] {
            for text in texts {
                let text = format!("\"{text}\"");
                let fits = Bytes::new().fits(&Grammar::JsonSchema(schema.clone()), &text);
                assert_eq!(fits, expected, "{format}: {text}");
            }
        }
    };
    let label = "a".repeat(63);
    let name = |last: usize| format!("{label}.{label}.{label}.{}", "c".repeat(last));
    check(
        "email",
        &[
            "a.b@example.org".into(),
            "a@[127.0.0.1]".into(),
            format!("{label}b@example.org"),
        ],
        &[format!("{label}bb@example.org")],
    );
    check(
        "hostname",
        &["localhost".into(), name(61)],
        &[format!("{label}a"), name(62)],
    );
}
