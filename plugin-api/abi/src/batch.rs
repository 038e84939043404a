//! What goes through the model in one step, and what comes out. These structs cross the library boundary as they are.

use abi_stable::{StableAbi, std_types::RSlice};

use crate::{Code, Hints, Reserved};

/// A ragged batch: spans of different lengths, one after the other, without padding. Borrowed from the host for the call.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Batch<'a> {
    pub(crate) tokens: RSlice<'a, u32>,
    pub(crate) spans: RSlice<'a, Span>,
    pub(crate) reserved: Reserved<4>,
    pub(crate) hints: Hints<2>,
}

impl<'a> Batch<'a> {
    /// `tokens` holds the tokens of all `spans`, one span after the other.
    pub fn new(tokens: &'a [u32], spans: &'a [Span]) -> Self {
        Self {
            tokens: tokens.into(),
            spans: spans.into(),
            reserved: Reserved::default(),
            hints: Hints::default(),
        }
    }

    /// Whether this version knows all that the batch and its spans ask for.
    pub fn is_understood(&self) -> bool {
        self.reserved.is_zero() && self.spans().iter().all(Span::is_understood)
    }

    /// Tokens of all spans, flat: `[sum of span.len]`. `u32::MAX` is no token: the number is kept for a later meaning.
    pub fn tokens(&self) -> &'a [u32] {
        self.tokens.as_slice()
    }

    /// The spans in batch order. A sequence has at most one.
    pub fn spans(&self) -> &'a [Span] {
        self.spans.as_slice()
    }

    /// Each span with its own tokens. A span that claims more tokens than there are gets the remaining ones.
    pub fn iter(&self) -> impl Iterator<Item = (&'a Span, &'a [u32])> + use<'a> {
        let mut rest = self.tokens();
        self.spans().iter().map(move |span| {
            let (own, after) = rest.split_at(rest.len().min(span.len as usize));
            rest = after;
            (span, own)
        })
    }
}

/// The tokens of one sequence in a batch.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Sequence id, below the number of sequences that the session grants.
    pub seq: u32,
    /// Where the span begins: the number of tokens that the sequence has stored, else [`Code::BAD_POSITION`]. It counts stored
    /// tokens. The positions that a model gives to tokens, for rotary embeddings and the like, may be others.
    pub start: u32,
    /// Number of tokens, at least 1.
    pub len: u32,
    /// How many **trailing** positions need logits: 1 for decoding and for the last chunk of a prompt, k + 1 with k draft
    /// tokens, 0 inside a prompt.
    pub rows: u32,
    /// Flags that must be understood. None is defined yet: 0.
    pub flags: u32,
    /// Zero.
    pub reserved: Reserved<2>,
    /// Zero.
    pub hints: Hints<1>,
}

impl Span {
    /// Whether this version knows all that the span asks for.
    pub fn is_understood(&self) -> bool {
        self.flags == 0 && self.reserved.is_zero()
    }

    /// Checks what no ledger knows: that `tokens`, the span's own ones from [`Batch::iter`], are `len` and at least one, that
    /// all are below `vocab_size`, that there are no more `rows` than tokens, and that the sequence stays within
    /// `context_length` tokens.
    ///
    /// # Errors
    /// `INVALID`, which the span's [`SpanOut::status`] takes.
    pub fn check(&self, tokens: &[u32], vocab_size: u32, context_length: u32) -> Result<(), Code> {
        let whole = self.len > 0 && tokens.len() == self.len as usize && self.rows <= self.len;
        let known = tokens.iter().all(|&token| token < vocab_size);
        let end = u64::from(self.start) + u64::from(self.len);
        match whole && known && end <= u64::from(context_length) {
            true => Ok(()),
            false => Err(Code::INVALID),
        }
    }
}

/// The outcome of a span.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanOut {
    /// [`Code::OK`], or why this span was not computed. An error of one span does not affect the others. A span commits
    /// wholly or not at all: after an error the sequence has its old length, unless the code is [`Code::SEQUENCE_LOST`].
    pub status: Code,
    /// Number of the first of the span's `rows` rows of logits. Rows are numbered in batch order without gaps, and only spans
    /// with the status `OK` have rows: the host refuses other numbers. Rows live until the next `forward`.
    pub first_row: u32,
    /// Zero.
    pub reserved: Reserved<2>,
    /// Zero.
    pub hints: Hints<1>,
}

impl SpanOut {
    /// Whether this version knows all that the outcome says.
    pub fn is_understood(&self) -> bool {
        self.reserved.is_zero()
    }
}

/// How full the KV pool is, in tokens. It is a hint: [`Code::NO_KV_SPACE`] has the last word.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvStats {
    /// Number of stored tokens. A shared token counts once.
    pub used_tokens: u32,
    /// Number of tokens that fit.
    pub total_tokens: u32,
    /// Zero.
    pub hints: Hints<2>,
}

/// How many threads a session computes with.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadPlan {
    /// Threads for batches with one token per sequence, at least 1.
    pub decode: u32,
    /// Threads for larger batches, at least 1.
    pub prefill: u32,
    /// How idle threads wait during decode: from 0 = sleep to 100 = spin.
    pub decode_poll: u32,
    /// The same during larger batches.
    pub prefill_poll: u32,
    /// Zero.
    pub reserved: Reserved<2>,
    /// Zero.
    pub hints: Hints<2>,
}

impl ThreadPlan {
    /// Whether this version knows all that the plan asks for.
    pub fn is_understood(&self) -> bool {
        self.reserved.is_zero()
    }

    /// Checks that the plan has threads of each kind.
    ///
    /// # Errors
    /// `INVALID`.
    pub fn check(&self) -> Result<(), Code> {
        match self.decode == 0 || self.prefill == 0 {
            true => Err(Code::INVALID),
            false => Ok(()),
        }
    }
}
