//! A `llama_context`: its creation, and the calls on it.

use std::{ffi::c_void, ptr::NonNull, sync::Arc};

use llama_cpp_sys_2 as sys;
use tenon_plugin_api::{Code, Error, Interrupt, Result, SessionArgs};

use crate::{log, options::Options, shim, weights::Weights};

/// Most tokens that llama.cpp computes at once; it splits larger batches. A larger number costs memory and gains no speed on
/// a CPU.
pub const MICRO_BATCH_TOKENS: u32 = 512;

/// Owns the context, its KV pool and its compute buffers.
pub struct Context {
    raw: NonNull<sys::llama_context>,
    /// The flag that the context's abort callback reads. It is boxed because the context keeps its address.
    interrupt: Box<Interrupt>,
    /// The context uses the model until it is freed.
    _weights: Arc<Weights>,
}

impl Context {
    /// # Errors
    /// `NO_MEMORY`, `INVALID` for values that llama.cpp refuses, `UNSUPPORTED` for models that do not generate text.
    pub fn new(weights: Arc<Weights>, args: &SessionArgs, options: &Options) -> Result<Self> {
        if weights.is_encoder() {
            return Err(Error::unsupported("models with an encoder"));
        }
        let params = params(args, options);
        let mut context = Self::with(weights, params)?.with_kv()?;
        context.set_interrupt(&args.interrupt);
        Ok(context)
    }

