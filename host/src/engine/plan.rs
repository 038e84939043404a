//! The batch of one step while it is put together.

use tenon_plugin_api::{SessionInfo, Span};

use super::Sequence;

/// The spans of one step. The buffers are reused for every step.
pub struct Plan {
    /// Tokens of all spans, flat.
    pub tokens: Vec<u32>,
    pub spans: Vec<Span>,
    max_batch_tokens: u32,
    max_rows: u32,
    /// Tokens that may still be added.
    free_tokens: u32,
    /// Rows of logits that may still be requested.
    free_rows: u32,
}

impl Plan {
    pub fn new(granted: &SessionInfo) -> Self {
        Self {
            tokens: Vec::with_capacity(granted.max_batch_tokens as usize),
            spans: Vec::with_capacity(granted.max_sequences as usize),
            max_batch_tokens: granted.max_batch_tokens,
            max_rows: granted.max_rows,
            free_tokens: granted.max_batch_tokens,
            free_rows: granted.max_rows,
        }
    }

    pub fn clear(&mut self) {
        self.tokens.clear();
        self.spans.clear();
        self.free_tokens = self.max_batch_tokens;
        self.free_rows = self.max_rows;
    }

    /// Tokens in the plan.
    pub fn len(&self) -> u32 {
        self.tokens.len() as u32
    }

    /// Tokens that may still be added.
    pub fn room(&self) -> u32 {
        self.free_tokens
    }

    /// Rows of logits that may still be requested.
    pub fn rows(&self) -> u32 {
        self.free_rows
    }

    /// Limits the room to `tokens` more tokens.
    pub fn limit(&mut self, tokens: u32) {
        self.free_tokens = self.free_tokens.min(tokens);
    }

    /// Adds up to `most` pending tokens of a sequence, as many as fit. If these are all of them, its draft follows.
    pub fn add(&mut self, sequence: &Sequence, most: u32) {
        let len = sequence.ready().min(most).min(self.free_tokens);
        // As long as rows are needed, each token fewer needs one row fewer.
        let free_rows = self.free_rows.min(sequence.reader.room());
        let len = len - sequence.rows(len).saturating_sub(free_rows);
        if len == 0 {
            return;
        }
        let whole = len == sequence.pending();
        let draft = if whole { sequence.draft() } else { &[] };
        let span = Span {
            seq: sequence.kv.seq,
            start: sequence.kv.computed,
            len: len + draft.len() as u32,
            rows: sequence.rows(len) + draft.len() as u32,
            ..Span::default()
        };
        let from = sequence.kv.computed as usize;
        self.tokens
            .extend_from_slice(&sequence.tokens[from..from + len as usize]);
        self.tokens.extend_from_slice(draft);
        self.free_tokens -= span.len;
        self.free_rows -= span.rows;
        self.spans.push(span);
    }
}
