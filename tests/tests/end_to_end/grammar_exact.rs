//! Every answer follows its grammar, as checked by other implementations of the same languages.

use std::collections::BTreeSet;

use futures_util::{StreamExt, stream};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use regex::Regex;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{
    Client, Example, Server, ServerOptions, accepts_beginning, chat, examples, text,
};

const PLAIN: &str = "/v1/completions";

#[tokio::test]
async fn answers_obey_every_kind_of_schema() {
    let mut server = ServerOptions::echo(0).start();
    let examples = examples();
    let unfinished = check_all(&server.client(), examples.iter().collect(), 1).await;
    assert!(
        unfinished * 10 <= examples.len(),
        "{unfinished} did not finish"
    );
}

#[tokio::test]
async fn smollm2_obeys_schemas() {
    let mut server = ServerOptions::smollm2().start();
    let examples = examples();
    let some: Vec<_> = examples.iter().step_by(8).take(40).collect();
    assert_eq!(some.len(), 40);
    let unfinished = check_all(&server.client(), some, 1).await;
    assert!(unfinished * 10 <= 40, "{unfinished} did not finish");
}

/// The number of answers that did not finish.
async fn check_all(client: &Client, examples: Vec<&Example>, seed: usize) -> usize {
    let checks = examples.into_iter().enumerate();
    let checks = checks.map(|(at, example)| check(client, example, seed + at));
    let finished = stream::iter(checks).buffer_unordered(8);
    finished
        .filter(|finished| std::future::ready(!finished))
        .count()
        .await
}

/// Whether the answer to a request with this schema finishes. Panics if a finished answer is not valid, or if an unfinished
/// one cannot become valid.
async fn check(client: &Client, Example { about, schema }: &Example, seed: usize) -> bool {
    let prompt = format!("Some JSON about {about}:\n");
    let body = json!({
        "prompt": prompt, "temperature": 1, "seed": seed, "max_tokens": 512,
        "response_format": {"type": "json_schema", "json_schema": {"name": "example", "schema": schema}},
    });
    let (status, answer) = client.post(PLAIN, &body).await;
    assert_eq!(status, StatusCode::OK, "{schema}: {answer}");
    let text = text(&answer);
    if answer["choices"][0]["finish_reason"] != "stop" {
        assert!(
            accepts_beginning(schema, text),
            "{about} {schema}: {text:?}"
        );
        return false;
    }
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        // JSON has no largest number, but this parser has one.
        Err(error) if error.to_string().starts_with("number out of range") => return true,
        Err(error) => panic!("{about} {schema}: {text:?} is no JSON: {error}"),
    };
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(schema);
    let validator = validator.unwrap_or_else(|error| panic!("{schema}: {error}"));
    if let Err(error) = validator.validate(&value) {
        panic!("{about} {schema}: {text:?}: {error}");
    }
    true
}

#[tokio::test]
async fn answers_match_regular_expressions() {
    let (_server, client) = start();
    let all = regexes();
    let checks = all.iter().map(|regex| check_regex(&client, regex));
    let finished: Vec<_> = stream::iter(checks).buffer_unordered(8).collect().await;
    let finished = finished.into_iter().filter(|finished| *finished).count();
    assert!(
        finished * 10 >= all.len() * 9,
        "{finished} of {} finished",
        all.len()
    );
}

/// Echo repeats the message where the grammar allows it. So every text that matches must come back unchanged.
#[tokio::test]
async fn every_text_that_matches_is_allowed() {
    let (_server, client) = start();
    let mut random = SmallRng::seed_from_u64(9);
    let mut cases = Vec::new();
    for regex in regexes() {
        // The crate `rand_regex` does not support anchors, which some of the expressions have.
        let Ok(texts) = rand_regex::Regex::compile(&regex, 6) else {
            continue;
        };
        let texts: BTreeSet<String> = (&mut random).sample_iter(&texts).take(3).collect();
        cases.extend(texts.into_iter().map(|text| (regex.clone(), text)));
    }
    cases.retain(|(_, text)| !text.is_empty());
    assert!(cases.len() > 300, "{}", cases.len());
    let checks = cases.iter().map(async |(regex, text)| {
        let body = chat(
            text,
            json!({"temperature": 0, "max_tokens": 2000, "grammar": {"type": "regex", "value": regex}}),
        );
        let (status, answer) = client.post("/v1/chat/completions", &body).await;
        assert_eq!(status, StatusCode::OK, "{regex}: {answer}");
        assert_eq!(tenon_tests::text(&answer), text, "{regex}");
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    });
    stream::iter(checks)
        .buffer_unordered(8)
        .collect::<()>()
        .await;
}

