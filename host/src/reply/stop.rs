/// Finds stop strings in a text that comes in pieces. Holds back text that may be the beginning of one.
///
/// The stop string that is complete first wins. If several end at the same place, the longest wins. So the answer does
/// not depend on how the text was cut into pieces.
pub struct StopMatcher {
    stops: Vec<PartialMatch>,
    /// Text that may be the beginning of a stop string.
    held: String,
    found: Option<usize>,
}

/// The result of a piece of text.
#[derive(Debug, PartialEq, Eq)]
pub enum Matched {
    /// Text that is certainly not part of a stop string. It may be empty.
    Text(String),
    /// A stop string is complete. This is the text before it that was not returned yet.
    Stopped(String),
}

impl StopMatcher {
    /// A matcher for these stop strings. Empty ones are ignored.
    pub fn new(stops: Vec<String>) -> Self {
        let stops = stops.into_iter().enumerate();
        let stops = stops.filter(|(_, stop)| !stop.is_empty());
        Self {
            stops: stops
                .map(|(index, stop)| PartialMatch::new(index, stop))
                .collect(),
            held: String::new(),
            found: None,
        }
    }

    /// Index of the stop string that is complete. None as long as none is.
    pub fn found(&self) -> Option<usize> {
        self.found
    }

    /// Takes the next piece. If it completes a stop string, the text behind the stop string is dropped.
    pub fn push(&mut self, piece: &str) -> Matched {
        self.held.push_str(piece);
        let before = self.held.len() - piece.len();
        for (at, byte) in piece.bytes().enumerate() {
            if let Some((length, index)) = self.complete_with(byte) {
                self.found = Some(index);
                let mut text = std::mem::take(&mut self.held);
                text.truncate(before + at + 1 - length);
                return Matched::Stopped(text);
            }
        }
        let begun = self
            .stops
            .iter()
            .map(|stop| stop.matched)
            .max()
            .unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - begun);
        Matched::Text(std::mem::replace(&mut self.held, rest))
    }

    /// Returns the text that was held back. To be called at the end of the text, and before content that is not text.
    /// Stop strings do not continue across this place.
    pub fn flush(&mut self) -> String {
        self.stops.iter_mut().for_each(|stop| stop.matched = 0);
        std::mem::take(&mut self.held)
    }

    /// Bytes of text that are held back.
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Takes a byte. Returns the length and the index of the longest stop string that it completes.
    fn complete_with(&mut self, byte: u8) -> Option<(usize, usize)> {
        let complete = self.stops.iter_mut().filter_map(|stop| {
            let length = stop.advance(byte)?;
            Some((length, stop.index))
        });
        complete.max()
    }
}

/// How much of one stop string is matched at the end of the text (Knuth, Morris and Pratt).
struct PartialMatch {
    /// Index of the stop string among those of the request.
    index: usize,
    stop: Vec<u8>,
    /// `[len]`: for each byte of the stop string, how much remains matched if the match ends with this byte and the
    /// next one differs.
    fallback: Vec<usize>,
    matched: usize,
}

impl PartialMatch {
    fn new(index: usize, stop: String) -> Self {
        let mut partial = Self {
            index,
            fallback: vec![0; stop.len()],
            stop: stop.into_bytes(),
            matched: 0,
        };
        for at in 1..partial.stop.len() {
            partial.advance(partial.stop[at]);
            partial.fallback[at] = partial.matched;
        }
        partial.matched = 0;
        partial
    }

