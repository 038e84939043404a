//! Parameters that steer the choice of tokens: bias, DRY, typical sampling. Echo repeats the message unless a parameter
//! prevents it.

use serde_json::{Value, json};
use tenon_tests::ServerOptions;

#[tokio::test]
async fn a_bias_forces_and_forbids_tokens() {
    let answers = answers(
        "axb",
        [
            json!({"logit_bias": {"120": -100}}),
            json!({"logit_bias": {"120": 100}, "max_tokens": 4}),
            json!({"logit_bias": {}}),
        ],
    );
    let [forbidden, forced, free] = answers.await;
    assert!(
        forbidden.starts_with('a') && !forbidden.contains('x'),
        "{forbidden}"
    );
    assert_eq!(forced, "xxxx");
    assert_eq!(free, "axb");
}

#[tokio::test]
async fn dry_keeps_an_answer_from_repeating_a_stretch() {
    let message = "abcdefgh";
    let answers = answers(
        message,
        [
            json!({"dry_multiplier": 0}),
            json!({"dry_multiplier": 100}),
            json!({"dry_multiplier": 100, "dry_allowed_length": 5}),
            // After the breaker, the count of repeated tokens starts again.
            json!({"dry_multiplier": 100, "dry_allowed_length": 3, "dry_sequence_breakers": ["c"]}),
            json!({"dry_multiplier": 100, "dry_sequence_breakers": ["a", "b", "c", "d", "e", "f", "g"]}),
            // The penalty grows from 6 with each token until it exceeds the 30 that echo adds to the next token.
            json!({"dry_multiplier": 6, "dry_base": 2}),
        ],
    );
    let [off, two, five, broken, all_broken, growing] = answers.await;
    assert_eq!(off, message);
    assert_eq!(all_broken, message);
    for (answer, repeated) in [(two, 2), (five, 5), (broken, 6)] {
        assert_eq!(common(message, &answer), repeated, "{answer}");
    }
    let repeated = common(message, &growing);
    assert!((4..=5).contains(&repeated), "{growing}");
}

#[tokio::test]
async fn only_what_is_typical_is_said() {
    let hot = json!({"temperature": 2, "seed": 1, "typical_p": 0.01});
    let [answer] = answers("Some message of many tokens", [hot]).await;
    assert_eq!(answer, "Some message of many tokens");
}

/// The answers to a message. They are greedy unless the fields say otherwise.
async fn answers<const N: usize>(message: &str, fields: [Value; N]) -> [String; N] {
    let mut server = ServerOptions::echo(0).start();
    let client = server.client();
    let mut answers = Vec::new();
    for mut fields in fields {
        for (key, value) in [("temperature", json!(0)), ("max_tokens", json!(32))] {
            if fields.get(key).is_none() {
                fields[key] = value;
            }
        }
        answers.push(client.chat(message, fields).await);
    }
    answers.try_into().unwrap()
}

/// Length in bytes of the common beginning of two texts.
fn common(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}
