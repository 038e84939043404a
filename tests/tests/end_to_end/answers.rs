//! The parameters that decide the tokens of an answer, and its end.

use serde_json::{Value, json};
use tenon_tests::{Client, ServerOptions, chat, text};

const CHAT: &str = "/v1/chat/completions";
const PLAIN: &str = "/v1/completions";

#[tokio::test]
async fn a_stop_string_ends_the_answer_and_is_no_part_of_it() {
    let mut server = ServerOptions::echo(0).start();
    let client = server.client();
    for (message, stop, expected, tokens) in [
        ("one END two", json!("END"), "one ", 7),
        ("one END two", json!(["two", "END"]), "one ", 7),
        ("one END two", json!(["ND", "END", "D"]), "one ", 7),
        ("END", json!("END"), "", 3),
        ("ababac", json!("abac"), "ab", 6),
        ("café au lait", json!("é"), "caf", 5),
        ("a😀b😁c", json!("😁"), "a😀b", 10),
        // Stop strings that do not occur, or only in part, change nothing.
        ("one EN", json!("END"), "one EN", 6),
        ("one", json!(["two", "e\n"]), "one", 3),
        ("one", json!([]), "one", 3),
        ("one", json!(null), "one", 3),
    ] {
        let body = chat(message, json!({"temperature": 0, "stop": stop}));
        check(&client, body, expected, "stop", tokens).await;
    }
}

#[tokio::test]
async fn the_length_is_what_was_asked_for_or_the_context() {
    let config = "[engine]\ncontext_length = 32\n";
    let mut server = ServerOptions::echo(0).config(config).start();
    let client = server.client();
    let letters = "abcdefghijklmnopqrst";
    for (message, parameters, expected, reason, tokens) in [
        (letters, json!({"max_tokens": 5}), "abcde", "length", 5),
        (
            letters,
            json!({"max_completion_tokens": 4, "max_tokens": 9}),
            "abcd",
            "length",
            4,
        ),
        ("abc", json!({"max_tokens": 4}), "abc", "stop", 3),
        // The text is complete, but only the next token would have shown that the answer ends here.
        ("abc", json!({"max_tokens": 3}), "abc", "length", 3),
        ("aé", json!({"max_tokens": 2}), "a", "length", 2),
        // The template takes four tokens, so 8 of 32 are left.
        (letters, json!({}), "abcdefgh", "length", 8),
        (
            letters,
            json!({"max_tokens": 1000}),
            "abcdefgh",
            "length",
            8,
        ),
    ] {
        let body = chat(message, with(parameters, "temperature", 0));
        check(&client, body, expected, reason, tokens).await;
    }
}

#[tokio::test]
async fn chance_depends_on_the_seed_alone() {
    let mut server = ServerOptions::echo(0).start();
    let client = server.client();
    let seeded = continued(&client, json!({"seed": 11})).await;
    for same in [
        json!({"seed": 11, "temperature": 1}),
        json!({"seed": 11, "temperature": 1.0, "top_p": 1, "top_k": null, "min_p": null}),
        // Values of these two that make no sense are ignored.
        json!({"seed": 11, "top_k": 0, "min_p": 0}),
        json!({"seed": 11, "top_k": -1, "min_p": 1.5}),
        json!({"seed": 11, "min_p": -0.5}),
    ] {
        assert_eq!(continued(&client, same.clone()).await, seeded, "{same}");
    }
    for other in [
        json!({"seed": 8}),
        json!({"seed": -11}),
        json!({"seed": 11, "temperature": 2}),
        json!({"seed": 11, "top_p": 0.5}),
        json!({"seed": 11, "top_k": 20}),
        json!({"seed": 11, "min_p": 0.5}),
        json!({}),
    ] {
        assert_ne!(continued(&client, other.clone()).await, seeded, "{other}");
    }
    let random = continued(&client, json!({})).await;
    assert_ne!(continued(&client, json!({})).await, random);
}

