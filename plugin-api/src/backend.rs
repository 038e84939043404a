//! The traits that a backend author writes.

use std::path::Path;

use crate::{
    Batch, CpuSampler, Descriptor, Device, Embedder, EncodeFlags, Error, Estimate, Host, KvLedger,
    KvStats, LoadArgs, ModelInfo, Progress, Result, SampleRequest, Sampled, SessionArgs,
    SessionInfo, SpanOut, Support, ThreadPlan, Vocabulary, abi::Extension,
};

/// The plugin as a whole: finds out what it can load, and loads it. Made once per process by
/// [`export_plugin!`](crate::export_plugin), never dropped.
pub trait Backend: Send + Sync + Sized + 'static {
    /// `[any thread, before init]` Who the plugin is.
    fn descriptor() -> Descriptor;

    /// `[any thread, once, before every other call]` Starts the backend. `options` is the JSON object of
    /// `[plugins.options."<id>"]`, `{}` without any.
    ///
    /// # Errors
    /// [`Code::INVALID`](crate::Code::INVALID) for options that the plugin does not know, by name. After an error the plugin is
    /// not used; the host lists it with the error's message.
    fn init(host: Host, options: &str) -> Result<Self>;

    /// `[any thread]` Devices that models can be loaded to.
    ///
    /// # Errors
    /// When the devices cannot be asked.
    fn devices(&self) -> Result<Vec<Device>> {
        Ok(vec![Device {
            id: "cpu".into(),
            name: "CPU".into(),
            ..Device::default()
        }])
    }

    /// `[any thread]` Whether the file or directory is for this backend. Reads a header, no more: it is asked for every model
    /// that has no backend configured. A path that does not exist is a "no", with that reason.
    fn supports(&self, path: &Path) -> Support;

    /// `[any thread]` Memory that loading with `load` and serving with `session` would take, per device.
    ///
    /// # Errors
    /// [`Code::UNSUPPORTED`](crate::Code::UNSUPPORTED) by default.
    fn estimate(&self, load: &LoadArgs, session: &SessionArgs) -> Result<Vec<Estimate>> {
        let _ = (load, session);
        Err(Error::unsupported("memory estimates"))
    }

    /// `[any thread]` Reads a model. May take long: report to `progress`. Called again for the same path after a panic or a
    /// lost device, and once for each model that the server has.
    ///
    /// # Errors
    /// `INVALID` (with the file's name) for a file that is no such model, `NO_MEMORY`, `IO`, `CANCELLED`, `UNSUPPORTED`
    /// for devices or a level that the backend does not have.
    fn load(&self, args: &LoadArgs, progress: &Progress) -> Result<Box<dyn Model>>;

    /// `[any thread]` Writes the model of `args.path` at the level `args.quantize`, which is never None here, to the file or
    /// directory `output`, which does not exist yet. May take long: report to `progress`. Nothing is left of it after an error.
    ///
    /// Returns what is known of the written model; of its facts the host uses `quantization`, `source_quantization`,
    /// `fallback_tensors` and `weight_bytes`.
    ///
    /// # Errors
    /// [`Code::UNSUPPORTED`](crate::Code::UNSUPPORTED) by default; else as [`load`](Self::load).
    fn quantize(&self, args: &LoadArgs, output: &Path, progress: &Progress) -> Result<ModelInfo> {
        let _ = (args, output, progress);
        Err(Error::unsupported("writing quantized models"))
    }

    /// `[any thread]` An optional interface by its id, for example `org.tenon.embeddings/1`; None for ids that the plugin does
    /// not know.
    fn extension(&self, id: &str) -> Option<Extension> {
        let _ = id;
        None
    }
}

/// A loaded model: weights and tokenizer. Sessions and tokenizers own what they need of it (share it in an `Arc`): the host
/// keeps the model to requantize it, and drops the three in any order.
pub trait Model: Send + Sync {
    /// `[any thread]` Facts about the model. They never change. The host refuses a model whose facts contradict each other, see
    /// [`ModelInfo`].
    fn info(&self) -> ModelInfo;

    /// `[any thread]` The model's tokenizer. It serves requests for as long as the model does.
    ///
    /// # Errors
    /// `INVALID` if the model came without one; it cannot be served then.
    fn tokenizer(&self) -> Result<Box<dyn Tokenizer>>;

    /// `[model thread]` A KV pool for many sequences, all empty. The session is used and dropped on the thread that made it.
    ///
    /// It may grant less than was asked, and says so in [`Session::info`].
    ///
    /// # Errors
    /// `NO_MEMORY`; `INVALID` for sizes that cannot be granted.
    fn session(&self, args: &SessionArgs) -> Result<Box<dyn Session>>;

    /// `[any thread]` A **new** model at another level, made from the original weights on disk, while this one goes on
    /// serving. `level` is one of [`ModelInfo::requantize_levels`]. The calling thread gives way to those that answer, and so do
    /// threads that are started from it: do not keep them for the new model's sessions.
    ///
    /// # Errors
    /// `UNSUPPORTED` by default and for levels that the model does not have; `IO`, `NO_MEMORY`, `CANCELLED`.
    fn requantize(&self, level: &str, progress: &Progress) -> Result<Box<dyn Model>> {
        let _ = (level, progress);
        Err(Error::unsupported("requantizing"))
    }

    /// `[any thread]` What makes embeddings with this model; None if nothing does. Asked once, before the model is dropped.
    fn embedder(&self) -> Option<Box<dyn Embedder>> {
        None
    }

    /// `[any thread]` An optional interface by its id; None for ids that the plugin does not know.
    fn extension(&self, id: &str) -> Option<Extension> {
        let _ = id;
        None
    }
}

