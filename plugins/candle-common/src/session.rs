//! A session: one KV pool for many sequences, and the book of it.

use std::sync::Arc;

use tenon_plugin_api::{
    Batch, Code, Error, Interrupt, KvLedger, Result, Session, SessionArgs, SessionInfo, Span,
    SpanOut, ThreadPlan,
};

use crate::{
    decoder::{Buffers, Decoder, Ropes, Step},
    kernels::attention::{self, SpanView},
    kv::{Element, KvPool},
    matrix::Matrix,
    pool,
};

/// Most memory for a KV pool whose size nobody chose.
const DEFAULT_KV_BYTES: u64 = 2 << 30;
/// Most tokens in a KV pool whose size nobody chose.
const DEFAULT_KV_TOKENS: u64 = 131_072;

pub struct DecoderSession<E> {
    decoder: Arc<Decoder>,
    info: SessionInfo,
    ropes: Ropes,
    ledger: KvLedger,
    kv: KvPool<E>,
    buffers: Buffers,
    admitted: Admitted,
    /// Of the last forward; none if no row was wanted.
    logits: Option<Matrix>,
    interrupt: Interrupt,
}

/// The spans of a batch that can be computed, and their tokens.
#[derive(Default)]
struct Admitted {
    spans: Vec<Span>,
    /// `[tokens]`, as the next two.
    tokens: Vec<u32>,
    positions: Vec<u32>,
    cells: Vec<u32>,
    rows: Vec<u32>,
}

impl<E: Element> DecoderSession<E> {
    /// # Errors
    /// `INVALID` for sizes that cannot be granted.
    pub fn new(decoder: Arc<Decoder>, args: &SessionArgs) -> Result<Self> {
        if args.max_sequences == 0 || args.max_batch_tokens == 0 {
            return Err(Error::invalid(
                "a session needs at least one sequence and one token in a batch",
            ));
        }
        let config = decoder.config();
        let mut info = SessionInfo::grant(args, config.context_length);
        if args.kv_tokens == 0 {
            let token_bytes = config.kv_numbers_per_token() * size_of::<E>() as u64;
            info.kv_tokens = default_kv_tokens(&info, token_bytes);
        }
        info.context_length = info.context_length.min(info.kv_tokens);
        Ok(Self {
            info,
            ropes: Ropes::new(config, info.context_length),
            ledger: KvLedger::new(info.max_sequences, info.kv_tokens),
            kv: KvPool::new(config, info.kv_tokens),
            buffers: Buffers::default(),
            admitted: Admitted::default(),
            logits: None,
            interrupt: args.interrupt.clone(),
            decoder,
        })
    }

    /// Takes a span into the batch and the book, if it can be computed.
    fn admit(&mut self, span: &Span, tokens: &[u32]) -> Code {
        let whole = span.len > 0 && tokens.len() == span.len as usize && span.rows <= span.len;
        let vocabulary = self.decoder.vocabulary();
        let known = tokens.iter().all(|&token| (token as usize) < vocabulary);
        let end = u64::from(span.position) + u64::from(span.len);
        if !whole || !known || end > u64::from(self.info.context_length) {
            return Code::INVALID;
        }
        match self.ledger.append(span) {
            Ok(()) => {
                let cells = &self.ledger.cells(span.seq)[span.position as usize..];
                self.admitted.push(span, tokens, cells);
                Code::OK
            }
            Err(code) => code,
        }
    }

    fn compute(&mut self) -> Result<()> {
        let admitted = &self.admitted;
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
            tiles: &attention::tiles(spans),
            rows: &admitted.rows,
        };
        let (kv, buffers) = (&mut self.kv, &mut self.buffers);
        self.logits = self
            .decoder
            .forward(&step, &self.ropes, kv, buffers, &self.interrupt)?;
        Ok(())
    }
}

impl<E: Element> Session for DecoderSession<E> {
    fn info(&self) -> SessionInfo {
        self.info
    }

    fn forward(&mut self, batch: &Batch<'_>, out: &mut [SpanOut]) -> Result<()> {
        self.logits = None;
        self.admitted.clear();
        if batch.tokens().len() > self.info.max_batch_tokens as usize {
            return Err(Error::invalid(format!(
                "a batch of {} tokens is larger than the {} of this session",
                batch.tokens().len(),
                self.info.max_batch_tokens
            )));
        }
        for ((span, tokens), out) in batch.iter().zip(out.iter_mut()) {
            *out = SpanOut {
                first_row: self.admitted.rows.len() as u32,
                status: self.admit(span, tokens),
                ..SpanOut::default()
            };
        }
        if self.admitted.spans.is_empty() {
            return Ok(());
        }
        self.compute().inspect_err(|_| {
            for span in &self.admitted.spans {
                self.ledger.truncate(span.seq, span.position);
            }
        })
    }

    fn logits(&mut self, row: u32) -> Result<&[f32]> {
        let logits = self.logits.as_ref();
        let found = logits.filter(|logits| (row as usize) < logits.rows());
        found.map(|logits| logits.row(row as usize)).ok_or_else(|| {
            Error::invalid(format!(
                "the last batch has {} rows of logits, and none with number {row}",
                self.logits.as_ref().map_or(0, Matrix::rows)
            ))
        })
    }

    fn ledger(&mut self) -> Option<&mut KvLedger> {
        Some(&mut self.ledger)
    }

    fn set_threads(&mut self, plan: ThreadPlan) -> Result<()> {
        let fixed = pool::threads();
        match plan.decode == fixed && plan.prefill == fixed {
            true => Ok(()),
            false => Err(Error::unsupported(&format!(
                "changing its threads: candle has one pool, of {fixed}, for all models of a plugin"
            ))),
        }
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
        self.positions
            .extend(span.position..span.position + span.len);
        self.cells.extend_from_slice(cells);
        let end = self.tokens.len() as u32;
        self.rows.extend(end - span.rows..end);
    }
}

/// Room for four sequences of full length, if that is a reasonable amount of memory.
fn default_kv_tokens(info: &SessionInfo, token_bytes: u64) -> u32 {
    let affordable = (DEFAULT_KV_BYTES / token_bytes.max(1)).min(DEFAULT_KV_TOKENS);
    let full = u64::from(info.context_length) * u64::from(info.max_sequences.min(4));
    full.min(affordable) as u32
}
