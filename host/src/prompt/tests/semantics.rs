//! Jinja as Hugging Face transformers runs it, and the handling of errors.

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
    let encode = |special| {
        let Ok(tokens) = encode_text("<|im_start|>user\nHi", special, &ByteTokenizer);
        decode(&tokens, bracketed)
    };
    assert_eq!(
        encode(Special::Added { bos: Some(1) }),
        "⟨BOS⟩ ⟨im_start⟩user\nHi"
    );
    assert_eq!(encode(Special::Left), " ⟨im_start⟩user\nHi");
}

#[test]
fn a_plain_prompt_with_bos_gets_no_second_one() {
    struct Doubling;
    impl Encoder for Doubling {
        type Error = std::convert::Infallible;

        fn encode(
            &self,
            text: &str,
            _: tenon_plugin_api::EncodeFlags,
        ) -> Result<Vec<u32>, Self::Error> {
            Ok([1].into_iter().chain(text.bytes().map(u32::from)).collect())
        }
    }
    for (bos, text, expected) in [
        (Some(1), "\u{1}a", &[1, 97][..]),
        (Some(1), "\u{1}\u{1}a", &[1, 1, 97]),
        (Some(1), "a", &[1, 97]),
        (None, "\u{1}a", &[1, 1, 97]),
    ] {
        let Ok(tokens) = encode_text(text, Special::Added { bos }, &Doubling);
        assert_eq!(tokens, expected);
    }
}

#[test]
fn a_text_like_a_control_token_counts_and_compares_as_it_is() {
    let source = "{% for m in messages %}<|im_{{ m.role }}|>{{ m.content }}\
                  {% if m.content == 'im_end' %} same{% endif %} {{ m.content | length }}{% endfor %}<|im_end|>";
    let messages = |content: &str| json!([{"role": "end", "content": content}]);
    check(
        source,
        messages("im_end"),
        "⟨BOS⟩ <|im_end|>im_end same 6⟨im_end⟩",
    );
    check(
        source,
        messages("a <|im_end|>"),
        "⟨BOS⟩ <|im_end|>a <|im_end|> 12⟨im_end⟩",
    );
}

#[test]
fn where_marks_change_control_tokens_nobody_s_text_becomes_one() {
    let source =
        "{% if messages[0].content == 'end' %}<|im_{{ messages[0].content }}|>{% endif %}x";
    let chat = template(source, &CONTROL_TOKENS).render(&request(&json!([{"content": "end"}])));
    assert_eq!(chat.unwrap().pieces(), ["x"]);
}

#[test]
fn templates_with_other_line_ends_write_the_same() {
    let source = "{% for m in messages %}\n{{ m.content }}\n{% endfor %}\nend\n";
    let messages = json!([{"role": "user", "content": "a\r\nb"}]);
    check(source, messages.clone(), "⟨BOS⟩ a\r\nb\nend");
    check(&source.replace('\n', "\r\n"), messages, "⟨BOS⟩ a\r\nb\nend");
}

#[test]
fn a_template_that_asks_for_gigabytes_costs_only_the_chats_that_need_them() {
    for wide in [
        "[1] | tojson(indent=2000000000)",
        "'x'.center(2000000000)",
        "'%2000000000d' % 1",
        "'{:>2000000000}'.format('x')",
        "'x' | indent(2000000000)",
    ] {
        let source = format!(
            "{{{{ messages[0].content }}}}{{% if messages[0].wide %}}{{{{ {wide} }}}}{{% endif %}}"
        );
        check(
            &source,
            json!([{"role": "user", "content": "Hi"}]),
            "⟨BOS⟩ Hi",
        );
        check_error(
            &source,
            json!([{"role": "user", "content": "Hi", "wide": true}]),
        );
    }
}

#[test]
fn templates_know_today() {
    let source = "{{ date_string }}|{{ datetime }}|{{ strftime_now('%d %b %Y') }}";
    let chat = template(source, &[]).render(&request(&json!([{"role": "user", "content": ""}])));
    let text = chat.unwrap().pieces().concat();
    let parts: Vec<_> = text.split('|').collect();
    assert_eq!(parts[0], parts[2]);
    let date = jiff::civil::Date::strptime("%d %b %Y", parts[0]).unwrap();
    let hour = jiff::civil::DateTime::strptime("%Y-%m-%d %H:%M:%S", parts[1]).unwrap();
    assert_eq!((hour.date(), hour.minute()), (date, 0));
}

#[test]
fn requests_may_set_what_is_set_by_default() {
    let request = RenderRequest {
        variables: variables(json!({"date_string": "26 Jul 2024"})),
        ..request(&json!([{"role": "user", "content": "Hi"}]))
    };
    check_request("{{ date_string }}", &request, "⟨BOS⟩ 26 Jul 2024");
}

#[test]
fn functions_are_the_tools_as_text() {
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {}}});
    let source = "{{ 'Functions: ' + functions }}{% if tools %}{{ '<tool_call>' ~ tools[0].function.name }}{% endif %}";
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let none = template(source, &[]).render(&request(&messages)).unwrap();
    assert_eq!(none.pieces(), ["Functions: "]);
    let with_tools = RenderRequest {
        tools: vec![tool],
        ..request(&messages)
    };
    let some = template(source, &[]).render(&with_tools).unwrap();
    let expected = "Functions: [\n    {\n        \"name\": \"f\",\n        \"parameters\": {}\n    }\n]<tool_call>f";
    assert_eq!(some.pieces(), [expected]);
}

#[test]
fn an_answer_that_quotes_a_reasoning_tag_stays_whole() {
    let cut = "{% for m in messages %}{% set content = m.content %}{% if m.role == 'assistant' and '</think>' in content %}\
               {% set content = content.split('</think>')[-1] %}{% endif %}[{{ content }}]{% endfor %}";
    let quoting = "Thoughts end with </think>, then comes the answer.";
    let messages =
        json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": quoting}]);
    check(cut, messages, &format!("⟨BOS⟩ [a][{quoting}]"));
    let thinking = json!([{"role": "assistant", "content": "<think>hm</think>4 </think>"}]);
    check(cut, thinking, "⟨BOS⟩ [4 </think>]");
}

#[test]
fn chats_with_tools_have_a_template_of_their_own() {
    let parse = |source: &str| template(source, &[]);
    let both = ChatTemplates::new(
        parse("plain"),
        Some(parse(
            "{{ '<tool_call>' }}{% for tool in tools %}{{ tool.function.name }}{% endfor %}{{ messages[0].content }}",
        )),
    );
    assert!(both.capabilities().has_tools);
    let plain = request(&json!([{"role": "user", "content": "Hi"}]));
    assert_eq!(both.render(&plain).unwrap().pieces(), ["plain"]);
    let tool = json!({"type": "function", "function": {"name": "f"}});
    let with_tools = RenderRequest {
        tools: vec![tool],
        ..plain
    };
    assert_eq!(
        both.render(&with_tools).unwrap().pieces(),
        ["<tool_call>fHi"]
    );
}
