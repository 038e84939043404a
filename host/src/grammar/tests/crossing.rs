//! Grammars and their errors are equal after they have crossed to another process.

use super::*;
use crate::plugin::tests::{check, crossed};

#[test]
fn grammars_cross() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    for text in [
        Grammar::Regex,
        Grammar::Lark,
        Grammar::Gbnf,
        Grammar::LlGuidance,
    ] {
        check(&text("[\"\\\n\u{7f}é]".to_owned()));
    }
    check(&Grammar::JsonSchema(schema.clone()));
    check(&Grammar::Patterns(vec![]));
    check(&Grammar::Patterns(vec![
        Pattern::Text("<call>".into()),
        Pattern::Token(u32::MAX),
        Pattern::Space,
        Pattern::Free(TextRules::default()),
        Pattern::Until(TextRules::matching("a+").without("b"), "end".into()),
        Pattern::OneOf(vec![
            vec![],
            vec![Pattern::Many(vec![
                Pattern::Json(schema),
                Pattern::OneOf(vec![vec![Pattern::Json(json!(true))], vec![]]),
            ])],
        ]),
    ]));
}

/// Values of objects are written in the order of the schema's keys.
#[test]
fn the_keys_of_a_schema_keep_their_order() {
    let text = r#"{"z":{"y":1,"b":2},"a":[{"d":null,"c":"é"}],"m":0.1}"#;
    let schema: Value = serde_json::from_str(text).unwrap();
    let Grammar::JsonSchema(there) = crossed(&Grammar::JsonSchema(schema)) else {
        panic!("another grammar");
    };
    assert_eq!(there.to_string(), text);
}

#[test]
fn the_numbers_of_a_schema_stay_as_they_are() {
    let numbers = json!([
        i64::MIN,
        u64::MAX,
        0.123_456_789_012_345_68,
        1.797_693_134_862_315_7e308,
        5e-324,
        -0.0,
        2.0
    ]);
    check(&Grammar::JsonSchema(numbers));
}

/// Every grammar that is sent can be read: the sender refuses one that is nested too deeply.
#[test]
fn a_schema_is_sent_if_it_is_not_nested_too_deeply() {
    let nested = |depth| (0..depth).fold(json!(1), |inner, _| json!([inner]));
    check(&Pattern::Json(nested(127)));
    let deeper = Pattern::Json(nested(128));
    assert!(postcard::to_stdvec(&deeper).is_err());
    let text = nested(128).to_string();
    assert!(serde_json::from_str::<Value>(&text).is_err());
}

#[test]
fn errors_of_grammars_cross() {
    let limit = Duration::from_millis(1500);
    for error in [
        GrammarError::Invalid("no text fits it".into()),
        GrammarError::TooLong { bytes: 9, limit: 8 },
        GrammarError::Timeout(limit),
        GrammarError::Slow(limit),
        GrammarError::Unstable,
        GrammarError::Busy,
    ] {
        check(&error);
    }
}

#[test]
fn the_configuration_of_grammars_crosses() {
    check(&config::Grammar {
        json_whitespace: JsonWhitespace::Flexible,
        max_compile_fuel: u64::MAX,
        ..config()
    });
}
