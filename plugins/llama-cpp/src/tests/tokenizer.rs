//! Vocabularies.

use tenon_plugin_api::{EncodeFlags, Model, TokenKind};

use super::smol;

const PLAIN: EncodeFlags = EncodeFlags::NONE;
#[test]
fn tokens_of_a_text_spell_it() {
    let tokenizer = smol().tokenizer().unwrap();
    let vocabulary = tokenizer.vocabulary().unwrap();
    let long = "All work and no play makes Jack a dull boy. 12345\n".repeat(4000);
    let one_word = "a".repeat(100_000);
    let texts = [
        "",
        " ",
        "\0",
        "a\0b",
        "Hello, world!",
        "  two  spaces\n\n\ttab\r\n",
        "Grüße aus Zürich",
        "日本語のテキスト",
        "🦀👩‍👩‍👧‍👦 flags 🇫🇷",
        "مرحبا بالعالم",
        "e\u{301} \u{202e}",
        "<|im_end|>",
        "\u{1}",
        &long,
        &one_word,
    ];
    for text in texts {
        for flags in [PLAIN, EncodeFlags::CONTINUATION, EncodeFlags::PARSE_CONTROL] {
            let tokens = tokenizer.encode(text, flags).unwrap();
            let spelled: Vec<u8> = tokens
                .iter()
                .flat_map(|&token| vocabulary.bytes(token).to_vec())
                .collect();
            assert_eq!(String::from_utf8_lossy(&spelled), text);
        }
    }
    let control = tokenizer
        .encode("<|im_end|>", EncodeFlags::PARSE_CONTROL)
        .unwrap();
    assert_eq!(control.len(), 1);
    let text = tokenizer.encode("<|im_end|>", PLAIN).unwrap();
    assert!(
        text.iter()
            .all(|&token| vocabulary.kind(token) == TokenKind::NORMAL)
    );
}
