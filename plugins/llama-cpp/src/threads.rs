//! The threads that compute. ggml makes new ones for every batch unless it is given some to keep.

use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;
use tenon_plugin_api::{Code, Error, Result, ThreadPlan};

use crate::{context::Context, log};

/// ggml's own default: spin a little, then sleep.
pub const DEFAULT_POLL: u32 = 50;
/// ggml's `GGML_MAX_N_THREADS`.
const MAX_THREADS: u32 = 512;
const MAX_POLL: u32 = 100;

/// Threads for decoding and for prefill. They outlive the context that they are attached to.
pub struct Threads {
    plan: ThreadPlan,
    decode: Pool,
    /// None: the same as for decoding.
    prefill: Option<Pool>,
    /// What the context used last. ggml still touches it when it begins to use another.
    retired: Vec<Pool>,
    /// Which of the two the context has for batches of many tokens. None: it does not have these pools yet.
    attached: Option<Use>,
}

/// What a batch is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// One token for each sequence.
    Decode,
    Prefill,
}

impl Threads {
    /// The same threads for everything. `poll` is how long they spin before they sleep, 0 to 100.
    ///
    /// # Errors
    /// `NO_MEMORY` if the threads cannot be started.
    pub fn new(count: u32, poll: u32) -> Result<Self> {
        Self::planned(ThreadPlan {
            decode: count,
            prefill: count,
            poll,
            ..ThreadPlan::default()
        })
    }

    fn planned(asked: ThreadPlan) -> Result<Self> {
        let plan = ThreadPlan {
            decode: asked.decode.clamp(1, MAX_THREADS),
            prefill: asked.prefill.clamp(1, MAX_THREADS),
            poll: asked.poll.min(MAX_POLL),
            ..asked
        };
        let differ = plan.prefill != plan.decode;
        Ok(Self {
            plan,
            decode: Pool::new(plan.decode, plan.poll)?,
            prefill: differ
                .then(|| Pool::new(plan.prefill, plan.poll))
                .transpose()?,
            retired: Vec::new(),
            attached: None,
        })
    }

    /// Changes the plan; from the next batch on.
    ///
    /// # Errors
    /// As [`new`](Self::new); the old plan stays.
    pub fn change(&mut self, plan: ThreadPlan) -> Result<()> {
        if plan == self.plan {
            return Ok(());
        }
        let old = std::mem::replace(self, Self::planned(plan)?);
        self.retired = old.retired;
        self.retired.push(old.decode);
        self.retired.extend(old.prefill);
        Ok(())
    }

    /// Has the context use the threads for this kind of batch. llama.cpp itself tells only one token from many, but many
    /// tokens may also be many sequences that decode.
    pub fn attach(&mut self, context: &mut Context, to: Use) {
        if self.attached == Some(to) {
            return;
        }
        self.attached = Some(to);
        let (count, pool) = match (to, &self.prefill) {
            (Use::Prefill, Some(prefill)) => (self.plan.prefill, prefill),
            _ => (self.plan.decode, &self.decode),
        };
        // SAFETY: the context is valid, and the pools live as long as it uses them.
        log::silently(|| unsafe {
            sys::llama_set_n_threads(context.raw(), self.plan.decode as i32, count as i32);
            sys::llama_attach_threadpool(context.raw(), self.decode.0.as_ptr(), pool.0.as_ptr());
        });
    }

    /// After a batch was computed: ggml now uses the attached threads and no others.
    pub fn settle(&mut self) {
        self.retired.clear();
    }
}

struct Pool(NonNull<sys::ggml_threadpool>);

impl Pool {
    fn new(count: u32, poll: u32) -> Result<Self> {
        // SAFETY: the parameters are read during the call.
        let pool = unsafe {
            let mut params = sys::ggml_threadpool_params_default(count as i32);
            params.poll = poll;
            sys::ggml_threadpool_new(&raw mut params)
        };
        let message = || {
            Error::new(
                Code::NO_MEMORY,
                format!("{count} threads cannot be started"),
            )
        };
        NonNull::new(pool).map(Self).ok_or_else(message)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: it is freed once, when no context uses it any more.
        unsafe { sys::ggml_threadpool_free(self.0.as_ptr()) }
    }
}
