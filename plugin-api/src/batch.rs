//! What goes through the model in one step, and what comes out. These structs are the ones that cross.

use abi_stable::{StableAbi, std_types::RSlice};

use crate::{Code, SessionArgs};

/// Stands in [`Batch::tokens`] for "the token last sampled for this sequence, still on the device"; only for models with
/// [`Capabilities::DEVICE_TOKENS`](crate::Capabilities::DEVICE_TOKENS).
pub const DEVICE_TOKEN: u32 = u32::MAX;

/// A ragged batch: spans of different lengths, flat, with no padding. Borrowed from the host for the call.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Batch<'a> {
    tokens: RSlice<'a, u32>,
    spans: RSlice<'a, Span>,
    reserved: [u64; 4],
}

impl<'a> Batch<'a> {
    /// `tokens` are those of all `spans`, one span after the other.
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

    /// Each span with its own tokens. A span that claims more tokens than there are gets what is there.
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
    /// None defined yet: 0.
    pub flags: u32,
    /// Zero.
    pub reserved: [u64; 2],
}

/// What became of a span.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanOut {
    /// [`Code::OK`], or why this span was not computed. The others are not affected. A span commits wholly or not at all:
    /// after an error the sequence has its old length, unless the code is [`Code::SEQUENCE_LOST`].
    pub status: Code,
    /// First of the span's `rows` rows of logits. Rows are numbered in batch order and live until the next `forward`.
    pub first_row: u32,
    /// Zero.
    pub reserved: [u64; 2],
}

/// What a session grants. The host stays within it. `max_rollback` and the flags may be 0, the sizes may not.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionInfo {
    /// Sequences at once; ids are below it.
    pub max_sequences: u32,
    /// Size of the KV pool in tokens, shared by all sequences.
    pub kv_tokens: u32,
    /// Longest a sequence may become, in tokens.
    pub context_length: u32,
    /// Most tokens in one batch.
    pub max_batch_tokens: u32,
    /// Most rows of logits that one batch may ask for.
    pub max_rows: u32,
    /// How many positions `truncate` can take back: 0 for none, `u32::MAX` for any number.
    pub max_rollback: u32,
    /// 1 if `fork` takes any length, 0 if only whole sequences can be forked.
    pub fork_any_len: u32,
    /// Cached but idle tokens that slow the decoding of one sequence down by a twentieth; 0 if idle tokens cost nothing. The
    /// host keeps no more of them, except those of the sequence that ended last.
    pub costly_idle_tokens: u32,
    /// Zero.
    pub reserved: [u64; 6],
}

impl SessionInfo {
    /// Grants what was asked, with sequences up to `context_length`, any rollback and forks of any length. What was left to
    /// the plugin becomes: full length for every sequence.
    pub fn grant(args: &SessionArgs, context_length: u32) -> Self {
        let or = |asked: u32, otherwise| if asked == 0 { otherwise } else { asked };
        let context_length = or(args.context_length, context_length).min(context_length);
        let full = args.max_sequences.saturating_mul(context_length);
        Self {
            max_sequences: args.max_sequences,
            kv_tokens: or(args.kv_tokens, full),
            context_length,
            max_batch_tokens: args.max_batch_tokens,
            max_rows: args.max_batch_tokens,
            max_rollback: u32::MAX,
            fork_any_len: 1,
            ..Self::default()
        }
    }
}

/// How full the KV pool is, in tokens. A hint: [`Code::NO_KV_SPACE`] is the authority.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvStats {
    /// Tokens that are stored. Shared ones count once.
    pub used_tokens: u32,
    /// Tokens that fit.
    pub total_tokens: u32,
    /// Zero.
    pub reserved: [u64; 2],
}

/// With how many threads a session computes, for [`Session::set_threads`](crate::Session::set_threads).
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadPlan {
    /// Threads for batches with one token per sequence, at least 1.
    pub decode: u32,
    /// Threads for larger batches, at least 1.
    pub prefill: u32,
    /// How busily idle threads wait while decoding: 0 = sleep, 100 = spin.
    pub decode_poll: u32,
    /// The same for larger batches.
    pub prefill_poll: u32,
    /// Zero.
    pub reserved: [u64; 2],
}
