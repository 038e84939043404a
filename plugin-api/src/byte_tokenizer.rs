//! A tokenizer without a vocabulary file.

use crate::{EncodeFlags, Result, TokenKind, Tokenizer, Vocabulary};

/// Tokens 0 to 255 are the bytes, and those from 256 on are control tokens. For models that read bytes, and for experiments.
/// `ADD_SPECIAL` puts the first control token before the text.
#[derive(Clone, Debug)]
pub struct ByteTokenizer {
    control: Vec<String>,
}

impl ByteTokenizer {
    /// A tokenizer with these control tokens. The first of them is token 256.
    pub fn new(control: &[&str]) -> Self {
        Self {
            control: control.iter().map(ToString::to_string).collect(),
        }
    }

    /// The control token at the start of a text, and the rest of the text.
    fn control<'a>(&self, text: &'a [u8]) -> Option<(u32, &'a [u8])> {
        (256..)
            .zip(&self.control)
            .find_map(|(token, name)| Some((token, text.strip_prefix(name.as_bytes())?)))
    }
}

impl Tokenizer for ByteTokenizer {
    fn encode(&self, text: &str, flags: EncodeFlags) -> Result<Vec<u32>> {
        let mut tokens = Vec::with_capacity(text.len() + 1);
        if flags.contains(EncodeFlags::ADD_SPECIAL) && !self.control.is_empty() {
            tokens.push(256);
        }
        let mut rest = text.as_bytes();
        while let Some((&byte, after)) = rest.split_first() {
            let control = self
                .control(rest)
                .filter(|_| flags.contains(EncodeFlags::PARSE_CONTROL));
            let (token, after) = control.unwrap_or((byte.into(), after));
            tokens.push(token);
            rest = after;
        }
        Ok(tokens)
    }

    fn vocabulary(&self) -> Result<Vocabulary> {
        let mut tokens = Vocabulary::default();
        for byte in 0..=255 {
            tokens.push(&[byte], TokenKind::BYTE);
        }
        for name in &self.control {
            tokens.push(name.as_bytes(), TokenKind::CONTROL);
        }
        Ok(tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_text_becomes_a_control_token_only_when_asked() {
        let tokenizer = ByteTokenizer::new(&["<s>", "</s>"]);
        let all = EncodeFlags::PARSE_CONTROL | EncodeFlags::ADD_SPECIAL;
        assert_eq!(
            tokenizer.encode("é</s>", all).unwrap(),
            [256, 0xc3, 0xa9, 257]
        );
        let plain = tokenizer.encode("</s>", EncodeFlags::NONE).unwrap();
        assert_eq!(plain, [60, 47, 115, 62]);
        assert_eq!(tokenizer.vocabulary().unwrap().bytes(257), b"</s>");
    }
}
