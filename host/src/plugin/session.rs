//! A session, wrapped as ordinary Rust. Calls that are made for every token do not allocate. Their results are checked.

use tenon_plugin_api::{
    Batch, Code, KvStats, ModelInfo, Result, SampleRequest, Sampled, SessionInfo, SpanOut,
    ThreadPlan, abi::SessionBox,
};

use super::fault::plugin_fault;
use crate::config::{MAX_BATCH_TOKENS, MAX_KV_TOKENS, MAX_SEQUENCES};

/// One KV pool with many sequences. It stays on the thread that made it.
pub struct Session {
    object: SessionBox,
    info: SessionInfo,
    vocab_size: u32,
}

impl Session {
    pub(super) fn new(object: SessionBox, model: &ModelInfo) -> Result<Self> {
        let info = bounded(object.info().into());
        check_info(&info)?;
        Ok(Self {
            object,
            info,
            vocab_size: model.vocab_size,
        })
    }

    /// What was granted, reduced to what the host uses. No size in it is 0.
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
        check_rows(batch, out);
        Ok(())
    }

    /// Picks one token for each request. `out` is as long as `requests`. An error of one request is in its status.
    pub fn sample(
        &mut self,
        requests: &[SampleRequest<'_>],
        out: &mut [Sampled<'_>],
    ) -> Result<()> {
        self.object
            .sample(requests.into(), (&mut *out).into())
            .into_result()?;
        check_tokens(out, self.vocab_size);
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
    SessionInfo {
        // Running sequences and cached prefixes.
        max_sequences: granted.max_sequences.min(2 * MAX_SEQUENCES),
        kv_tokens: granted.kv_tokens.min(MAX_KV_TOKENS),
        context_length: granted.context_length.min(MAX_KV_TOKENS),
        max_batch_tokens: granted.max_batch_tokens.min(MAX_BATCH_TOKENS),
        max_rows: granted.max_rows.min(MAX_BATCH_TOKENS),
        ..granted
    }
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

/// Fails spans with rows that are not in the batch.
fn check_rows(batch: &Batch<'_>, out: &mut [SpanOut]) {
    let rows: u64 = batch.spans().iter().map(|span| u64::from(span.rows)).sum();
    for (span, out) in batch.spans().iter().zip(out) {
        let end = u64::from(out.first_row) + u64::from(span.rows);
        if out.status == Code::OK && end > rows {
            out.status = Code::INTERNAL;
        }
    }
}

/// Fails requests that were answered with a token that does not exist.
fn check_tokens(out: &mut [Sampled<'_>], vocab_size: u32) {
    for out in out {
        let exists = |token: u32| token < vocab_size;
        let all = exists(out.token) && out.top().iter().all(|top| exists(top.token));
        if out.status == Code::OK && !all {
            out.status = Code::INTERNAL;
        }
    }
}

#[cfg(test)]
mod tests {
    use tenon_plugin_api::{Span, TokenLogprob};

    use super::*;

    #[test]
    fn rows_outside_of_the_batch_fail_their_span_only() {
        let spans = [1, 3, 0].map(|rows| Span {
            rows,
            ..Span::default()
        });
        let mut out = [0, 2, 4].map(|first_row| SpanOut {
            first_row,
            ..SpanOut::default()
        });
        check_rows(&Batch::new(&[], &spans), &mut out);
        let status = out.map(|out| out.status);
        assert_eq!(status, [Code::OK, Code::INTERNAL, Code::OK]);
    }

    #[test]
    fn unknown_tokens_fail_their_request_only() {
        let known = TokenLogprob::default();
        let unknown = TokenLogprob {
            token: 260,
            ..known
        };
        let mut tops = [[known], [known], [unknown], [unknown]];
        let mut out = tops.each_mut().map(|top| Sampled::new(top));
        out[1].token = 260;
        out[2].top_len = 1;
        out[3].status = Code::BAD_LOGITS;
        check_tokens(&mut out, 260);
        let status = out.map(|out| out.status);
        let expected = [Code::OK, Code::INTERNAL, Code::INTERNAL, Code::BAD_LOGITS];
        assert_eq!(status, expected);
    }

    #[test]
    fn a_session_without_room_is_refused() {
        let info = SessionInfo {
            max_sequences: 1,
            kv_tokens: 64,
            context_length: 64,
            max_batch_tokens: 64,
            ..SessionInfo::default()
        };
        let error = check_info(&info).unwrap_err();
        assert!(error.message.contains("no rows of logits"), "{error}");
    }
}
