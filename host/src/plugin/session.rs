//! A session, wrapped as ordinary Rust. Calls that are made for every token do not allocate. Their results are checked.

use std::ops::Range;

use tenon_plugin_api::{
    Batch, Code, KvStats, ModelInfo, Result, SampleRequest, Sampled, SessionInfo, SpanOut,
    ThreadPlan, TokenLogprob, abi::SessionBox,
};

use super::fault::{newer_plugin, plugin_fault};
use crate::config::{MAX_BATCH_TOKENS, MAX_KV_TOKENS, MAX_SEQUENCES};

/// One KV pool with many sequences. It stays on the thread that made it.
pub struct Session {
    object: SessionBox,
    info: SessionInfo,
    vocab_size: u32,
    /// Scratch: the buffers of a call of `sample`.
    lent: Vec<Range<*const TokenLogprob>>,
}

impl Session {
    pub(super) fn new(object: SessionBox, model: &ModelInfo) -> Result<Self> {
        let granted = object.info();
        if !granted.is_understood() {
            return Err(newer_plugin("granted a session"));
        }
        let info = bounded(granted.into());
        check_info(&info)?;
        Ok(Self {
            object,
            info,
            vocab_size: model.vocab_size,
            lent: Vec::new(),
        })
    }

    /// The granted limits, reduced to what the host uses. No size in them is 0.
    pub fn info(&self) -> &SessionInfo {
        &self.info
    }

    /// Puts a ragged batch through the model. `out` is as long as `batch.spans()`. After an error nothing was computed; an
    /// error of one span is in that span's status. Rows of the last forward become invalid.
    pub fn forward(&mut self, batch: &Batch<'_>, out: &mut [SpanOut]) -> Result<()> {
        out.fill(SpanOut::default());
        self.object
            .forward(*batch, (&mut *out).into())
            .into_result()?;
        check_spans(batch, out);
        Ok(())
    }

    /// Picks one token for each request. `out` is as long as `requests`. An error of one request is in its status. Each answer
    /// has written to its own buffer. After an error the spans of the last `forward` are still stored, unless they are lost.
    pub fn sample(
        &mut self,
        requests: &[SampleRequest<'_>],
        out: &mut [Sampled<'_>],
    ) -> Result<()> {
        self.lent.clear();
        self.lent.extend(out.iter().map(Sampled::buffer));
        let result = self.object.sample(requests.into(), (&mut *out).into());
        result.into_result()?;
        if !out
            .iter()
            .map(Sampled::buffer)
            .eq(self.lent.iter().cloned())
        {
            return Err(plugin_fault("exchanged the answers to two requests"));
        }
        check_answers(out, self.vocab_size);
        Ok(())
    }

    /// Copies a row of logits of the last forward; `out` is `[logits_width]`.
    pub fn read_logits(&mut self, row: u32, out: &mut [f32]) -> Result<()> {
        Ok(self.object.read_logits(row, out.into()).into_result()?)
    }

    /// Shares the first `len` positions of `src` with the empty sequence `dst`.
    pub fn fork(&mut self, src: u32, dst: u32, len: u32) -> Result<()> {
        Ok(self.object.fork(src, dst, len).into_result()?)
    }

    /// Drops the positions of `seq` from `len` on.
    pub fn truncate(&mut self, seq: u32, len: u32) -> Result<()> {
        Ok(self.object.truncate(seq, len).into_result()?)
    }

    /// Drops a sequence.
    pub fn free(&mut self, seq: u32) {
        self.object.free(seq);
    }

    /// How full the pool is, according to the plugin. Only a hint.
    pub fn kv_stats(&mut self) -> KvStats {
        self.object.kv_stats()
    }

    /// Sets how many threads compute. Call it between forwards.
    pub fn set_threads(&mut self, plan: ThreadPlan) -> Result<()> {
        Ok(self.object.set_threads(plan).into_result()?)
    }
}

/// Limits what was granted: the host keeps a ledger of every token and sequence, and a plugin may grant any number.
fn bounded(granted: SessionInfo) -> SessionInfo {
    let mut used = granted;
    // Running sequences and cached prefixes.
    used.max_sequences = granted.max_sequences.min(2 * MAX_SEQUENCES);
    used.kv_tokens = granted.kv_tokens.min(MAX_KV_TOKENS);
    used.context_length = granted.context_length.min(MAX_KV_TOKENS);
    used.max_batch_tokens = granted.max_batch_tokens.min(MAX_BATCH_TOKENS);
    used.max_rows = granted.max_rows.min(MAX_BATCH_TOKENS);
    used
}

fn check_info(info: &SessionInfo) -> Result<()> {
    let sizes = [
        ("sequences", info.max_sequences),
        ("KV tokens", info.kv_tokens),
        ("context", info.context_length),
        ("tokens in a batch", info.max_batch_tokens),
        ("rows of logits", info.max_rows),
    ];
    match sizes.iter().find(|(_, size)| *size == 0) {
        Some((what, _)) => Err(plugin_fault(&format!("granted a session with no {what}"))),
        None => Ok(()),
    }
}

/// Fails spans whose rows are not where they belong, or whose outcome this host does not know. Rows are numbered in batch
/// order, and only computed spans have rows.
fn check_spans(batch: &Batch<'_>, out: &mut [SpanOut]) {
    let mut next_row = 0;
    let computed = batch.spans().iter().zip(out);
    for (span, out) in computed.filter(|(_, out)| out.status == Code::OK) {
        let misplaced = span.rows > 0 && out.first_row != next_row;
        if misplaced || !out.is_understood() {
            out.status = Code::INTERNAL;
        }
        next_row += span.rows;
    }
}

/// Fails requests whose answer has a token that does not exist, or says something that this host does not know.
fn check_answers(out: &mut [Sampled<'_>], vocab_size: u32) {
    for out in out {
        let exists = |token: u32| token < vocab_size;
        let all = exists(out.token) && out.top().iter().all(|top| exists(top.token));
        if out.status == Code::OK && !(all && out.is_understood()) {
            out.status = Code::INTERNAL;
        }
    }
}

#[cfg(test)]
pub mod tests;
