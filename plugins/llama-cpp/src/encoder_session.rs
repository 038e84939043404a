//! The session of an encoder, which generates no text. It computes nothing and takes no memory.

use tenon_plugin_api::{Batch, Error, KvStats, Result, Session, SessionArgs, SessionInfo, SpanOut};

use crate::weights::Weights;

pub struct EncoderSession(SessionInfo);

impl EncoderSession {
    /// # Errors
    /// `INVALID` for a session that nobody can use.
    pub fn new(weights: &Weights, args: &SessionArgs) -> Result<Self> {
        SessionInfo::grant(args, weights.0.n_ctx_train()).map(Self)
    }
}

impl Session for EncoderSession {
    fn info(&self) -> SessionInfo {
        self.0
    }

    fn forward(&mut self, _: &Batch<'_>, _: &mut [SpanOut]) -> Result<()> {
        Err(no_text())
    }

    fn logits(&mut self, _: u32) -> Result<&[f32]> {
        Err(no_text())
    }

    fn truncate(&mut self, _: u32, _: u32) -> Result<()> {
        Ok(())
    }

    fn free(&mut self, _: u32) {}

    fn kv_stats(&mut self) -> KvStats {
        KvStats::default()
    }
}

fn no_text() -> Error {
    Error::unsupported("generating text with an encoder")
}