/// Chosen expressions of all kinds, and random ones.
fn regexes() -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(5);
    let generated = (0..150).map(|_| random_regex(&mut random, 3));
    let chosen = REGEXES.iter().map(ToString::to_string);
    chosen.chain(generated).collect()
}

const REGEXES: [&str; 16] = [
    "[a-z]+@[a-z]+\\.(com|org)",
    "\\d{4}-(0[1-9]|1[0-2])-([0-2][0-9]|3[01])",
    "(?i)yes|no",
    "^anchored$",
    "a/b\\\\c\"d'e",
    "[\\]\\[^-]{3}",
    "\\x41\\u00e9\\u{1F600}",
    "(?s:.){5}",
    "[^\\n]{8}",
    "\\w{2}\\s\\W\\S\\D",
    "(?:a|b(?:c|d){2}){1,3}",
    "\\p{Greek}{4}",
    "[\\p{Lu}&&[^A-Z]]{2}",
    "x?y*?z+",
    "(|a)(|b)c",
    "\\t\\r\\n\\.",
];

/// Whether the answer finishes. Panics if a finished answer does not match as a whole.
async fn check_regex(client: &Client, regex: &str) -> bool {
    let body = json!({
        "prompt": regex, "temperature": 1, "seed": 1, "max_tokens": 512,
        "grammar": {"type": "regex", "value": regex},
    });
    let (status, answer) = client.post(PLAIN, &body).await;
    if status == StatusCode::BAD_REQUEST && answer.to_string().contains("only the empty text") {
        return true;
    }
    assert_eq!(status, StatusCode::OK, "{regex}: {answer}");
    let finished = answer["choices"][0]["finish_reason"] == "stop";
    let whole = Regex::new(&format!("^(?:{regex})$")).expect("a regular expression");
    let text = text(&answer);
    assert!(!finished || whole.is_match(text), "{regex}: {text:?}");
    finished
}

fn random_regex(random: &mut fastrand::Rng, depth: usize) -> String {
    let inner = |random: &mut fastrand::Rng| random_regex(random, depth - 1);
    match random.usize(..if depth == 0 { 3 } else { 8 }) {
        0 => random
            .choice(["a", "bc", "0", "-", "é", "語", "\\.", " "])
            .unwrap_or("a")
            .to_owned(),
        1 => random
            .choice(["[a-f]", "[^x]", "\\d", "\\w", "[α-ω]", "."])
            .unwrap_or("a")
            .to_owned(),
        2 => format!("[{}-{}]", random.char('a'..='m'), random.char('n'..='z')),
        3 | 4 => inner(random) + &inner(random),
        5 => format!("({}|{})", inner(random), inner(random)),
        6 => format!(
            "(?:{}){{{},{}}}",
            inner(random),
            random.u8(..3),
            random.u8(3..6)
        ),
        _ => format!(
            "(?:{}){}",
            inner(random),
            random.choice(["?", "*", "+"]).unwrap_or("?")
        ),
    }
}

#[tokio::test]
async fn unicode_arrives_whole() {
    let (_server, client) = start();
    for regex in [
        "[😀-🙏]{6}",
        "[一-龥]{8}",
        "[가-힣]{4}",
        "(👩‍👩‍👧‍👦|🏳️‍🌈){3}",
        "[ก-๛]{5}",
        "\\p{Hiragana}{5}",
    ] {
        let body = json!({
            "prompt": "x", "temperature": 1, "seed": 2, "max_tokens": 200,
            "grammar": {"type": "regex", "value": regex},
        });
        let stream = client.stream(PLAIN, &body).await;
        assert_eq!(stream.finish_reason(), Some("stop"));
        let whole = Regex::new(&format!("^(?:{regex})$")).unwrap();
        // Each event consists of whole characters, or the client would have panicked.
        assert!(
            whole.is_match(&stream.text()),
            "{regex}: {:?}",
            stream.text()
        );
    }
}