#[tokio::test]
async fn nothing_is_left_to_chance_where_only_the_best_token_is_kept() {
    let mut server = ServerOptions::echo(0).start();
    let client = server.client();
    let greedy = continued(&client, json!({"temperature": 0})).await;
    for best in [
        json!({"temperature": 0, "seed": 1, "top_k": 5, "top_p": 0.5, "min_p": 0.1}),
        json!({"temperature": 2, "top_k": 1}),
        json!({"temperature": 2, "top_p": 0}),
        json!({"temperature": 2, "min_p": 1}),
        json!({"temperature": 1e-6}),
    ] {
        assert_eq!(continued(&client, best.clone()).await, greedy, "{best}");
    }
}

/// The logit of the token that echo repeats is 12 to 28 above all others.
#[tokio::test]
async fn penalties_count_what_was_said() {
    let mut server = ServerOptions::echo(0).start();
    let client = server.client();
    let message = "a".repeat(20);
    for (name, value, repeated) in [
        ("frequency_penalty", json!(0), 20..=20),
        // Each occurrence costs 2.
        ("frequency_penalty", json!(2), 11..=19),
        ("frequency_penalty", json!(-2), 20..=20),
        // A single 2 is too little to change anything.
        ("presence_penalty", json!(2), 20..=20),
        ("repetition_penalty", json!(1), 20..=20),
        // The token is in the prompt already, and a hundredth of 38 is almost nothing.
        ("repetition_penalty", json!(100), 0..=0),
    ] {
        let parameters = json!({"temperature": 0, "max_tokens": 20, name: value});
        let answer = client.chat(&message, parameters.clone()).await;
        let count = answer.chars().take_while(|&letter| letter == 'a').count();
        assert!(repeated.contains(&count), "{parameters}: {answer}");
    }
}

/// Checks the answer in one piece and as a stream.
async fn check(client: &Client, body: Value, expected: &str, reason: &str, tokens: usize) {
    let (_, answer) = client.post(CHAT, &body).await;
    assert_eq!(text(&answer), expected, "{body}");
    assert_eq!(answer["choices"][0]["finish_reason"], reason, "{body}");
    assert_eq!(answer["usage"]["completion_tokens"], tokens, "{body}");

    let usage = json!({"include_usage": true});
    let body = with(body, "stream_options", usage);
    let stream = client.stream(CHAT, &body).await;
    assert_eq!(stream.text(), expected, "{body}");
    assert_eq!(stream.finish_reason(), Some(reason), "{body}");
    let usage = &stream.chunks.last().unwrap()["usage"];
    assert_eq!(usage["completion_tokens"], tokens, "{body}");
}

/// Continues the same prompt with echo. Its completions are pseudo-random: any token may follow.
async fn continued(client: &Client, parameters: Value) -> String {
    let body = with(parameters, "prompt", "Once upon a time");
    let (_, answer) = client.post(PLAIN, &with(body, "max_tokens", 40)).await;
    text(&answer).to_owned()
}

fn with(mut object: Value, key: &str, value: impl Into<Value>) -> Value {
    object[key] = value.into();
    object
}

/// The value comes from the request, else from the configuration, else from the model (echo has none), else it is OpenAI's
/// default.
#[tokio::test]
async fn the_configuration_sets_sampling_parameters_for_requests_that_do_not() {
    let config = "[[models]]\npath = 'echo.echo'\nsampling = { temperature = 0, top_k = 7 }";
    let mut server = ServerOptions::new(&["tenon_plugin_echo"])
        .file("echo.echo", "")
        .config(config)
        .start();
    let client = server.client();
    let (_, model) = client.get("/v1/models/echo").await;
    let expected = json!({
        "temperature": 0.0, "top_p": 1.0, "top_k": 7, "min_p": 0.0, "repetition_penalty": 1.0,
    });
    assert_eq!(model["sampling"], expected);
    let text = async |temperature: Value, seed: u32| {
        let body = json!({"prompt": "a", "temperature": temperature, "seed": seed});
        let (_, answer) = client.post("/v1/completions", &body).await;
        answer["choices"][0]["text"].clone()
    };
    assert_eq!(text(json!(null), 1).await, text(json!(null), 2).await);
    assert_ne!(text(json!(1), 1).await, text(json!(1), 2).await);
}
