//! Each model's template writes what its model expects.

use super::templates::*;
use super::*;

#[test]
fn chatml() {
    check(
        CHATML,
        json!([{"role": "user", "content": "Hi  "}, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "👋"}]),
        "⟨BOS⟩ ⟨im_start⟩system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face⟨im_end⟩\n\
         ⟨im_start⟩user\nHi  ⟨im_end⟩\n⟨im_start⟩assistant\nHello⟨im_end⟩\n⟨im_start⟩user\n👋⟨im_end⟩\n⟨im_start⟩assistant\n",
    );
}

#[test]
fn llama_3() {
    let messages =
        json!([{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "Hi\n"}]);
    let chat = template(LLAMA_3, &CONTROL_TOKENS)
        .render(&request(&messages))
        .unwrap();
    assert!(chat.starts_with_bos());
    let text = chat.pieces().concat();
    let (head, tail) = text.split_once("Today Date: ").unwrap();
    assert_eq!(
        head,
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
    );
    let (date, tail) = tail.split_once("\n\n").unwrap();
    jiff::civil::Date::strptime("%d %b %Y", date).unwrap();
    assert_eq!(
        tail,
        "Be brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\n"
    );
}

#[test]
fn llama_3_tool_calls() {
    let call = json!({"function": {"name": "f", "arguments": {"z": "<é>", "a": [1, true]}}});
    let messages =
        json!([{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [call]}]);
    let chat = template(LLAMA_3, &CONTROL_TOKENS)
        .render(&request(&messages))
        .unwrap();
    let call = r#"{"name": "f", "parameters": {"z": "<é>", "a": [1, true]}}<|eot_id|>"#;
    assert!(chat.pieces().concat().contains(call), "{chat:?}");
    check_raises(
        LLAMA_3,
        json!([{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": []}]),
        "This model only supports single tool-calls at once!",
    );
}

#[test]
fn qwen_3_thinking_is_off_unless_asked_for() {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let start = "⟨BOS⟩ ⟨im_start⟩user\nHi⟨im_end⟩\n⟨im_start⟩assistant\n";
    check(
        QWEN_3,
        messages.clone(),
        &format!("{start}<think>\n\n</think>\n\n"),
    );
    let thinking = RenderRequest {
        variables: variables(json!({"enable_thinking": true})),
        ..request(&messages)
    };
    let chat = template(QWEN_3, &CONTROL_TOKENS).render(&thinking).unwrap();
    assert!(chat.pieces().concat().ends_with("<|im_start|>assistant\n"));
}

#[test]
fn qwen_3_history() {
    check(
        QWEN_3,
        json!([
            {"role": "user", "content": "2+2?"},
            {"role": "assistant", "content": "<think>\nold\n</think>\n\n4"},
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": null, "reasoning_content": "ask",
             "tool_calls": [{"type": "function", "function": {"name": "get", "arguments": {"q": "a b"}}}]},
            {"role": "tool", "content": "sun"},
        ]),
        "⟨BOS⟩ ⟨im_start⟩user\n2+2?⟨im_end⟩\n⟨im_start⟩assistant\n4⟨im_end⟩\n⟨im_start⟩user\nWeather?⟨im_end⟩\n\
         ⟨im_start⟩assistant\n<think>\nask\n</think>\n\n<tool_call>\n{\"name\": \"get\", \"arguments\": {\"q\": \"a b\"}}\n\
         </tool_call>⟨im_end⟩\n⟨im_start⟩user\n<tool_response>\nsun\n</tool_response>⟨im_end⟩\n\
         ⟨im_start⟩assistant\n<think>\n\n</think>\n\n",
    );
}

#[test]
fn gemma() {
    check(
        GEMMA,
        json!([{"role": "user", "content": " Hi "}, {"role": "assistant", "content": "Yo"}, {"role": "user", "content": "!"}]),
        " ⟨bos⟩⟨start_of_turn⟩user\nHi⟨end_of_turn⟩\n⟨start_of_turn⟩model\nYo⟨end_of_turn⟩\n\
         ⟨start_of_turn⟩user\n!⟨end_of_turn⟩\n⟨start_of_turn⟩model\n",
    );
}

#[test]
fn mistral() {
    check(
        MISTRAL,
        json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]),
        " ⟨s⟩⟨INST⟩ a ⟨/INST⟩b⟨/s⟩⟨INST⟩ c ⟨/INST⟩",
    );
}