    /// A context that computes the vector of every token of a batch.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn for_embeddings(
        weights: Arc<Weights>,
        args: &SessionArgs,
        options: &Options,
    ) -> Result<Self> {
        let mut params = params(args, options);
        params.embeddings = true;
        params.pooling_type = sys::LLAMA_POOLING_TYPE_NONE;
        Self::with(weights, params)?.with_kv()
    }

    /// A context that computes one vector for each text, which it pools itself. A batch is computed at once, so that it has
    /// whole texts.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn for_pooled(
        weights: Arc<Weights>,
        args: &SessionArgs,
        options: &Options,
        pooling: sys::llama_pooling_type,
    ) -> Result<Self> {
        let mut params = params(args, options);
        params.n_ubatch = params.n_batch;
        params.embeddings = true;
        params.pooling_type = pooling;
        Self::with(weights, params)
    }

    fn with(weights: Arc<Weights>, params: sys::llama_context_params) -> Result<Self> {
        // SAFETY: the model is valid.
        let make = || unsafe { sys::llama_init_from_model(weights.raw(), params) };
        // llama.cpp uses the values in the model's file here for the first time, and asserts some of them.
        let (raw, reason) = log::with_reason(|| shim::reading(make));
        let raw = NonNull::new(raw)
            .ok_or_else(|| log::failure("llama.cpp cannot make a session", &reason))?;
        Ok(Self {
            raw,
            interrupt: Box::default(),
            _weights: weights,
        })
    }

    /// The context, if it has a KV cache.
    fn with_kv(self) -> Result<Self> {
        match self.memory().is_null() {
            true => Err(Error::unsupported("models without a KV cache")),
            false => Ok(self),
        }
    }

    /// Makes later batches stop when this flag is set.
    pub fn set_interrupt(&mut self, interrupt: &Interrupt) {
        *self.interrupt = interrupt.clone();
        let interrupt = std::ptr::from_ref(&*self.interrupt).cast_mut();
        // SAFETY: the context is valid, and the boxed interrupt outlives it.
        unsafe {
            sys::llama_set_abort_callback(self.raw(), Some(is_interrupted), interrupt.cast());
        }
    }

    /// The pointer for llama.cpp's functions, valid as long as `self`.
    pub fn raw(&self) -> *mut sys::llama_context {
        self.raw.as_ptr()
    }

    pub fn kv_tokens(&self) -> u32 {
        // SAFETY: the context is valid.
        unsafe { sys::llama_n_ctx(self.raw()) }
    }

    pub fn max_batch_tokens(&self) -> u32 {
        // SAFETY: the context is valid.
        unsafe { sys::llama_n_batch(self.raw()) }
    }

    /// Computes a batch.
    ///
    /// # Errors
    /// `NO_KV_SPACE`, `CANCELLED`, `NO_MEMORY`, `INTERNAL`. After an error a part of the batch may have been stored.
    ///
    /// # Safety
    /// The arrays of `batch` are valid, and its sequences are below the number that was asked for.
    pub unsafe fn decode(&mut self, batch: &sys::llama_batch) -> Result<()> {
        // SAFETY: the context is valid, and the caller promises the rest.
        let (status, reason) = log::silently(|| unsafe { shim::decode(self.raw(), batch) });
        let (code, what) = match status? {
            0 => return Ok(()),
            1 => (Code::NO_KV_SPACE, "the KV pool has no room for the batch"),
            2 => (Code::CANCELLED, "the host stopped the batch"),
            -2 => (Code::NO_MEMORY, "llama.cpp ran out of memory"),
            _ => (Code::INTERNAL, "llama.cpp could not compute the batch"),
        };
        Err(match reason.as_str() {
            "" => Error::new(code, what),
            reason => Error::new(code, format!("{what}: {reason}")),
        })
    }

    /// Logits of a token of the last batch, by its place there: `[logits_width]`.
    pub fn logits(&mut self, token: i32, logits_width: usize) -> Option<&[f32]> {
        // SAFETY: the context is valid, and llama.cpp's rows have one logit for each token of the vocabulary.
        unsafe {
            let row = NonNull::new(sys::llama_get_logits_ith(self.raw(), token))?;
            Some(std::slice::from_raw_parts(row.as_ptr(), logits_width))
        }
    }

    /// The vector of a token of the last batch, by its place there.
    ///
    /// # Errors
    /// `INTERNAL` if there is none.
    pub fn embedding(&self, token: i32, dimensions: usize) -> Result<&[f32]> {
        // SAFETY: the context is valid, and llama.cpp's rows have as many numbers as the model's output. llama.cpp sorts the
        // rows when the first one is asked for, so before any is borrowed, and then leaves them in place until the next
        // batch.
        unsafe {
            let row = NonNull::new(sys::llama_get_embeddings_ith(self.raw(), token));
            let row = row.ok_or_else(|| Error::new(Code::INTERNAL, "llama.cpp lost a vector"))?;
            Ok(std::slice::from_raw_parts(row.as_ptr(), dimensions))
        }
    }

    /// The vector of a text of the last batch, by its sequence.
    ///
    /// # Errors
    /// `INTERNAL` if there is none.
    pub fn pooled(&self, seq: u32, dimensions: usize) -> Result<&[f32]> {
        // SAFETY: the context is valid. llama.cpp keeps as many numbers for each text as the model has dimensions, or its head
        // outputs, until the next batch.
        unsafe {
            let vector = NonNull::new(sys::llama_get_embeddings_seq(
                self.raw(),
                seq as sys::llama_seq_id,
            ));
            let lost = || Error::new(Code::INTERNAL, "llama.cpp lost the vector of a text");
            Ok(std::slice::from_raw_parts(
                vector.ok_or_else(lost)?.as_ptr(),
                dimensions,
            ))
        }
    }

    /// Drops all sequences.
    pub fn clear(&mut self) {
        // SAFETY: the context is valid. Without a KV cache there is nothing to drop.
        unsafe { sys::llama_memory_clear(self.memory(), false) }
    }

    /// Drops the positions of a sequence from `len` on. `false` means that the model cannot do this, and nothing was
    /// changed.
    pub fn remove(&mut self, seq: u32, len: u32) -> bool {
        // SAFETY: the context is valid, and callers pass sequences that exist.
        unsafe { sys::llama_memory_seq_rm(self.memory(), seq as i32, len as i32, -1) }
    }

    /// Shares the first `len` positions of `src` with the empty sequence `dst`.
    pub fn share(&mut self, src: u32, dst: u32, len: u32) {
        // SAFETY: the context is valid, and callers pass sequences that exist.
        unsafe {
            sys::llama_memory_seq_cp(self.memory(), src as i32, dst as i32, 0, len as i32);
        }
    }

    fn memory(&self) -> sys::llama_memory_t {
        // SAFETY: the context is valid.
        unsafe { sys::llama_get_memory(self.raw()) }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: it is freed once, before the model that it uses.
        unsafe { sys::llama_free(self.raw()) }
    }
}

fn params(args: &SessionArgs, options: &Options) -> sys::llama_context_params {
    // SAFETY: it only fills a struct.
    let mut params = unsafe { sys::llama_context_default_params() };
    params.n_ctx = args.kv_tokens;
    params.n_seq_max = args.max_sequences;
    params.n_batch = args.max_batch_tokens;
    params.n_ubatch = args.max_batch_tokens.min(MICRO_BATCH_TOKENS);
    params.kv_unified = true;
    params.flash_attn_type = options.flash_attention.llama();
    params.type_k = options.kv_type.ggml();
    params.type_v = options.kv_type.ggml();
    params.no_perf = true;
    params
}

unsafe extern "C" fn is_interrupted(interrupt: *mut c_void) -> bool {
    // SAFETY: the context got the address of an `Interrupt` that outlives it.
    unsafe { &*interrupt.cast::<Interrupt>() }.is_set()
}
