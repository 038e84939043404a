//! How the tokens of a vocabulary spell bytes.

use std::{collections::HashMap, sync::LazyLock};

/// SentencePiece's visible space.
pub const SPACE: char = '▁';

/// What the characters of an ordinary token mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// GPT-2's spelling: each character is one byte.
    ByteLevel,
    /// SentencePiece's spelling: [`SPACE`] is a space.
    Spaces,
    /// Plain text.
    Plain,
}

impl Spelling {
    /// The bytes of running text that a token stands for.
    pub fn bytes(self, token: &str) -> Vec<u8> {
        match self {
            Self::ByteLevel => byte_level(token).unwrap_or_else(|| token.into()),
            Self::Spaces => token.replace(SPACE, " ").into(),
            Self::Plain => token.into(),
        }
    }
}

/// The byte that a SentencePiece byte token (`<0x0A>`) stands for.
pub fn byte_token(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_byte = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_byte.then(|| u8::from_str_radix(digits, 16).ok())?
}

/// The bytes of a token in GPT-2's spelling. None if a character stands for no byte: such a token was added as a whole.
fn byte_level(token: &str) -> Option<Vec<u8>> {
    let byte = |char| BYTE_OF_CHAR.get(&char).copied();
    token.chars().map(byte).collect()
}

/// GPT-2's table: the visible characters of Latin-1 stand for their own bytes, and the characters from 256 on stand for the
/// other bytes.
static BYTE_OF_CHAR: LazyLock<HashMap<char, u8>> = LazyLock::new(|| {
    let visible = |&byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let (own, others): (Vec<u8>, Vec<u8>) = (0..=u8::MAX).partition(visible);
    let own = own.into_iter().map(|byte| (char::from(byte), byte));
    own.chain(('\u{100}'..).zip(others)).collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_stand_for_bytes() {
        assert_eq!(
            Spelling::ByteLevel.bytes("ĠGrÃ¼ÃŁeĊ"),
            " Grüße\n".as_bytes()
        );
        assert_eq!(Spelling::ByteLevel.bytes("Ã"), b"\xc3");
        assert_eq!(Spelling::ByteLevel.bytes("<｜x｜>"), "<｜x｜>".as_bytes());
        assert_eq!(Spelling::Spaces.bytes("▁a▁b"), b" a b");
        assert_eq!(BYTE_OF_CHAR.len(), 256);
    }

    #[test]
    fn byte_tokens_are_told_from_others() {
        assert_eq!(byte_token("<0x0A>"), Some(10));
        assert_eq!(byte_token("<0xff>"), Some(255));
        for other in ["<0x0>", "<0x00A>", "<0xGG>", "0x0A", "<0x+1>"] {
            assert_eq!(byte_token(other), None, "{other}");
        }
    }
}
