//! What goes through the model in one step, and what comes out. These structs cross the library boundary as they are.

use abi_stable::{StableAbi, std_types::RSlice};

use crate::{Code, Error, Result, SessionArgs};

/// A ragged batch: spans of different lengths, one after the other, without padding. Borrowed from the host for the call.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Batch<'a> {
    tokens: RSlice<'a, u32>,
    spans: RSlice<'a, Span>,
    reserved: [u64; 4],
}

impl<'a> Batch<'a> {
    /// `tokens` holds the tokens of all `spans`, one span after the other.
    pub fn new(tokens: &'a [u32], spans: &'a [Span]) -> Self {
        Self {
            tokens: tokens.into(),
            spans: spans.into(),
            reserved: [0; 4],
        }
    }

    /// Tokens of all spans, flat: `[sum of span.len]`.
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
    /// Sequence id, below [`SessionInfo::max_sequences`].
    pub seq: u32,
    /// Position of the first token. Equals the sequence's stored length, else [`Code::BAD_POSITION`].
    pub position: u32,
    /// Number of tokens, at least 1.
    pub len: u32,
    /// How many **trailing** positions need logits: 1 for decoding and for the last chunk of a prompt, k + 1 with k draft
    /// tokens, 0 inside a prompt.
    pub rows: u32,
    /// No flag is defined yet: 0.
    pub flags: u32,
    /// Zero.
    pub reserved: [u64; 2],
}

impl Span {
    /// Checks what no ledger knows: that `tokens`, the span's own ones from [`Batch::iter`], are `len` and at least one, that
    /// all are below `vocab_size`, that there are no more `rows` than tokens, and that the sequence stays within
    /// `context_length` tokens. [`KvLedger::append`](crate::KvLedger::append) checks the rest.
    ///
    /// # Errors
    /// `INVALID`, which the span's [`SpanOut::status`] takes.
    pub fn check(
        &self,
        tokens: &[u32],
        vocab_size: u32,
        context_length: u32,
    ) -> std::result::Result<(), Code> {
        let whole = self.len > 0 && tokens.len() == self.len as usize && self.rows <= self.len;
        let known = tokens.iter().all(|&token| token < vocab_size);
        let end = u64::from(self.position) + u64::from(self.len);
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
    /// Number of the first of the span's `rows` rows of logits. Rows are numbered in batch order and live until the next
    /// `forward`.
    pub first_row: u32,
    /// Zero.
    pub reserved: [u64; 2],
}

/// What a session grants. The host stays within it. The sizes must not be 0; `max_rollback` and the flags may be.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SessionInfo {
    /// Number of sequences at once. Sequence ids are below it.
    pub max_sequences: u32,
    /// Size of the KV pool in tokens, shared by all sequences.
    pub kv_tokens: u32,
    /// Longest that a sequence may become, in tokens.
    pub context_length: u32,
    /// Most tokens in one batch.
    pub max_batch_tokens: u32,
    /// Most rows of logits that one batch may ask for.
    pub max_rows: u32,
    /// How many positions `truncate` can take back: 0 for none, `u32::MAX` for any number.
    pub max_rollback: u32,
    /// 1 if `fork` takes any length, 0 if only whole sequences can be forked.
    pub fork_any_len: u32,
    /// Number of cached but idle tokens that slow down the decoding of one sequence by a twentieth. 0: idle tokens cost
    /// nothing. The host keeps no more idle tokens than this, except those of the sequence that ended last.
    pub costly_idle_tokens: u32,
    /// Zero.
    pub reserved: [u64; 6],
}

