//! A session: one KV pool of llama.cpp for many sequences, and its ledger.

use std::sync::Arc;

use llama_cpp_sys_2::llama_max_parallel_sequences;
use tenon_plugin_api::{
    Batch, Code, Error, KvLedger, KvStats, Result, Session, SessionArgs, SessionInfo, Span,
    SpanOut, ThreadPlan,
};

use crate::{
    batch::BatchArrays,
    context::Context,
    options::Options,
    threads::{DEFAULT_POLL, Phase, Threads},
    weights::Weights,
};

pub struct LlamaSession {
    /// Dropped before the threads, which must outlive it.
    context: Context,
    threads: Threads,
    info: SessionInfo,
    logits_width: u32,
    /// Says which spans fit before a batch is computed. llama.cpp itself can only refuse whole batches.
    ledger: KvLedger,
    batch: BatchArrays,
}

impl LlamaSession {
    pub fn new(
        weights: Arc<Weights>,
        args: &SessionArgs,
        options: &Options,
        threads: u32,
    ) -> Result<Self> {
        let recurrent = weights.is_recurrent();
        let logits_width = weights.vocab_size();
        let costly_idle_tokens = weights.costly_idle_tokens();
        let mut info = SessionInfo::grant(args, weights.0.n_ctx_train())?;
        // SAFETY: it returns a constant.
        let most = unsafe { llama_max_parallel_sequences() };
        info.max_sequences = info.max_sequences.min(most as u32);
        if args.kv_tokens == 0 {
            let token_bytes = options.kv_type.bytes(weights.kv_numbers_per_token());
            info.kv_tokens = info.default_kv_tokens(token_bytes);
        }
        let wanted = SessionArgs {
            max_sequences: info.max_sequences,
            kv_tokens: info.kv_tokens,
            context_length: info.context_length,
            ..args.clone()
        };
        let context = Context::new(weights, &wanted, options)?;
        info.kv_tokens = context.kv_tokens();
        info.context_length = info.context_length.min(info.kv_tokens);
        info.max_batch_tokens = context.max_batch_tokens();
        info.max_rows = info.max_batch_tokens;
        info.costly_idle_tokens = costly_idle_tokens;
        if recurrent {
            // llama.cpp can keep the states of the last tokens, but only for some architectures, and marks that as experimental.
            info.max_rollback = 0;
            info.fork_any_len = false;
        }
        Ok(Self {
            context,
            threads: Threads::new(threads, DEFAULT_POLL)?,
            info,
            logits_width,
            ledger: KvLedger::new(info.max_sequences, info.kv_tokens),
            batch: BatchArrays::new(info.max_sequences, info.max_batch_tokens),
        })
    }

    /// Adds a span to the batch and the ledger, if it can be computed.
    fn admit(&mut self, span: &Span, tokens: &[u32]) -> Code {
        let valid = span.check(tokens, self.logits_width, self.info.context_length);
        match valid.and_then(|()| self.ledger.append(span)) {
            Ok(()) => {
                self.batch.push(span, tokens);
                Code::OK
            }
            Err(code) => code,
        }
    }

    fn compute(&mut self, batch: &Batch<'_>) -> Result<()> {
        let decoding = batch.spans().iter().all(|span| span.len == 1);
        let phase = match decoding {
            true => Phase::Decode,
            false => Phase::Prefill,
        };
        self.threads.attach(&mut self.context, phase);
        // SAFETY: the arrays are the batch's own, and the ledger knows its sequences.
        unsafe { self.context.decode(&self.batch.as_llama()) }?;
        self.threads.settle();
        Ok(())
    }

    /// Rolls every span of a failed batch back to its old length.
    fn roll_back(&mut self, batch: &Batch<'_>, out: &mut [SpanOut], error: Error) -> Result<()> {
        self.batch.clear();
        let mut lost = false;
        let computed = batch
            .spans()
            .iter()
            .zip(out)
            .filter(|(_, out)| out.status == Code::OK);
        for (span, out) in computed {
            self.ledger.truncate(span.seq, span.start);
            out.status = error.code;
            if !self.context.remove(span.seq, span.start) {
                out.status = Code::SEQUENCE_LOST;
                lost = true;
            }
        }
        // The call fails as a whole only if nothing was changed.
        if lost { Ok(()) } else { Err(error) }
    }
}

impl Session for LlamaSession {
    fn info(&self) -> SessionInfo {
        self.info
    }

    fn forward(&mut self, batch: &Batch<'_>, out: &mut [SpanOut]) -> Result<()> {
        self.batch.clear();
        self.info.check_batch(batch)?;
        for ((span, tokens), out) in batch.iter().zip(out.iter_mut()) {
            *out = SpanOut {
                first_row: self.batch.row_count(),
                status: self.admit(span, tokens),
                ..SpanOut::default()
            };
        }
        if self.batch.is_empty() {
            return Ok(());
        }
        self.compute(batch)
            .or_else(|error| self.roll_back(batch, out, error))
    }

    fn logits(&mut self, row: u32) -> Result<&[f32]> {
        let Some(token) = self.batch.row(row) else {
            return Err(Error::no_row(row, self.batch.row_count() as usize));
        };
        let missing = || Error::new(Code::INTERNAL, "llama.cpp lost a row of logits");
        self.context
            .logits(token, self.logits_width as usize)
            .ok_or_else(missing)
    }

    fn fork(&mut self, src: u32, dst: u32, len: u32) -> Result<()> {
        if !self.info.fork_any_len && len != self.ledger.len(src) {
            return Err(Error::unsupported(
                "forking a part of a sequence of this model",
            ));
        }
        self.ledger.fork(src, dst, len)?;
        if len > 0 {
            self.context.share(src, dst, len);
        }
        Ok(())
    }

    fn truncate(&mut self, seq: u32, len: u32) -> Result<()> {
        if len >= self.ledger.len(seq) {
            return Ok(());
        }
        if !self.context.remove(seq, len) {
            return Err(Error::unsupported("rolling back sequences of this model"));
        }
        self.ledger.truncate(seq, len);
        Ok(())
    }

    fn free(&mut self, seq: u32) {
        if seq < self.info.max_sequences {
            self.context.remove(seq, 0);
            self.ledger.free(seq);
        }
    }

    fn kv_stats(&mut self) -> KvStats {
        self.ledger.stats()
    }

    fn set_threads(&mut self, plan: ThreadPlan) -> Result<()> {
        plan.check()?;
        self.threads.change(plan)
    }
}
