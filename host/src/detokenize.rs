use std::sync::Arc;

use tenon_plugin_api::{TokenKind, Vocabulary};

/// Turns tokens into text, in whole characters. A token may hold half a character.
pub struct Detokenizer {
    vocabulary: Arc<Vocabulary>,
    /// Control tokens that count as text.
    marks: Arc<[u32]>,
    /// The beginning of a character whose other bytes are still to come.
    pending: Vec<u8>,
    /// The text that the last token completed. The buffer is reused, so that tokens allocate nothing.
    text: String,
}

impl Detokenizer {
    /// A detokenizer for tokens of this vocabulary. `marks` are the control tokens that count as text.
    pub fn new(vocabulary: Arc<Vocabulary>, marks: Arc<[u32]>) -> Self {
        Self {
            vocabulary,
            marks,
            pending: Vec::new(),
            text: String::new(),
        }
    }

    /// Takes the next token. Returns the text that it completes. Control tokens other than the marks have no text.
    /// Bytes that can no longer become a character are replaced by U+FFFD.
    pub fn push(&mut self, token: u32) -> &str {
        self.text.clear();
        if self.vocabulary.kind(token) == TokenKind::CONTROL && !self.marks.contains(&token) {
            return "";
        }
        self.pending.extend_from_slice(self.vocabulary.bytes(token));
        let complete = self.pending.len() - unfinished(&self.pending);
        for chunk in self.pending[..complete].utf8_chunks() {
            self.text += chunk.valid();
            if !chunk.invalid().is_empty() {
                self.text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.pending.drain(..complete);
        &self.text
    }

    /// Whether the last token ended inside a character.
    pub fn is_inside_character(&self) -> bool {
        !self.pending.is_empty()
    }
}

/// How many bytes at the end may still become a character.
fn unfinished(bytes: &[u8]) -> usize {
    let invalid = bytes
        .utf8_chunks()
        .last()
        .map_or(&[][..], |chunk| chunk.invalid());
    match std::str::from_utf8(invalid) {
        Err(error) if error.error_len().is_none() => invalid.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A vocabulary with a token for each byte, then a control token, a word that counts as text, and a control token
    /// that is a mark.
    fn vocabulary() -> Arc<Vocabulary> {
        let mut vocabulary = Vocabulary::default();
        for byte in 0..=255 {
            vocabulary.push(&[byte], TokenKind::BYTE);
        }
        vocabulary.push(b"<|im_end|>", TokenKind::CONTROL);
        vocabulary.push(b"<tool_call>", TokenKind::USER_DEFINED);
        vocabulary.push(b"[TOOL_CALLS]", TokenKind::CONTROL);
        Arc::new(vocabulary)
    }

    fn pieces(tokens: impl IntoIterator<Item = u32>) -> Vec<String> {
        let mut detokenizer = Detokenizer::new(vocabulary(), Arc::new([258]));
        tokens
            .into_iter()
            .map(|token| detokenizer.push(token).to_owned())
            .collect()
    }

    #[track_caller]
    fn check(tokens: &[u32], expected: &[&str]) {
        assert_eq!(pieces(tokens.iter().copied()), expected);
    }

    #[test]
    fn characters_come_whole() {
        check(&[0xC3, 0xA9, 0x61], &["", "é", "a"]);
        check(&[0xF0, 0x9F, 0xA6, 0x80], &["", "", "", "🦀"]);
    }

    #[test]
    fn invalid_bytes_are_replaced_once_they_are_known_to_be() {
        check(&[0xFF], &["\u{FFFD}"]);
        check(&[0xF0, 0x9F, 0x61], &["", "", "\u{FFFD}a"]);
        check(&[0xF0, 0x9F, 0xC3, 0xA9], &["", "", "\u{FFFD}", "é"]);
    }

    #[test]
    fn half_a_character_at_the_end_is_no_text() {
        check(&[0x61, 0xE2, 0x82], &["a", "", ""]);
    }

    #[test]
    fn control_tokens_print_nothing_and_marks_and_others_their_bytes() {
        check(&[256, 257, 9999], &["", "<tool_call>", ""]);
        check(&[258], &["[TOOL_CALLS]"]);
    }

    #[test]
    fn all_pieces_together_are_the_lossy_text_of_whole_characters() {
        let interesting = [0x61, 0x80, 0xC3, 0xA9, 0xE2, 0x82, 0xAC, 0xF0, 0x9F, 0xFF];
        for number in 0..10_usize.pow(5) {
            let bytes: Vec<u8> = (0..5)
                .map(|digit| interesting[number / 10_usize.pow(digit) % 10])
                .collect();
            let text = pieces(bytes.iter().map(|&byte| byte.into())).concat();
            let whole = &bytes[..bytes.len() - unfinished(&bytes)];
            assert_eq!(text, String::from_utf8_lossy(whole), "{bytes:x?}");
        }
    }
}
