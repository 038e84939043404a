//! One KV pool, and the sequences in it.

use std::sync::Arc;

use tenon_plugin_api::{
    Batch, Error, Interrupt, KvLedger, Result, Session, SessionArgs, SessionInfo, Span, SpanOut,
};

use crate::model::{CONTEXT_LENGTH, LOGITS_WIDTH, VOCAB_SIZE, Weights};

pub struct ImitatorSession {
    weights: Arc<Weights>,
    info: SessionInfo,
    /// Which sequence has which cells of the pool.
    ledger: KvLedger,
    /// What a cell stores, here its token: `[kv_tokens]`.
    kv: Vec<u32>,
    /// Rows of the last forward: `[rows, LOGITS_WIDTH]`.
    logits: Vec<f32>,
    /// Scratch: the last tokens of one sequence.
    past: Vec<u32>,
    interrupt: Interrupt,
}

impl ImitatorSession {
    pub fn new(weights: Arc<Weights>, args: &SessionArgs) -> Result<Self> {
        let info = SessionInfo::grant(args, CONTEXT_LENGTH)?;
        Ok(Self {
            weights,
            info,
            ledger: KvLedger::new(info.max_sequences, info.kv_tokens),
            kv: vec![0; info.kv_tokens as usize],
            logits: Vec::new(),
            past: Vec::new(),
            interrupt: args.interrupt.clone(),
        })
    }

    /// Stores the tokens of a span, and computes a row for each of its trailing positions that wants one.
    fn compute(&mut self, span: &Span, tokens: &[u32]) {
        let cells = self.ledger.cells(span.seq);
        for (&cell, &token) in cells[span.start as usize..].iter().zip(tokens) {
            self.kv[cell as usize] = token;
        }
        for later in (0..span.rows as usize).rev() {
            let cells = &cells[..cells.len() - later];
            let last = &cells[cells.len().saturating_sub(self.weights.order())..];
            self.past.clear();
            self.past
                .extend(last.iter().map(|&cell| self.kv[cell as usize]));
            self.weights.predict(&self.past, &mut self.logits);
        }
    }
}

impl Session for ImitatorSession {
    fn info(&self) -> SessionInfo {
        self.info
    }

    /// A real model computes all spans together here. It looks at `interrupt` from layer to layer: an interrupted forward has
    /// stored nothing.
    fn forward(&mut self, batch: &Batch<'_>, out: &mut [SpanOut]) -> Result<()> {
        self.logits.clear();
        self.interrupt.check()?;
        self.info.check_batch(batch)?;
        for ((span, tokens), out) in batch.iter().zip(out) {
            out.first_row = (self.logits.len() / LOGITS_WIDTH) as u32;
            let valid = span.check(tokens, VOCAB_SIZE, self.info.context_length);
            match valid.and_then(|()| self.ledger.append(span)) {
                Ok(()) => self.compute(span, tokens),
                Err(code) => out.status = code,
            }
        }
        Ok(())
    }

    fn logits(&mut self, row: u32) -> Result<&[f32]> {
        let rows = self.logits.chunks_exact(LOGITS_WIDTH);
        let found = rows.clone().nth(row as usize);
        found.ok_or_else(|| Error::no_row(row, rows.len()))
    }

    fn ledger(&mut self) -> Option<&mut KvLedger> {
        Some(&mut self.ledger)
    }
}
