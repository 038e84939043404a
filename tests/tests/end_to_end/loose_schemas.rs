//! Schemas that grammars can follow only in part: which parts are followed exactly, and what answers say about the rest.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{Client, Server, ServerOptions, chat, text};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn what_asks_for_nothing_or_is_exact_all_the_same_is_not_told() {
    let (_server, client) = start();
    let kind = |kind: &str| json!({"type": "object", "properties": {"kind": {"const": kind}}, "required": ["kind"], "additionalProperties": false});
    let format = json!({"type": "string", "format": "color", "maxLength": 3});
    for (schema, is_strict) in [
        (format.clone(), false),
        (
            json!({"oneOf": [{"const": 1}, {"const": 2}, {"const": "1"}]}),
            true,
        ),
        (
            json!({"oneOf": [{"type": "integer", "maximum": 9}, {"type": "null"}]}),
            true,
        ),
        (
            json!({"oneOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}], "$defs": {"a": kind("a"), "b": kind("b")}}),
            true,
        ),
    ] {
        let (status, answer) = ask(&client, &schema, is_strict, 1).await;
        assert_eq!(status, StatusCode::OK, "{schema}: {answer}");
        assert_eq!(answer["warnings"], Value::Null, "{answer}");
        assert!(obeys(&schema, &answer), "{schema}: {answer}");
    }
    let (status, answer) = ask(&client, &format, true, 1).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    assert!(answer.to_string().contains("color"), "{answer}");
}

#[tokio::test]
async fn what_cannot_be_enforced_is_told_with_what_came_of_it() {
    let (_server, client) = start();
    let digits = json!({"type": "array", "items": {"enum": [1, 2]}, "minItems": 2, "maxItems": 2});
    let with = |key: &str, value: Value| {
        let mut schema = digits.clone();
        schema[key] = value;
        schema
    };
    let members = json!({"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}}, "additionalProperties": false});
    let with_members = |key: &str, value: Value| {
        let mut schema = members.clone();
        schema[key] = value;
        schema
    };
    for (keyword, schema) in [
        ("uniqueItems", with("uniqueItems", json!(true))),
        ("contains", with("contains", json!({"const": 1}))),
        ("not", with("not", json!({"const": [1, 2]}))),
        (
            "propertyNames",
            with_members("propertyNames", json!({"enum": ["a"]})),
        ),
        (
            "dependentRequired",
            with_members("dependentRequired", json!({"a": ["b"]})),
        ),
        ("if", with_members("if", json!({"required": ["a"]}))),
        (
            "oneOf",
            json!({"oneOf": [{"enum": [1, 2]}, {"enum": [2, 3]}]}),
        ),
        (
            "pattern",
            json!({"type": "string", "pattern": "^(?!aa)[ab]", "minLength": 2, "maxLength": 2}),
        ),
    ] {
        let (mut good, mut bad) = (0, 0);
        for seed in 0..12 {
            let (status, answer) = ask(&client, &schema, false, seed).await;
            assert_eq!(status, StatusCode::OK, "{schema}: {answer}");
            let warnings = answer["warnings"].as_array();
            let warnings = warnings.unwrap_or_else(|| panic!("{keyword}: {answer}"));
            let [warning] = warnings.as_slice() else {
                panic!("{warnings:?}");
            };
            let warning = warning.as_str().unwrap();
            assert!(warning.contains(&format!("'{keyword}'")), "{warning}");
            let obeys = obeys(&schema, &answer);
            assert_eq!(warning.contains("obeys it all the same"), obeys, "{answer}");
            assert_eq!(warning.contains("does not obey it"), !obeys, "{answer}");
            *(if obeys { &mut good } else { &mut bad }) += 1;
        }
        println!("{keyword}: {good} obey, {bad} do not");
        if keyword != "if" {
            let (status, answer) = ask(&client, &schema, true, 0).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{schema}: {answer}");
        }
    }
}

#[tokio::test]
async fn streams_tell_it_in_the_last_chunk_of_each_answer() {
    let (_server, client) = start();
    let schema = json!({"type": "array", "items": {"enum": [1, 2]}, "minItems": 2, "maxItems": 2, "uniqueItems": true});
    let mut body = request(&schema, false, 4);
    body["n"] = json!(2);
    body["min_p"] = json!(1.5);
    let (_, whole) = client.post(CHAT, &body).await;
    let expected = whole["warnings"].as_array().unwrap();
    assert_eq!(expected.len(), 3, "{expected:?}");
    assert!(expected[0].as_str().unwrap().contains("'min_p' is 1.5"));
    let stream = client.stream(CHAT, &body).await;
    let told = stream
        .chunks
        .iter()
        .filter(|chunk| !chunk["warnings"].is_null());
    let mut warnings = Vec::new();
    for chunk in told {
        assert!(!chunk["choices"][0]["finish_reason"].is_null(), "{chunk}");
        warnings.extend(chunk["warnings"].as_array().unwrap().clone());
    }
    let sorted = |mut warnings: Vec<Value>| {
        warnings.sort_by_key(ToString::to_string);
        warnings
    };
    assert_eq!(sorted(warnings), sorted(expected.clone()));
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_not_judged() {
    let (_server, client) = start();
    let schema =
        json!({"type": "array", "items": {"enum": [1, 2]}, "minItems": 5, "uniqueItems": true});
    let mut body = request(&schema, false, 4);
    body["max_tokens"] = json!(3);
    let (_, answer) = client.post(CHAT, &body).await;
    let warning = answer["warnings"][0].as_str().unwrap();
    assert!(warning.contains("cut off before"), "{warning}");
}

async fn ask(client: &Client, schema: &Value, is_strict: bool, seed: u32) -> (StatusCode, Value) {
    client.post(CHAT, &request(schema, is_strict, seed)).await
}

fn request(schema: &Value, is_strict: bool, seed: u32) -> Value {
    let format = json!({"name": "n", "schema": schema, "strict": is_strict});
    let format = json!({"type": "json_schema", "json_schema": format});
    chat(
        "x",
        json!({"temperature": 1, "seed": seed, "max_tokens": 300, "response_format": format}),
    )
}

fn obeys(schema: &Value, answer: &Value) -> bool {
    let value = serde_json::from_str(text(answer)).unwrap();
    jsonschema::validator_for(schema).unwrap().is_valid(&value)
}

fn start() -> (Server, Client) {
    let mut server = ServerOptions::echo(0).start();
    let client = server.client();
    (server, client)
}
