//! Cached prefixes: finished sequences whose KV stays, because later prompts may begin like them.
//!
//! Each cached prefix uses one of the session's sequence ids, of which there are a few dozen. So the longest common prefix
//! is found by comparing with each: one pass over contiguous tokens. A radix tree would save comparisons only if many
//! sequences shared a long prefix, and it would have to be split and merged whenever a sequence is added or removed.

/// Tokens that are compared at once.
const PIECE: usize = 64;

/// A sequence that is not running, with the tokens whose KV is stored.
#[derive(Debug)]
pub struct CachedPrefix {
    /// The sequence's id in the session.
    pub seq: u32,
    pub tokens: Vec<u32>,
}

/// All cached prefixes, the least recently used first.
#[derive(Debug, Default)]
pub struct PrefixCache(Vec<CachedPrefix>);

impl PrefixCache {
    /// All of them, the least recently used first.
    pub fn iter(&self) -> impl Iterator<Item = &CachedPrefix> {
        self.0.iter()
    }

    /// The number of cached prefixes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds a prefix as the most recently used one.
    pub fn insert(&mut self, prefix: CachedPrefix) {
        self.0.push(prefix);
    }

    /// Marks a prefix as the most recently used one.
    pub fn touch(&mut self, seq: u32) {
        if let Some(prefix) = self.take(seq) {
            self.0.push(prefix);
        }
    }

    /// The prefix with this id.
    pub fn get(&self, seq: u32) -> Option<&CachedPrefix> {
        self.0.iter().find(|prefix| prefix.seq == seq)
    }

    /// Removes and returns a prefix.
    pub fn take(&mut self, seq: u32) -> Option<CachedPrefix> {
        let at = self.0.iter().position(|prefix| prefix.seq == seq)?;
        Some(self.0.remove(at))
    }

    /// Removes and returns the least recently used prefix that is not `spared`.
    pub fn take_oldest(&mut self, spared: Option<u32>) -> Option<CachedPrefix> {
        let at = self
            .0
            .iter()
            .position(|prefix| Some(prefix.seq) != spared)?;
        Some(self.0.remove(at))
    }

    /// Removes and returns the least recently used prefix, with two exceptions. The most recently used one stays, because its
    /// conversation may go on. Beginnings of other prefixes stay, because all of their tokens would remain in use.
    pub fn take_oldest_apart(&mut self) -> Option<CachedPrefix> {
        let (_, older) = self.0.split_last()?;
        let is_apart = |prefix: &CachedPrefix| {
            let mut others = self.0.iter().filter(|other| other.seq != prefix.seq);
            !others.any(|other| other.tokens.starts_with(&prefix.tokens))
        };
        let at = older.iter().position(is_apart)?;
        Some(self.0.remove(at))
    }

    /// Removes and returns a cached prefix of these tokens.
    pub fn take_beginning_of(&mut self, tokens: &[u32]) -> Option<CachedPrefix> {
        let at = self
            .0
            .iter()
            .position(|prefix| tokens.starts_with(&prefix.tokens))?;
        Some(self.0.remove(at))
    }

    /// Whether these tokens begin a cached prefix.
    pub fn holds(&self, tokens: &[u32]) -> bool {
        self.0
            .iter()
            .any(|prefix| prefix.tokens.starts_with(tokens))
    }
}

/// Length of the common prefix of two token sequences.
pub fn common_len(a: &[u32], b: &[u32]) -> u32 {
    // Comparing whole pieces is many times faster than comparing token by token.
    let pieces = a.chunks(PIECE).zip(b.chunks(PIECE));
    let equal = PIECE * pieces.take_while(|(a, b)| a == b).count();
    // The last piece may be a short one.
    let equal = equal.min(a.len()).min(b.len());
    let rest = a[equal..].iter().zip(&b[equal..]);
    (equal + rest.take_while(|(a, b)| a == b).count()) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(sequences: &[&[u32]]) -> PrefixCache {
        let prefixes = sequences.iter().zip(0..).map(|(tokens, seq)| CachedPrefix {
            seq,
            tokens: tokens.to_vec(),
        });
        PrefixCache(prefixes.collect())
    }

    fn seq(prefix: Option<CachedPrefix>) -> Option<u32> {
        prefix.map(|prefix| prefix.seq)
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = cache(&[&[1], &[2], &[3]]);
        cache.touch(0);
        assert_eq!(seq(cache.take_oldest(Some(1))), Some(2));
        assert_eq!(seq(cache.take_oldest(None)), Some(1));
        assert_eq!(seq(cache.take_oldest(Some(0))), None);
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn beginnings_of_others_and_the_last_one_stay() {
        let mut cache = cache(&[&[1], &[2], &[1, 3], &[4], &[1, 3, 5]]);
        assert_eq!(seq(cache.take_oldest_apart()), Some(1));
        assert_eq!(seq(cache.take_oldest_apart()), Some(3));
        assert_eq!(seq(cache.take_oldest_apart()), None);
        assert_eq!(cache.len(), 3);
    }

    #[test]
    fn beginnings_are_found() {
        let mut cache = cache(&[&[1, 2], &[5, 6, 7]]);
        assert!(cache.holds(&[5, 6]));
        assert!(!cache.holds(&[6]));
        assert_eq!(seq(cache.take_beginning_of(&[5, 6])), None);
        assert_eq!(seq(cache.take_beginning_of(&[1, 2, 3])), Some(0));
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn common_beginnings_are_measured() {
        assert_eq!(common_len(&[1, 2, 3], &[1, 2, 4]), 2);
        assert_eq!(common_len(&[1, 2], &[1, 2, 4]), 2);
        assert_eq!(common_len(&[], &[1]), 0);
        let mut long: Vec<u32> = (0..200).collect();
        assert_eq!(common_len(&long, &long.clone()), 200);
        assert_eq!(common_len(&long[..130], &long), 130);
        let before = long.clone();
        long[150] = 0;
        assert_eq!(common_len(&long, &before), 150);
    }
}
