//! SentencePiece vocabularies as byte-pair models.

use std::collections::HashMap;

/// The merges of a SentencePiece vocabulary, which has scores instead. Any two pieces merge if together they are a piece,
/// and the merge whose result has the best score comes first.
pub fn merges<'a>(pieces: impl Iterator<Item = (&'a str, f32)>) -> Vec<(String, String)> {
    let scores: HashMap<&str, f32> = pieces.collect();
    let mut merges: Vec<(f32, &str, &str)> = scores
        .iter()
        .flat_map(|(whole, &score)| halves(whole).map(move |(left, right)| (score, left, right)))
        .filter(|(_, left, right)| scores.contains_key(left) && scores.contains_key(right))
        .collect();
    // SentencePiece leaves the order of equal scores open. It only has to be the same every time.
    merges.sort_by(|a, b| {
        b.0.total_cmp(&a.0)
            .then_with(|| (a.1, a.2).cmp(&(b.1, b.2)))
    });
    let owned = |(_, left, right): (f32, &str, &str)| (left.to_owned(), right.to_owned());
    merges.into_iter().map(owned).collect()
}

/// All ways to cut a text between two characters.
fn halves(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let cuts = text.char_indices().skip(1);
    cuts.map(|(at, _)| text.split_at(at))
}
