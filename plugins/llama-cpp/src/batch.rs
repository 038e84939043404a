//! The arrays of a `llama_batch`. They are kept from batch to batch.

use llama_cpp_sys_2::llama_batch;
use tenon_plugin_api::Span;

pub struct BatchArrays {
    /// One entry for each token: `[tokens]`, with room for the largest batch.
    tokens: Vec<i32>,
    positions: Vec<i32>,
    /// Each points into `ids`.
    sequences: Vec<*mut i32>,
    wants_logits: Vec<i8>,
    /// Number of sequences of each token, which is always 1: `[max_tokens]`.
    sequence_counts: Vec<i32>,
    /// `ids[seq] == seq`, which `sequences` points at.
    ids: Vec<i32>,
    /// For each row of logits, the place of its token in the batch.
    rows: Vec<i32>,
}

impl BatchArrays {
    pub fn new(max_sequences: u32, max_tokens: u32) -> Self {
        let room = max_tokens as usize;
        Self {
            tokens: Vec::with_capacity(room),
            positions: Vec::with_capacity(room),
            sequences: Vec::with_capacity(room),
            wants_logits: Vec::with_capacity(room),
            sequence_counts: vec![1; room],
            ids: (0..max_sequences as i32).collect(),
            rows: Vec::with_capacity(room),
        }
    }

    pub fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.sequences.clear();
        self.wants_logits.clear();
        self.rows.clear();
    }

    /// Appends a span of an existing sequence.
    pub fn push(&mut self, span: &Span, tokens: &[u32]) {
        let first_row = tokens.len() - span.rows as usize;
        let id = &raw mut self.ids[span.seq as usize];
        for (at, &token) in tokens.iter().enumerate() {
            if at >= first_row {
                self.rows.push(self.tokens.len() as i32);
            }
            self.tokens.push(token as i32);
            self.positions.push((span.start as usize + at) as i32);
            self.sequences.push(id);
            self.wants_logits.push((at >= first_row).into());
        }
    }

    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The number of rows of logits that the batch asks for.
    pub fn row_count(&self) -> u32 {
        self.rows.len() as u32
    }

    /// The place of a row's token in the batch.
    pub fn row(&self, row: u32) -> Option<i32> {
        self.rows.get(row as usize).copied()
    }

    /// The batch in llama.cpp's form, valid until the next change.
    pub fn as_llama(&mut self) -> llama_batch {
        llama_batch {
            n_tokens: self.tokens.len() as i32,
            token: self.tokens.as_mut_ptr(),
            embd: std::ptr::null_mut(),
            pos: self.positions.as_mut_ptr(),
            n_seq_id: self.sequence_counts.as_mut_ptr(),
            seq_id: self.sequences.as_mut_ptr(),
            logits: self.wants_logits.as_mut_ptr(),
        }
    }
}
