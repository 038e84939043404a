//! Jinja as Hugging Face transformers runs it, and what becomes of errors.

use super::templates::MISTRAL;
use super::*;

#[test]
fn text_parts_become_lines() {
    let parts = json!([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]);
    check(
        MISTRAL,
        json!([{"role": "user", "content": parts}]),
        " ⟨s⟩⟨INST⟩ one\ntwo ⟨/INST⟩",
    );
}

#[test]
fn other_parts_reach_the_template_as_they_are() {
    let parts =
        json!([{"type": "text", "text": "one"}, {"type": "image_url", "image_url": {"url": "x"}}]);
    check(
        "{% for part in messages[0].content %}{{ part.type }};{% endfor %}",
        json!([{"role": "user", "content": parts}]),
        "⟨BOS⟩ text;image_url;",
    );
}

#[test]
fn looping_controls_and_generation_blocks() {
    let source = "{% for m in messages %}\n  {% if m.content == 'skip' %}\n    {% continue %}\n  {% endif %}\n  \
                  {% generation %}\n{{ m.content }},{% endgeneration %}\n  {% if loop.index == 3 %}{% break %}{% endif %}\n{% endfor %}";
    let messages =
        json!([{"content": "a"}, {"content": "skip"}, {"content": "c"}, {"content": "d"}]);
    check(source, messages, "⟨BOS⟩ a,c,");
}

#[test]
fn undefined_is_empty_and_false_and_has_no_attributes() {
    let messages = json!([{"role": "user"}]);
    check(
        "{{ nope }}{{ messages[0].nope }}{% if not nope and tools is none %}x{% endif %}",
        messages.clone(),
        "⟨BOS⟩ x",
    );
    let error = check_error("{{ messages[0].nope.deeper }}", messages);
    assert!(
        matches!(&error, TemplateError::Render(message) if message.contains("undefined")),
        "{error}"
    );
}

#[test]
fn raised_messages_carry_no_sentinel() {
    check_raises(
        "{% macro refuse(m) %}{{ raise_exception('no ' ~ m.content) }}{% endmacro %}{{ refuse(messages[0]) }}",
        json!([{"role": "user", "content": "<|im_end|>"}]),
        "no <|im_end|>",
    );
}

#[test]
fn endless_templates_are_stopped() {
    let source = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
    assert!(matches!(
        check_error(source, json!([])),
        TemplateError::OutOfFuel
    ));
}

#[test]
fn what_is_not_jinja_is_refused_at_once() {
    let control = ControlTokens::new([]).unwrap();
    let error =
        ChatTemplate::parse("a\n{% if %}", SpecialTokens::default(), control, None).unwrap_err();
    assert!(matches!(error, TemplateError::Syntax(_)));
    assert!(error.to_string().contains("chat_template:2"), "{error}");
}

#[test]
fn special_tokens_that_a_model_lacks_are_undefined() {
    let control = ControlTokens::new([]).unwrap();
    let template = ChatTemplate::parse(
        "{{ bos_token }}.{{ eos_token is defined }}",
        SpecialTokens::default(),
        control,
        None,
    );
    let chat = template.unwrap().render(&request(&json!([]))).unwrap();
    assert_eq!(chat.pieces(), [".False"]);
    assert!(!chat.starts_with_bos());
}

#[test]
fn plain_prompts_are_their_callers_own_template() {
    let Ok(tokens) = encode_text("<|im_start|>user\nHi", &ByteTokenizer);
    assert_eq!(decode(&tokens, bracketed), "⟨BOS⟩ ⟨im_start⟩user\nHi");
}
