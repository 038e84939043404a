//! A tokenizer that is simple enough to keep tests readable.

use tenon_plugin_api::EncodeFlags;

use super::Encoder;

pub const CONTROL_TOKENS: [&str; 14] = [
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<bos>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
];
const BOS_ID: u32 = 999;
const CONTROL_IDS: u32 = 1000;

/// One token per byte or control token. Like SentencePiece, it puts a space before a text that continues none.
pub struct ByteTokenizer;

impl Encoder for ByteTokenizer {
    type Error = std::convert::Infallible;

    fn encode(&self, text: &str, flags: EncodeFlags) -> Result<Vec<u32>, Self::Error> {
        let mut tokens = Vec::new();
        if flags.contains(EncodeFlags::ADD_SPECIAL) {
            tokens.push(BOS_ID);
        }
        if !flags.contains(EncodeFlags::CONTINUATION) {
            tokens.push(u32::from(b' '));
        }
        let mut rest = text;
        while let Some(&byte) = rest.as_bytes().first() {
            let control = CONTROL_TOKENS
                .iter()
                .position(|token| rest.starts_with(token));
            match control.filter(|_| flags.contains(EncodeFlags::PARSE_CONTROL)) {
                Some(index) => {
                    tokens.push(CONTROL_IDS + index as u32);
                    rest = &rest[CONTROL_TOKENS[index].len()..];
                }
                None => {
                    tokens.push(byte.into());
                    let end = rest.ceil_char_boundary(1);
                    tokens.extend(rest.as_bytes()[1..end].iter().map(|&byte| u32::from(byte)));
                    rest = &rest[end..];
                }
            }
        }
        Ok(tokens)
    }
}

/// The text of tokens. `show` writes the control tokens.
pub fn decode(tokens: &[u32], show: impl Fn(&str) -> String) -> String {
    let mut bytes = Vec::new();
    for &token in tokens {
        match token {
            BOS_ID => bytes.extend("⟨BOS⟩".bytes()),
            CONTROL_IDS.. => {
                bytes.extend(show(CONTROL_TOKENS[(token - CONTROL_IDS) as usize]).bytes())
            }
            byte => bytes.push(byte as u8),
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// Writes a control token as `⟨im_end⟩`, so that it differs from text that only looks like one.
pub fn bracketed(text: &str) -> String {
    format!("⟨{}⟩", text.trim_matches(['<', '|', '>', '[', ']']))
}