    /// Takes a byte. Returns the length of the stop string if the byte completes it.
    fn advance(&mut self, byte: u8) -> Option<usize> {
        while self.matched > 0 && self.stop.get(self.matched) != Some(&byte) {
            self.matched = self.fallback[self.matched - 1];
        }
        if self.stop.get(self.matched) == Some(&byte) {
            self.matched += 1;
        }
        (self.matched == self.stop.len()).then_some(self.matched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(stops: &[&str]) -> StopMatcher {
        StopMatcher::new(stops.iter().map(|&stop| stop.to_owned()).collect())
    }

    #[track_caller]
    fn check(stops: &[&str], pieces: &[(&str, Matched)], rest: &str) {
        let mut matcher = matcher(stops);
        for (piece, expected) in pieces {
            assert_eq!(matcher.push(piece), *expected, "{piece:?}");
        }
        assert_eq!(matcher.flush(), rest);
    }

    fn text(text: &str) -> Matched {
        Matched::Text(text.to_owned())
    }

    fn stopped(text: &str) -> Matched {
        Matched::Stopped(text.to_owned())
    }

    #[test]
    fn without_stop_strings_nothing_is_held() {
        check(&[], &[("abc", text("abc"))], "");
        check(&[""], &[("abc", text("abc"))], "");
    }

    #[test]
    fn what_may_begin_a_stop_string_is_held_until_decided() {
        check(
            &["\n\nUser:"],
            &[
                ("Hi\n", text("Hi")),
                ("\nUs", text("")),
                ("e it", text("\n\nUse it")),
            ],
            "",
        );
        check(&["###"], &[("a#", text("a")), ("#", text(""))], "##");
        check(
            &["é!"],
            &[("caf", text("caf")), ("é", text("")), ("é", text("é"))],
            "é",
        );
    }

    #[test]
    fn the_text_before_a_stop_string_is_given_and_the_string_is_not() {
        check(
            &["END"],
            &[("one E", text("one ")), ("ND two", stopped(""))],
            "",
        );
        check(&["ab"], &[("aa", text("a")), ("ab", stopped("a"))], "");
    }

    #[test]
    fn the_first_complete_wins_and_then_the_longest() {
        check(&["abc", "b"], &[("xabc", stopped("xa"))], "");
        check(&["c", "abc"], &[("xabc", stopped("x"))], "");
    }

    #[test]
    fn the_one_that_was_found_is_known() {
        let mut matcher = matcher(&["", "never", "c", "abc"]);
        assert_eq!(matcher.push("xab"), text("x"));
        assert_eq!(matcher.found(), None);
        assert_eq!(matcher.push("c"), stopped(""));
        assert_eq!(matcher.found(), Some(3));
    }

    /// The expected result by definition, from the whole text.
    fn expected(text: &str, stops: &[&str]) -> (String, bool) {
        let ends = (1..=text.len()).map(|end| &text[..end]);
        for before in ends {
            if let Some(stop) = stops
                .iter()
                .filter(|stop| before.ends_with(**stop))
                .max_by_key(|stop| stop.len())
            {
                return (before[..before.len() - stop.len()].to_owned(), true);
            }
        }
        (text.to_owned(), false)
    }

    /// Runs a matcher. The text is cut after character `i` if bit `i` of `cuts` is set.
    fn run(text: &str, cuts: u32, stops: &[&str]) -> (String, bool) {
        let (mut matcher, mut output, mut piece) = (matcher(stops), String::new(), String::new());
        for (at, character) in text.chars().enumerate() {
            piece.push(character);
            if cuts >> at & 1 == 1 || at + 1 == text.len() {
                match matcher.push(&std::mem::take(&mut piece)) {
                    Matched::Text(text) => output += &text,
                    Matched::Stopped(text) => return (output + &text, true),
                }
            }
        }
        (output + &matcher.flush(), false)
    }

    #[test]
    fn the_answer_does_not_depend_on_how_the_text_was_cut() {
        const LENGTH: u32 = 8;
        for stops in [
            &["aba", "abb"][..],
            &["aabaa"],
            &["bbb", "ba", "abab"],
            &["abbabba", "bab"],
        ] {
            for letters in 0..1_u32 << LENGTH {
                let text: String = (0..LENGTH)
                    .map(|at| if letters >> at & 1 == 1 { 'a' } else { 'b' })
                    .collect();
                for cuts in 0..1 << (LENGTH - 1) {
                    assert_eq!(
                        run(&text, cuts, stops),
                        expected(&text, stops),
                        "{text} {cuts:b} {stops:?}"
                    );
                }
            }
        }
    }
}
