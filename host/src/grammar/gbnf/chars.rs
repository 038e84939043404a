//! Sets of characters.

use std::fmt::Write;

const LAST: u32 = char::MAX as u32;
/// Surrogates: code points that are no characters.
const SURROGATES: (u32, u32) = (0xd800, 0xdfff);
/// The first character beyond ASCII.
const BEYOND_ASCII: u32 = 0x80;
/// Most ranges of a coarse set.
const MAX_RANGES: usize = 100;
/// Number of code points in a block: a coarse set has whole blocks beyond ASCII.
const BLOCK: u32 = 1 << 14;

/// A set of characters: ranges of code points in ascending order, of which no two overlap or touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CharSet(Vec<(u32, u32)>);

impl CharSet {
    pub fn all() -> Self {
        Self::default().complement()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a range, its last character included.
    pub fn insert(&mut self, first: char, last: char) {
        self.add((first.into(), last.into()));
    }

    pub fn contains(&self, character: char) -> bool {
        let code = u32::from(character);
        let at = self.0.partition_point(|&(_, last)| last < code);
        self.0.get(at).is_some_and(|&(first, _)| first <= code)
    }

    /// Adds another set, and makes the result coarse. Returns whether this set has grown.
    pub fn extend(&mut self, other: &Self) -> bool {
        let both = Self(merged(&self.0, &other.0)).coarse();
        let is_news = both != *self;
        *self = both;
        is_news
    }

    /// The set with more characters, if it has too many ranges otherwise.
    pub fn coarse(self) -> Self {
        if self.0.len() <= MAX_RANGES {
            return self;
        }
        let ranges = self.0.into_iter().map(|(first, last)| {
            let begin = (first / BLOCK * BLOCK).max(BEYOND_ASCII);
            let end = (last | (BLOCK - 1)).min(LAST);
            (
                if first < BEYOND_ASCII { first } else { begin },
                if last < BEYOND_ASCII { last } else { end },
            )
        });
        Self(merged(&ranges.collect::<Vec<_>>(), &[]))
    }

    /// All characters that are not in the set.
    pub fn complement(&self) -> Self {
        let mut rest = Self::default();
        let mut next = 0;
        for &(first, last) in self.0.iter().chain([&(LAST + 1, LAST + 1)]) {
            if first > next {
                rest.add((next, first - 1));
            }
            next = last + 1;
        }
        rest
    }

    pub fn intersects(&self, other: &Self) -> bool {
        let (mut ours, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(&&(a, b)), Some(&&(c, d))) = (ours.peek(), theirs.peek()) {
            if a <= d && c <= b {
                return true;
            }
            if b < d {
                ours.next();
            } else {
                theirs.next();
            }
        }
        false
    }

    /// Writes the set as a character class of a regular expression.
    pub fn regex(&self) -> String {
        let mut class = "[".to_owned();
        for &(first, last) in &self.0 {
            for (first, last) in without_surrogates(first, last) {
                // Writing to a string cannot fail.
                let _ = write!(class, "\\u{{{first:x}}}-\\u{{{last:x}}}");
            }
        }
        class + "]"
    }

    fn add(&mut self, range: (u32, u32)) {
        self.0 = merged(&self.0, &[range]);
    }
}

/// The union of two lists of ranges, each in ascending order.
fn merged(ours: &[(u32, u32)], theirs: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let (mut ours, mut theirs) = (ours.iter().peekable(), theirs.iter().peekable());
    let mut merged: Vec<(u32, u32)> = Vec::new();
    while let Some(&(first, last)) = match (ours.peek(), theirs.peek()) {
        (Some((a, _)), Some((b, _))) if b < a => theirs.next(),
        (Some(_), _) => ours.next(),
        (None, _) => theirs.next(),
    } {
        match merged.last_mut() {
            Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

fn without_surrogates(first: u32, last: u32) -> impl Iterator<Item = (u32, u32)> {
    let below = (first, last.min(SURROGATES.0 - 1));
    let above = (first.max(SURROGATES.1 + 1), last);
    [below, above]
        .into_iter()
        .filter(|(first, last)| first <= last)
}
