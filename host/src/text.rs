//! Shortens texts of clients for messages and the log.

use std::borrow::Cow;

/// Most bytes of a client's text that a message or the log quotes.
pub const MAX_QUOTED: usize = 200;

/// The text, without its middle if it is longer than `max_bytes`.
pub fn shortened(text: &str, max_bytes: usize) -> Cow<'_, str> {
    if text.len() <= max_bytes {
        return text.into();
    }
    let head = text.floor_char_boundary(max_bytes / 3 * 2);
    let tail = text.ceil_char_boundary(text.len() - max_bytes / 3);
    let left_out = tail - head;
    format!("{}[… {left_out} bytes …]{}", &text[..head], &text[tail..]).into()
}

/// A client's text, shortened for a message or the log.
pub fn quoted(text: &str) -> Cow<'_, str> {
    shortened(text, MAX_QUOTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_texts_stay_and_long_ones_lose_their_middle() {
        assert_eq!(shortened("short", 5), "short");
        assert_eq!(shortened("123456789", 6), "1234[… 3 bytes …]89");
        // Characters are never cut.
        assert_eq!(shortened("äöüäöü", 6), "äö[… 6 bytes …]ü");
        assert!(quoted(&"x".repeat(1 << 20)).len() < 300);
    }
}
