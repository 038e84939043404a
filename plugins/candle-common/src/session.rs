//! A session: sequences in one KV pool, and the logits of their tokens.

use std::sync::Arc;

use tenon_plugin_api::{
    Batch, Error, Interrupt, KvLedger, Result, Session, SessionArgs, SessionInfo, SpanOut,
    ThreadPlan,
};

use crate::{
    compute::Compute,
    decoder::Decoder,
    kv::KvType,
    matrix::Matrix,
    pool::{self, DEFAULT_POLL, Workers},
    sequences::Sequences,
};

pub struct DecoderSession<C: Compute> {
    decoder: Arc<Decoder<C>>,
    info: SessionInfo,
    sequences: Sequences<C>,
    /// Logits of the rows that the last forward was asked for.
    logits: Matrix,
    interrupt: Interrupt,
    threads: ThreadPlan,
    workers: Arc<Workers>,
}

impl<C: Compute> DecoderSession<C> {
    /// # Errors
    /// `INVALID` for sizes that cannot be granted.
    pub fn new(decoder: Arc<Decoder<C>>, kv_type: KvType, args: &SessionArgs) -> Result<Self> {
        let config = decoder.config();
        let mut info = SessionInfo::grant(args, config.context_length)?;
        if args.kv_tokens == 0 {
            let token_bytes = config.kv_numbers_per_token() * kv_type.bytes();
            info.kv_tokens = info.default_kv_tokens(token_bytes);
        }
        info.context_length = info.context_length.min(info.kv_tokens);
        let threads = match C::THREADS {
            true => pool::wanted(args.threads),
            false => 1,
        };
        Ok(Self {
            sequences: Sequences::new(
                Arc::clone(&decoder),
                info.max_sequences,
                info.context_length,
                kv_type,
                info.kv_tokens,
            )?,
            info,
            logits: Matrix::zeros(0, 1),
            interrupt: args.interrupt.clone(),
            threads: ThreadPlan {
                decode: threads,
                decode_poll: DEFAULT_POLL,
                prefill: threads,
                prefill_poll: DEFAULT_POLL,
                ..ThreadPlan::default()
            },
            workers: Arc::new(Workers::new(threads as usize - 1)),
            decoder,
        })
    }

    fn compute(&mut self) -> Result<()> {
        match self.sequences.compute(&self.interrupt)? {
            Some(vectors) => self.decoder.logits(vectors, &mut self.logits),
            None => Ok(()),
        }
    }

    /// Lets as many threads compute as the thread plan has for such a batch.
    fn set_workers(&self, batch: &Batch<'_>) {
        let plan = &self.threads;
        let (threads, poll) = match batch.spans().iter().all(|span| span.len == 1) {
            true => (plan.decode, plan.decode_poll),
            false => (plan.prefill, plan.prefill_poll),
        };
        self.workers.set(threads as usize - 1, poll);
    }
}

impl<C: Compute> Session for DecoderSession<C> {
    fn info(&self) -> SessionInfo {
        self.info
    }

    fn forward(&mut self, batch: &Batch<'_>, out: &mut [SpanOut]) -> Result<()> {
        self.logits.restart(1);
        self.info.check_batch(batch)?;
        self.sequences.admit(batch, out);
        self.set_workers(batch);
        let workers = Arc::clone(&self.workers);
        pool::install(&workers, || self.compute()).inspect_err(|_| self.sequences.take_back())
    }

    fn logits(&mut self, row: u32) -> Result<&[f32]> {
        let rows = self.logits.rows();
        match (row as usize) < rows {
            true => Ok(self.logits.row(row as usize)),
            false => Err(Error::no_row(row, rows)),
        }
    }

    fn ledger(&mut self) -> Option<&mut KvLedger> {
        Some(self.sequences.ledger_mut())
    }

    fn set_threads(&mut self, plan: ThreadPlan) -> Result<()> {
        plan.check()?;
        if !C::THREADS {
            return Err(Error::unsupported(
                "changing its threads: a device computes, not threads",
            ));
        }
        if self.decoder.uses_candles_threads() {
            return Err(Error::unsupported(
                "changing its threads: candle's own kernels compute some of its weights, with threads that stay as they are",
            ));
        }
        let workers = plan.decode.max(plan.prefill) as usize - 1;
        if workers > self.workers.count() {
            self.workers = Arc::new(Workers::new(workers));
        }
        self.threads = plan;
        Ok(())
    }
}
