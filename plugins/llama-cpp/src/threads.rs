//! The threads that compute. ggml makes new threads for every batch unless it gets a pool to keep.

use std::{mem::replace, ptr::NonNull, rc::Rc};

use llama_cpp_sys_2 as sys;
use tenon_plugin_api::{Code, Error, Result, ThreadPlan};

use crate::{context::Context, log};

/// ggml's own default: threads spin a little, then sleep.
pub const DEFAULT_POLL: u32 = 50;
/// ggml's `GGML_MAX_N_THREADS`.
const MAX_THREADS: u32 = 512;
const MAX_POLL: u32 = 100;

/// Threads for decode and for prefill. They outlive the context that they are attached to.
pub struct Threads {
    decode: Rc<ThreadPool>,
    /// The same pool as `decode` if both have the same size.
    prefill: Rc<ThreadPool>,
    /// Pools that the context used before. ggml still touches a pool when it switches to another one.
    retired: Vec<Rc<ThreadPool>>,
    /// The phase whose pool the context uses for batches of many tokens. None: it does not have these pools yet.
    attached: Option<Phase>,
}

/// The kind of work that a batch does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// One token for each sequence.
    Decode,
    Prefill,
}

impl Threads {
    /// Makes one pool for decode and prefill. `poll` says how long its threads spin before they sleep, from 0 to 100.
    ///
    /// # Errors
    /// `NO_MEMORY` if the threads cannot be started.
    pub fn new(count: u32, poll: u32) -> Result<Self> {
        let pool = Rc::new(ThreadPool::new(PoolSize::new(count, poll))?);
        Ok(Self {
            decode: pool.clone(),
            prefill: pool,
            retired: Vec::new(),
            attached: None,
        })
    }

    /// Changes the threads from the next batch on. Pools whose size stays the same are kept.
    ///
    /// # Errors
    /// As [`new`](Self::new); the old threads stay.
    pub fn change(&mut self, plan: ThreadPlan) -> Result<()> {
        let decode = PoolSize::new(plan.decode, plan.decode_poll);
        let prefill = PoolSize::new(plan.prefill, plan.prefill_poll);
        if (decode, prefill) == (self.decode.size, self.prefill.size) {
            return Ok(());
        }
        let decode = self.pool(decode, &self.prefill)?;
        let prefill = self.pool(prefill, &decode)?;
        self.retired.push(replace(&mut self.decode, decode));
        self.retired.push(replace(&mut self.prefill, prefill));
        self.attached = None;
        Ok(())
    }

    /// A pool of this size: an existing one, or a new one.
    fn pool(&self, size: PoolSize, other: &Rc<ThreadPool>) -> Result<Rc<ThreadPool>> {
        let pools = [&self.decode, &self.prefill, other];
        match pools.into_iter().find(|pool| pool.size == size) {
            Some(pool) => Ok(pool.clone()),
            None => ThreadPool::new(size).map(Rc::new),
        }
    }

    /// Lets the context use the threads of this phase. llama.cpp itself only tells one token from many, but many tokens may
    /// also be many sequences in decode.
    pub fn attach(&mut self, context: &mut Context, phase: Phase) {
        if self.attached == Some(phase) {
            return;
        }
        self.attached = Some(phase);
        let many = match phase {
            Phase::Decode => &self.decode,
            Phase::Prefill => &self.prefill,
        };
        let (one_count, many_count) = (self.decode.size.count, many.size.count);
        // SAFETY: the context is valid, and the pools live as long as it uses them.
        log::silently(|| unsafe {
            sys::llama_set_n_threads(context.raw(), one_count as i32, many_count as i32);
            sys::llama_attach_threadpool(context.raw(), self.decode.raw(), many.raw());
        });
    }

    /// Call this after a batch was computed: ggml then uses only the attached threads.
    pub fn settle(&mut self) {
        self.retired.clear();
    }
}

/// The number of threads, and how busily they wait.
#[derive(Clone, Copy, PartialEq, Eq)]
struct PoolSize {
    count: u32,
    poll: u32,
}

impl PoolSize {
    fn new(count: u32, poll: u32) -> Self {
        let count = count.clamp(1, MAX_THREADS);
        // A single thread waits for no other.
        let poll = if count == 1 { 0 } else { poll.min(MAX_POLL) };
        Self { count, poll }
    }
}

struct ThreadPool {
    raw: NonNull<sys::ggml_threadpool>,
    size: PoolSize,
}

impl ThreadPool {
    fn new(size: PoolSize) -> Result<Self> {
        // SAFETY: the parameters are read during the call.
        let pool = unsafe {
            let mut params = sys::ggml_threadpool_params_default(size.count as i32);
            params.poll = size.poll;
            // Paused threads sleep until there is something to compute. Otherwise they would first spin, on cores that
            // others need.
            params.paused = true;
            sys::ggml_threadpool_new(&raw mut params)
        };
        let raw = NonNull::new(pool).ok_or_else(|| {
            Error::new(
                Code::NO_MEMORY,
                format!("{} threads cannot be started", size.count),
            )
        })?;
        Ok(Self { raw, size })
    }

    fn raw(&self) -> *mut sys::ggml_threadpool {
        self.raw.as_ptr()
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        // SAFETY: it is freed once, when no context uses it any more.
        unsafe { sys::ggml_threadpool_free(self.raw()) }
    }
}
