//! Text of a model as a terminal may show it.

use std::borrow::Cow;

/// The text without control characters, which could move the cursor or write to the clipboard. Tabs and line breaks stay.
pub fn printable(text: &str) -> Cow<'_, str> {
    match text.contains(is_hidden) {
        true => text.replace(is_hidden, "").into(),
        false => text.into(),
    }
}

fn is_hidden(char: char) -> bool {
    char.is_control() && !matches!(char, '\n' | '\t')
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn control_characters_are_left_out() {
        assert_eq!(printable("a\tb\nü"), "a\tb\nü");
        assert_eq!(printable("\x1b]52;c;eA==\x07a\r\u{9b}2J"), "]52;c;eA==a2J");
    }
}