impl SessionInfo {
    /// Grants what was asked, with sequences up to `context_length`, any rollback and forks of any length. A size that
    /// `args` leaves to the plugin allows every sequence its full length.
    ///
    /// # Errors
    /// `INVALID` if no sequence or no token in a batch is asked for.
    pub fn grant(args: &SessionArgs, context_length: u32) -> Result<Self> {
        if args.max_sequences == 0 || args.max_batch_tokens == 0 {
            return Err(Error::invalid(
                "a session needs at least one sequence and one token in a batch",
            ));
        }
        let or = |asked: u32, otherwise| if asked == 0 { otherwise } else { asked };
        let context_length = or(args.context_length, context_length).min(context_length);
        let full = args.max_sequences.saturating_mul(context_length);
        Ok(Self {
            max_sequences: args.max_sequences,
            kv_tokens: or(args.kv_tokens, full),
            context_length,
            max_batch_tokens: args.max_batch_tokens,
            max_rows: args.max_batch_tokens,
            max_rollback: u32::MAX,
            fork_any_len: 1,
            ..Self::default()
        })
    }

    /// Size of a KV pool whose size the host leaves to the plugin, in tokens of `token_bytes` bytes each: room for four
    /// sequences of full length, or for all if there are fewer. The pool has at most 2 GiB and 131,072 tokens.
    pub fn default_kv_tokens(&self, token_bytes: u64) -> u32 {
        let affordable = (DEFAULT_KV_BYTES / token_bytes.max(1)).min(DEFAULT_KV_TOKENS);
        let sequences = self.max_sequences.min(DEFAULT_FULL_SEQUENCES);
        let full = u64::from(self.context_length) * u64::from(sequences);
        full.min(affordable) as u32
    }

    /// Checks that a batch has at most `max_batch_tokens` tokens.
    ///
    /// # Errors
    /// `INVALID`, which [`Session::forward`](crate::Session::forward) returns.
    pub fn check_batch(&self, batch: &Batch<'_>) -> Result<()> {
        match batch.tokens().len() {
            tokens if tokens <= self.max_batch_tokens as usize => Ok(()),
            tokens => Err(Error::invalid(format!(
                "a batch of {tokens} tokens is larger than the {} of this session",
                self.max_batch_tokens
            ))),
        }
    }
}

/// Most bytes of a KV pool whose size the host leaves to the plugin.
const DEFAULT_KV_BYTES: u64 = 2 << 30;
/// Most tokens of such a pool.
const DEFAULT_KV_TOKENS: u64 = 131_072;
/// Number of sequences that have room for their full length in such a pool, unless the pool would be too large.
const DEFAULT_FULL_SEQUENCES: u32 = 4;

/// How full the KV pool is, in tokens. It is a hint: [`Code::NO_KV_SPACE`] has the last word.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvStats {
    /// Number of stored tokens. A shared token counts once.
    pub used_tokens: u32,
    /// Number of tokens that fit.
    pub total_tokens: u32,
    /// Zero.
    pub reserved: [u64; 2],
}

/// How many threads a session computes with, for [`Session::set_threads`](crate::Session::set_threads).
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
    pub reserved: [u64; 2],
}

impl ThreadPlan {
    /// Checks that the plan has threads.
    ///
    /// # Errors
    /// `INVALID`, which [`Session::set_threads`](crate::Session::set_threads) returns.
    pub fn check(&self) -> Result<()> {
        match self.decode == 0 || self.prefill == 0 {
            true => Err(Error::invalid(
                "a thread plan needs at least one thread of each kind",
            )),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_has_room_for_four_sequences_if_that_is_affordable() {
        let tokens = |max_sequences, context_length, token_bytes| {
            let info = SessionInfo {
                max_sequences,
                context_length,
                ..SessionInfo::default()
            };
            info.default_kv_tokens(token_bytes)
        };
        assert_eq!(tokens(8, 8192, 1 << 10), 4 * 8192);
        assert_eq!(tokens(2, 8192, 1 << 10), 2 * 8192);
        assert_eq!(tokens(8, 8192, 1 << 17), 1 << 14);
        assert_eq!(tokens(8, u32::MAX, 1 << 10), 131_072);
        assert_eq!(tokens(1, 100, 0), 100);
    }
}
