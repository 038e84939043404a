//! The session of a model of a plugin in C. The data of every step is passed without conversion.

use std::{ptr, slice};

use tenon_plugin_api::{
    Batch, CpuSampler, Error, Interrupt, KvStats, Result, SampleRequest, Sampled, Session,
    SessionInfo, SpanOut, ThreadPlan,
    abi::{SessionInfoRecord, c::SessionVtable},
};

use super::{
    call::{call, gave, there},
    object::Owned,
    read::flag,
};
use crate::plugin::fault::newer_plugin;

/// One KV pool and the sequences in it.
pub struct CSession {
    object: Owned<SessionVtable>,
    info: SessionInfo,
    logits_width: usize,
    /// Kept because the plugin has its address.
    _interrupt: Interrupt,
}

impl CSession {
    /// Asks the session what it grants, once.
    pub fn new(
        object: Owned<SessionVtable>,
        logits_width: u32,
        interrupt: Interrupt,
    ) -> Result<Self> {
        const NAME: &str = "tenon_session_vtable.info";
        let info = there(object.table.info, NAME)?;
        let mut granted = SessionInfoRecord::from(SessionInfo::default());
        // SAFETY: the object lives.
        unsafe { info(object.this, &mut granted) };
        if !granted.is_understood() {
            return Err(newer_plugin("granted a session"));
        }
        flag(granted.fork_any_len, "fork_any_len").map_err(|what| gave(NAME, &what))?;
        Ok(Self {
            object,
            info: granted.into(),
            logits_width: logits_width as usize,
            _interrupt: interrupt,
        })
    }
}

impl Session for CSession {
    fn info(&self) -> SessionInfo {
        self.info
    }

    fn forward(&mut self, batch: &Batch<'_>, out: &mut [SpanOut]) -> Result<()> {
        const NAME: &str = "tenon_session_vtable.forward";
        let forward = there(self.object.table.forward, NAME)?;
        // SAFETY: the object lives, and `out` has an element for each span.
        call(NAME, |error| unsafe {
            forward(self.object.this, batch, out.as_mut_ptr(), error)
        })
    }

    fn logits(&mut self, row: u32) -> Result<&[f32]> {
        const NAME: &str = "tenon_session_vtable.logits";
        let logits = there(self.object.table.logits, NAME)?;
        let mut found = ptr::null();
        // SAFETY: the object lives.
        call(NAME, |error| unsafe {
            logits(self.object.this, row, &mut found, error)
        })?;
        if found.is_null() || !found.is_aligned() {
            return Err(gave(NAME, &format!("the address {found:p}")));
        }
        // SAFETY: the plugin has so many logits there until the next forward, and the borrow ends before that.
        Ok(unsafe { slice::from_raw_parts(found, self.logits_width) })
    }

    fn sample(
        &mut self,
        sampler: &mut CpuSampler,
        requests: &[SampleRequest<'_>],
        out: &mut [Sampled<'_>],
    ) -> Result<()> {
        let Some(sample) = self.object.table.sample else {
            for (request, out) in requests.iter().zip(out) {
                sampler.sample(self.logits(request.row)?, request, out);
            }
            return Ok(());
        };
        let (first, answers) = (requests.as_ptr(), out.as_mut_ptr());
        // SAFETY: the object lives, and there are as many answers as requests.
        call("tenon_session_vtable.sample", |error| unsafe {
            sample(self.object.this, first, requests.len(), answers, error)
        })
    }

    fn fork(&mut self, src: u32, dst: u32, len: u32) -> Result<()> {
        let Some(fork) = self.object.table.fork else {
            return Err(Error::unsupported("forking sequences"));
        };
        // SAFETY: the object lives.
        call("tenon_session_vtable.fork", |error| unsafe {
            fork(self.object.this, src, dst, len, error)
        })
    }

    fn truncate(&mut self, seq: u32, len: u32) -> Result<()> {
        let Some(truncate) = self.object.table.truncate else {
            return Err(Error::unsupported("truncating sequences"));
        };
        // SAFETY: the object lives.
        call("tenon_session_vtable.truncate", |error| unsafe {
            truncate(self.object.this, seq, len, error)
        })
    }

    fn free(&mut self, seq: u32) {
        if let Some(free) = self.object.table.free {
            // SAFETY: the object lives.
            unsafe { free(self.object.this, seq) }
        }
    }

    fn kv_stats(&mut self) -> KvStats {
        let mut stats = KvStats::default();
        if let Some(kv_stats) = self.object.table.kv_stats {
            // SAFETY: the object lives.
            unsafe { kv_stats(self.object.this, &mut stats) }
        }
        stats
    }

    fn set_threads(&mut self, plan: ThreadPlan) -> Result<()> {
        let Some(set_threads) = self.object.table.set_threads else {
            return Err(Error::unsupported("changing its threads"));
        };
        // SAFETY: the object lives.
        call("tenon_session_vtable.set_threads", |error| unsafe {
            set_threads(self.object.this, &plan, error)
        })
    }
}