/// Text to tokens, and what each token is.
pub trait Tokenizer: Send + Sync {
    /// `[any thread]` Token ids of a text, all below [`ModelInfo::vocab_size`]. Called by several threads at once, and while the
    /// session computes. The empty text has no tokens but those that `ADD_SPECIAL` adds.
    ///
    /// # Errors
    /// `INVALID` for text that cannot be encoded: the client's request is refused with the message.
    fn encode(&self, text: &str, flags: EncodeFlags) -> Result<Vec<u32>>;

    /// `[any thread]` Bytes and kind of every token, exactly `vocab_size` of them. Called once per load. The host makes text of
    /// tokens with it, so the bytes are those of running text: a word's space included, BPE's and SentencePiece's marks undone.
    ///
    /// # Errors
    /// `INTERNAL` if the vocabulary cannot be read.
    fn vocabulary(&self) -> Result<Vocabulary>;
}

/// One KV pool and the sequences in it. `[model thread]` for every call, drop included; need not be `Send`.
///
/// A sequence is an id below [`SessionInfo::max_sequences`] and a stored length, at first 0. [`KvLedger`](crate::KvLedger)
/// keeps both for backends that have no such book of their own.
pub trait Session {
    /// What was granted. Asked once, after the session was made; none of the sizes is 0.
    fn info(&self) -> SessionInfo;

    /// Puts a ragged batch through the model and stores its KV. `out` is as long as `batch.spans()`. May return before the
    /// device is done; errors may then surface at [`sample`](Self::sample) or [`logits`](Self::logits).
    ///
    /// Every `out` arrives as its default: status `OK`, row 0. Any forward, even a failed one, ends the life of earlier rows.
    ///
    /// # Errors
    /// An error here means that **no** span was computed and nothing was changed; what concerns one span goes into its
    /// [`SpanOut::status`]. `NO_KV_SPACE`, `CANCELLED`, `NO_MEMORY`, `DEVICE_LOST`. After `DEVICE_LOST` the host drops the session.
    fn forward(&mut self, batch: &Batch<'_>, out: &mut [SpanOut]) -> Result<()>;

    /// Logits of a row of the last forward: `[logits_width]`, as the model gave them. May wait for the device. Rows can be read
    /// in any order, and again, until the next forward.
    ///
    /// # Errors
    /// `INVALID` for a row that does not exist; `DEVICE_LOST`.
    fn logits(&mut self, row: u32) -> Result<&[f32]>;

    /// Picks one token for each request; `out` is as long as `requests`. By default on the CPU, by the SDK's `sampler`
    /// over [`logits`](Self::logits); override it to sample where the logits are. The same request over the same row gives
    /// the same token, whatever else is in the call.
    ///
    /// # Errors
    /// What concerns one request (`NO_ALLOWED_TOKEN`, `BAD_LOGITS`) goes into its [`Sampled::status`]. An error here
    /// fails every request: `INVALID` for a row that does not exist; after `DEVICE_LOST` the host drops the session.
    fn sample(
        &mut self,
        sampler: &mut CpuSampler,
        requests: &[SampleRequest<'_>],
        out: &mut [Sampled<'_>],
    ) -> Result<()> {
        for (request, out) in requests.iter().zip(out) {
            sampler.sample(self.logits(request.row)?, request, out);
        }
        Ok(())
    }

    /// The session's KV book, if it keeps one: [`fork`](Self::fork), [`truncate`](Self::truncate), [`free`](Self::free) and
    /// [`kv_stats`](Self::kv_stats) then work on it by default. That is all they need where the ledger's cells say in which
    /// places keys and values are; a session that keeps them otherwise overrides these methods.
    fn ledger(&mut self) -> Option<&mut KvLedger> {
        None
    }

    /// Shares the first `len` positions of `src` with the empty sequence `dst`. A later change of one does not show in the
    /// other. Takes no KV space by itself.
    ///
    /// # Errors
    /// `UNSUPPORTED` without a ledger, or for a `len` that is not the whole of `src` where [`SessionInfo::fork_any_len`] is 0;
    /// `INVALID` for a `dst` that is not empty, a `src` shorter than `len`, or ids that do not exist. Nothing is changed then.
    fn fork(&mut self, src: u32, dst: u32, len: u32) -> Result<()> {
        match self.ledger() {
            Some(ledger) => ledger.fork(src, dst, len),
            None => Err(Error::unsupported("forking sequences")),
        }
    }

    /// Drops the positions of `seq` from `len` on; nothing if it is not longer.
    ///
    /// # Errors
    /// `UNSUPPORTED` without a ledger, or beyond [`SessionInfo::max_rollback`]. Nothing is changed then.
    fn truncate(&mut self, seq: u32, len: u32) -> Result<()> {
        match self.ledger() {
            Some(ledger) => ledger.truncate(seq, len),
            None => return Err(Error::unsupported("truncating sequences")),
        }
        Ok(())
    }

    /// Drops a sequence: its length is 0 and its KV space free again. Never fails, also for an empty sequence.
    fn free(&mut self, seq: u32) {
        if let Some(ledger) = self.ledger() {
            ledger.free(seq);
        }
    }

    /// How full the pool is, as a hint. All 0 without a ledger.
    fn kv_stats(&mut self) -> KvStats {
        self.ledger()
            .map(|ledger| ledger.stats())
            .unwrap_or_default()
    }

    /// Changes how many threads compute, from the next forward on.
    ///
    /// # Errors
    /// `UNSUPPORTED` by default; `INVALID` for 0 threads. The old threads go on then.
    fn set_threads(&mut self, plan: ThreadPlan) -> Result<()> {
        let _ = plan;
        Err(Error::unsupported("changing its threads"))
    }

    /// An optional interface by its id; None for ids that the plugin does not know.
    fn extension(&self, id: &str) -> Option<Extension> {
        let _ = id;
        None
    }
}
