//! The serialized form of a [`Vocabulary`]: a few columns, because a hundred thousand small records would be slow.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{TokenKind, Vocabulary};

/// The tokens in the order of their ids.
#[derive(Serialize, Deserialize)]
struct Columns<'a> {
    /// The bytes of all tokens, one token after the other.
    #[serde(borrow, with = "serde_bytes")]
    bytes: Cow<'a, [u8]>,
    /// The number of bytes of each token.
    lengths: Vec<u32>,
    /// The kind of each token.
    #[serde(borrow, with = "serde_bytes")]
    kinds: Cow<'a, [u8]>,
}

impl Serialize for Vocabulary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ranges = self.offsets.iter().zip(self.offsets.iter().skip(1));
        let columns = Columns {
            bytes: Cow::Borrowed(&self.bytes),
            lengths: ranges.map(|(from, to)| to - from).collect(),
            kinds: self.kinds.iter().map(|kind| kind.0).collect(),
        };
        columns.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let columns = Columns::deserialize(deserializer)?;
        let ends = columns.lengths.iter().scan(0_u32, |end, length| {
            *end = end.saturating_add(*length);
            Some(*end)
        });
        let offsets = std::iter::once(0).chain(ends).collect();
        let kinds = columns.kinds.iter().map(|&kind| TokenKind(kind)).collect();
        Self::from_parts(columns.bytes.into_owned(), offsets, kinds).map_err(de::Error::custom)
    }
}
