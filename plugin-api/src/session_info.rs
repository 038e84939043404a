//! What a session grants.

use crate::{Batch, Error, Result, SessionArgs, UNLIMITED};

/// What a session grants. The host stays within it. The sizes must not be 0; `max_rollback` and the flags may be. A session to
/// which a size makes no difference grants [`UNLIMITED`]: the host then chooses a size itself.
///
/// [`grant`](Self::grant) makes one. Its fields can be changed afterwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
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
    /// How many positions `truncate` can take back, counted from the end that a sequence's last `forward` left: 0 for none,
    /// [`UNLIMITED`] for any number. Positions that a fork began with need not be among them. The host drafts no more tokens
    /// than this.
    pub max_rollback: u32,
    /// Whether `fork` takes any length. False: only whole sequences can be forked, as those of recurrent models. The host then
    /// forks a sequence where its prefill has reached a beginning that later prompts may share: a checkpoint.
    pub fork_any_len: bool,
    /// Number of cached but idle tokens that slow down the decoding of one sequence by a twentieth. 0: idle tokens cost
    /// nothing. The host keeps no more idle tokens than this, except those of the sequence that ended last.
    pub costly_idle_tokens: u32,
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
            max_rollback: UNLIMITED,
            fork_any_len: true,
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