#[tokio::test]
async fn lark_grammars_are_followed() {
    let (_server, client) = start();
    for seed in 0..20 {
        let sum = generate(&client, ARITHMETIC, seed).await;
        assert!(is_sum(&sum), "{sum:?}");
        let date = generate(&client, DATE, seed).await;
        assert!(is_date(&date), "{date:?}");
        let query = generate(&client, SQL, seed).await;
        assert!(is_query(&query), "{query:?}");
    }
}

const ARITHMETIC: &str = r#"
start: sum
sum: product | sum ("+" | "-") product
product: factor | product ("*" | "/") factor
factor: NUMBER | "(" sum ")"
NUMBER: /[0-9]{1,3}/
"#;

const DATE: &str = r#"
start: YEAR "-" (LONG "-" DAY_31 | SHORT "-" DAY_30 | "02-" DAY_28)
YEAR: /20[0-9]{2}/
LONG: "01" | "03" | "05" | "07" | "08" | "10" | "12"
SHORT: "04" | "06" | "09" | "11"
DAY_31: /0[1-9]|[12][0-9]|3[01]/
DAY_30: /0[1-9]|[12][0-9]|30/
DAY_28: /0[1-9]|1[0-9]|2[0-8]/
"#;

const SQL: &str = r#"
start: "SELECT " columns " FROM " NAME (" WHERE " condition)? (" LIMIT " NUMBER)? ";"
columns: "*" | NAME (", " NAME)*
condition: comparison ((" AND " | " OR ") comparison)*
comparison: NAME (" = " | " < " | " > ") (NUMBER | STRING)
NAME: /[a-z]{1,6}/
NUMBER: /[0-9]{1,4}/
STRING: /'[^'\x00-\x1f]{0,8}'/
"#;

/// A text of this grammar. If a random text gets too long, the next seed is tried.
async fn generate(client: &Client, lark: &str, seed: usize) -> String {
    for attempt in 0..20 {
        let body = json!({
            "prompt": "x", "temperature": 1, "seed": seed + 1000 * attempt, "max_tokens": 512,
            "grammar": {"type": "lark", "value": lark},
        });
        let (status, answer) = client.post(PLAIN, &body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        if answer["choices"][0]["finish_reason"] == "stop" {
            return text(&answer).to_owned();
        }
    }
    panic!("no text of this grammar ends: {lark}");
}

/// Whether the text consists of numbers with operators between them, in matching parentheses.
fn is_sum(text: &str) -> bool {
    let simple = Regex::new(r"\(?[0-9]{1,3}([-+*/][0-9]{1,3})*\)?").unwrap();
    let inner = Regex::new(r"\([0-9]{1,3}([-+*/][0-9]{1,3})*\)").unwrap();
    let mut text = text.to_owned();
    while inner.is_match(&text) {
        text = inner.replace_all(&text, "0").into_owned();
    }
    !text.contains('(')
        && simple
            .find(&text)
            .is_some_and(|found| found.as_str() == text)
}

fn is_date(text: &str) -> bool {
    let schema = json!({"format": "date"});
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(&schema)
        .unwrap();
    validator.is_valid(&json!(text))
}

fn is_query(text: &str) -> bool {
    let name = "[a-z]{1,6}";
    let comparison = format!("{name} [=<>] ([0-9]{{1,4}}|'[^']{{0,8}}')");
    let query = format!(
        "^SELECT (\\*|{name}(, {name})*) FROM {name}( WHERE {comparison}( (AND|OR) {comparison})*)?( LIMIT [0-9]{{1,4}})?;$"
    );
    Regex::new(&query).unwrap().is_match(text)
}

fn start() -> (Server, Client) {
    let mut server = ServerOptions::echo(0).start();
    let client = server.client();
    (server, client)
}
