//! A session behind the ABI, as a session of the SDK.

use tenon::plugin;
use tenon_plugin_api::{
    Batch, Code, CpuSampler, KvStats, Result, SampleRequest, Sampled, Session, SessionInfo,
    SpanOut, ThreadPlan,
};

use crate::finding::broken;

/// A plugin's session behind the safe trait, so that the SDK's driver takes it. An answer that the server refuses becomes an error
/// that names the case about such answers.
pub struct Bridge {
    session: plugin::Session,
    /// A row of the last forward: `[logits_width]`.
    row: Vec<f32>,
}

impl Bridge {
    /// `width` is the length of a row of logits.
    pub fn new(session: plugin::Session, width: u32) -> Self {
        Self {
            session,
            row: vec![0.0; width as usize],
        }
    }
}

impl Session for Bridge {
    fn info(&self) -> SessionInfo {
        *self.session.info()
    }

    fn forward(&mut self, batch: &Batch<'_>, out: &mut [SpanOut]) -> Result<()> {
        self.session.forward(batch, out)?;
        if !out.iter().all(SpanOut::is_understood) {
            let what = "a reserved word of an outcome of forward is not zero";
            return Err(broken("forward/reserved-zero", what));
        }
        // The server gives this status to spans whose rows are not where they belong.
        if out.iter().any(|out| out.status == Code::INTERNAL) {
            let what = "the rows of a batch are not numbered in the order of its spans";
            return Err(broken("forward/rows-in-order", what));
        }
        Ok(())
    }

    fn logits(&mut self, row: u32) -> Result<&[f32]> {
        self.session.read_logits(row, &mut self.row)?;
        Ok(&self.row)
    }

    fn sample(
        &mut self,
        _sampler: &mut CpuSampler,
        requests: &[SampleRequest<'_>],
        out: &mut [Sampled<'_>],
    ) -> Result<()> {
        self.session.sample(requests, out)?;
        if !out.iter().all(Sampled::is_understood) {
            let what = "a reserved word of an answer of sample is not zero";
            return Err(broken("forward/reserved-zero", what));
        }
        // The server gives this status to tokens that do not exist.
        if out.iter().any(|out| out.status == Code::INTERNAL) {
            let what = "a token was picked that is not below `vocab_size`";
            return Err(broken("sample/padding-never-picked", what));
        }
        Ok(())
    }

    fn fork(&mut self, src: u32, dst: u32, len: u32) -> Result<()> {
        self.session.fork(src, dst, len)
    }

    fn truncate(&mut self, seq: u32, len: u32) -> Result<()> {
        self.session.truncate(seq, len)
    }

    fn free(&mut self, seq: u32) {
        self.session.free(seq);
    }

    fn kv_stats(&mut self) -> KvStats {
        self.session.kv_stats()
    }

    fn set_threads(&mut self, plan: ThreadPlan) -> Result<()> {
        self.session.set_threads(plan)
    }
}
