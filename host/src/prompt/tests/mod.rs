//! Chats from messages to tokens, with templates as models ship them.

mod byte_tokenizer;
mod forgery;
mod golden;
mod models;
mod semantics;
mod shapes;
mod templates;
mod tools;

use serde_json::{Map, Value, json};

use super::*;
use byte_tokenizer::{ByteTokenizer, CONTROL_TOKENS, bracketed, decode};
use templates::{GEMMA, LLAMA_3, MISTRAL};

fn template(source: &str, control: &[&str]) -> ChatTemplate {
    let (bos, eos) = match source {
        LLAMA_3 => ("<|begin_of_text|>", "<|eot_id|>"),
        GEMMA => ("<bos>", "<end_of_turn>"),
        MISTRAL => ("<s>", "</s>"),
        _ => ("<|endoftext|>", "<|im_end|>"),
    };
    let special = SpecialTokens {
        bos: Some(bos.to_owned()),
        eos: Some(eos.to_owned()),
    };
    let control = ControlTokens::new(control.iter().map(|text| text.to_string())).unwrap();
    ChatTemplate::parse(source, special, control, None).unwrap()
}

fn request(messages: &Value) -> RenderRequest {
    RenderRequest {
        messages: messages.as_array().unwrap().clone(),
        variables: variables(json!({"enable_thinking": false})),
        ..RenderRequest::default()
    }
}

fn variables(object: Value) -> Map<String, Value> {
    object.as_object().unwrap().clone()
}

/// Checks that the chat's tokens read as `expected`, in which only `⟨…⟩` are control tokens, and that their bytes are what
/// the template writes without marks.
#[track_caller]
fn check(source: &str, messages: Value, expected: &str) {
    check_request(source, &request(&messages), expected);
}

#[track_caller]
fn check_request(source: &str, request: &RenderRequest, expected: &str) {
    let chat = template(source, &CONTROL_TOKENS).render(request).unwrap();
    let Ok(tokens) = encode_chat(&chat, &ByteTokenizer);
    assert_eq!(decode(&tokens, bracketed), expected);

    let plain = template(source, &[]).render(request).unwrap();
    let text = decode(&tokens, str::to_owned);
    assert_eq!(
        text.trim_start_matches("⟨BOS⟩"),
        format!(" {}", plain.pieces().concat())
    );
}

#[track_caller]
fn check_error(source: &str, messages: Value) -> TemplateError {
    template(source, &CONTROL_TOKENS)
        .render(&request(&messages))
        .unwrap_err()
}

#[track_caller]
fn check_raises(source: &str, messages: Value, expected: &str) {
    match check_error(source, messages) {
        TemplateError::Raised(message) => assert_eq!(message, expected),
        other => panic!("{other}"),
    }
}
