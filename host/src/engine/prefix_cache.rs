//! Finished sequences whose KV is kept, because later prompts may begin like them.
//!
//! Each kept sequence uses one of the session's sequence ids, of which there are a few dozen. So the longest common prefix
//! is found by comparing with each: one pass over contiguous tokens. A radix tree would save comparisons only if many
//! sequences shared a long prefix, and it would have to be split and merged whenever a sequence is added or removed.

/// Tokens that are compared at once.
const PIECE: usize = 64;

/// A sequence that is not running, with the tokens whose KV is stored.
#[derive(Debug)]
pub struct Kept {
    /// The sequence's id in the session.
    pub slot: u32,
    pub tokens: Vec<u32>,
}

/// All kept sequences, the least recently used first.
#[derive(Debug, Default)]
pub struct PrefixCache(Vec<Kept>);

impl PrefixCache {
    /// All sequences, the least recently used first.
    pub fn iter(&self) -> impl Iterator<Item = &Kept> {
        self.0.iter()
    }

    /// The number of sequences.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds a sequence as the most recently used one.
    pub fn insert(&mut self, kept: Kept) {
        self.0.push(kept);
    }

    /// Marks a sequence as the most recently used one.
    pub fn touch(&mut self, slot: u32) {
        if let Some(kept) = self.take(slot) {
            self.0.push(kept);
        }
    }

    /// The sequence with this id.
    pub fn get(&self, slot: u32) -> Option<&Kept> {
        self.0.iter().find(|kept| kept.slot == slot)
    }

    /// Removes and returns a sequence.
    pub fn take(&mut self, slot: u32) -> Option<Kept> {
        let at = self.0.iter().position(|kept| kept.slot == slot)?;
        Some(self.0.remove(at))
    }

    /// Removes and returns the least recently used sequence that is not `spared`.
    pub fn take_oldest(&mut self, spared: Option<u32>) -> Option<Kept> {
        let at = self.0.iter().position(|kept| Some(kept.slot) != spared)?;
        Some(self.0.remove(at))
    }

    /// Removes and returns a sequence that is a prefix of these tokens.
    pub fn take_beginning_of(&mut self, tokens: &[u32]) -> Option<Kept> {
        let at = self
            .0
            .iter()
            .position(|kept| tokens.starts_with(&kept.tokens))?;
        Some(self.0.remove(at))
    }

    /// Whether these tokens are a prefix of a kept sequence.
    pub fn holds(&self, tokens: &[u32]) -> bool {
        self.0.iter().any(|kept| kept.tokens.starts_with(tokens))
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
        let kept = sequences.iter().zip(0..).map(|(tokens, slot)| Kept {
            slot,
            tokens: tokens.to_vec(),
        });
        PrefixCache(kept.collect())
    }

    fn slot(kept: Option<Kept>) -> Option<u32> {
        kept.map(|kept| kept.slot)
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = cache(&[&[1], &[2], &[3]]);
        cache.touch(0);
        assert_eq!(slot(cache.take_oldest(Some(1))), Some(2));
        assert_eq!(slot(cache.take_oldest(None)), Some(1));
        assert_eq!(slot(cache.take_oldest(Some(0))), None);
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn beginnings_are_found() {
        let mut cache = cache(&[&[1, 2], &[5, 6, 7]]);
        assert!(cache.holds(&[5, 6]));
        assert!(!cache.holds(&[6]));
        assert_eq!(slot(cache.take_beginning_of(&[5, 6])), None);
        assert_eq!(slot(cache.take_beginning_of(&[1, 2, 3])), Some(0));
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
