//! Finds marks in a text that is still being written.

/// The first of these texts that occurs, with its position in bytes. Of several at one position, the longest.
pub fn first_of<'a>(
    text: &str,
    wanted: impl IntoIterator<Item = &'a str>,
) -> Option<(usize, &'a str)> {
    let found = wanted
        .into_iter()
        .filter_map(|wanted| Some((text.find(wanted)?, wanted)));
    found.min_by_key(|(at, wanted)| (*at, std::cmp::Reverse(wanted.len())))
}

/// How many bytes at the end of `text` may be the beginning of `mark`.
pub fn begun(text: &str, mark: &str) -> usize {
    let lengths = mark.char_indices().map(|(at, _)| at);
    lengths
        .filter(|&length| text.ends_with(&mark[..length]))
        .max()
        .unwrap_or(0)
}
