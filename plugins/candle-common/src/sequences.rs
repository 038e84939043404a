//! Sequences in a KV pool, and how a batch extends them.

use std::sync::Arc;

use tenon_plugin_api::{Batch, Code, Error, Interrupt, KvLedger, Result, Span, SpanOut};

use crate::{
    compute::{Compute, Step},
    config::Config,
    decoder::{Buffers, Decoder, Ropes},
    kernels::attention::SpanView,
    kv::KvType,
};

pub struct Sequences<C: Compute> {
    decoder: Arc<Decoder<C>>,
    /// Longest that a sequence may become, in tokens.
    context_length: u32,
    ropes: Ropes,
    ledger: KvLedger,
    kv: C::Kv,
    buffers: Buffers<C>,
    admitted: Admitted,
}

/// The spans of a batch that can be computed, and their tokens.
#[derive(Default)]
struct Admitted {
    spans: Vec<Span>,
    /// `[tokens]`, like the next two.
    tokens: Vec<u32>,
    positions: Vec<u32>,
    cells: Vec<u32>,
    rows: Vec<u32>,
}

impl<C: Compute> Sequences<C> {
    /// `max_sequences` empty sequences, of up to `context_length` tokens each and `kv_tokens` together.
    ///
    /// # Errors
    /// `NO_MEMORY`.
    pub fn new(
        decoder: Arc<Decoder<C>>,
        max_sequences: u32,
        context_length: u32,
        kv_type: KvType,
        kv_tokens: u32,
    ) -> Result<Self> {
        let (compute, config) = (decoder.compute(), decoder.config());
        check_kv(config, kv_type, kv_tokens)?;
        Ok(Self {
            context_length,
            ropes: Ropes::new(config, context_length),
            ledger: KvLedger::new(max_sequences, kv_tokens),
            kv: compute.kv(config, kv_type, kv_tokens)?,
            buffers: Buffers::new(compute)?,
            admitted: Admitted::default(),
            decoder,
        })
    }

    /// Enters the spans of a batch that can be computed into the ledger. Sets the status of all spans.
    pub fn admit(&mut self, batch: &Batch<'_>, out: &mut [SpanOut]) {
        self.admitted.clear();
        for ((span, tokens), out) in batch.iter().zip(out) {
            *out = SpanOut {
                first_row: self.admitted.rows.len() as u32,
                status: self.admit_span(span, tokens),
                ..SpanOut::default()
            };
        }
    }

    /// Computes the admitted spans and stores their keys and values. Returns the vectors of the wanted rows; None if no row
    /// is wanted.
    ///
    /// # Errors
    /// As [`Decoder::forward`].
    pub fn compute(&mut self, interrupt: &Interrupt) -> Result<Option<&C::Rows>> {
        let admitted = &self.admitted;
        if admitted.spans.is_empty() {
            return Ok(None);
        }
        let mut first = 0;
        let spans = admitted.spans.iter().map(|span| {
            let len = span.len as usize;
            first += len;
            SpanView {
                first: first - len,
                len,
                cells: self.ledger.cells(span.seq),
            }
        });
        let step = Step {
            tokens: &admitted.tokens,
            positions: &admitted.positions,
            cells: &admitted.cells,
            rows: &admitted.rows,
        };
        let (kv, buffers) = (&mut self.kv, &mut self.buffers);
        self.decoder
            .forward(&step, spans, &self.ropes, kv, buffers, interrupt)
    }

    /// Removes the spans that were admitted last from the ledger.
    pub fn take_back(&mut self) {
        for span in &self.admitted.spans {
            self.ledger.truncate(span.seq, span.start);
        }
    }

    /// Which sequence holds which cells of the pool.
    pub fn ledger(&self) -> &KvLedger {
        &self.ledger
    }

    pub fn ledger_mut(&mut self) -> &mut KvLedger {
        &mut self.ledger
    }

    fn admit_span(&mut self, span: &Span, tokens: &[u32]) -> Code {
        let vocabulary = self.decoder.vocabulary() as u32;
        let valid = span.check(tokens, vocabulary, self.context_length);
        match valid.and_then(|()| self.ledger.append(span)) {
            Ok(()) => {
                let cells = &self.ledger.cells(span.seq)[span.start as usize..];
                self.admitted.push(span, tokens, cells);
                Code::OK
            }
            Err(code) => code,
        }
    }
}

/// # Errors
/// `NO_MEMORY` for a pool whose size overflows.
fn check_kv(config: &Config, kv_type: KvType, kv_tokens: u32) -> Result<()> {
    let token_bytes = config.kv_numbers_per_token() * kv_type.bytes();
    let bytes = token_bytes.checked_mul(kv_tokens.into());
    match bytes.is_some_and(|bytes| isize::try_from(bytes).is_ok()) {
        true => Ok(()),
        false => Err(Error::new(
            Code::NO_MEMORY,
            format!("no memory for {kv_tokens} tokens of {token_bytes} bytes"),
        )),
    }
}

impl Admitted {
    fn clear(&mut self) {
        self.spans.clear();
        self.tokens.clear();
        self.positions.clear();
        self.cells.clear();
        self.rows.clear();
    }

    fn push(&mut self, span: &Span, tokens: &[u32], cells: &[u32]) {
        self.spans.push(*span);
        self.tokens.extend_from_slice(tokens);
        self.positions.extend(span.start..span.start + span.len);
        self.cells.extend_from_slice(cells);
        let end = self.tokens.len() as u32;
        self.rows.extend(end - span.rows..end);
    }
}
