//! The traits that a backend author writes.

use std::path::Path;

use crate::{
    Batch, CpuSampler, Descriptor, Device, Embedder, EncodeFlags, Error, Estimate, Extension, Host,
    KvLedger, KvStats, LoadArgs, ModelInfo, Progress, Result, SampleRequest, Sampled, SessionArgs,
    SessionInfo, SpanOut, Support, ThreadPlan, Vocabulary,
};

/// The plugin as a whole. It finds out what it can load, and loads it. [`export_plugin!`](crate::export_plugin) makes one
/// per process, which is never dropped.
pub trait Backend: Send + Sync + Sized + 'static {
    /// `[any thread, before init]` Who the plugin is.
    fn descriptor() -> Descriptor;

    /// `[any thread, once, before every other call]` Starts the backend. `options` is the JSON object of
    /// `[plugins.options."<id>"]`, or `{}` if there is none.
    ///
    /// # Errors
    /// [`Code::INVALID`](crate::Code::INVALID) for options that the plugin does not know; the message names them. After an
    /// error the host does not use the plugin, and lists it with the error's message.
    fn init(host: Host, options: &str) -> Result<Self>;

    /// `[any thread]` Devices that models can be loaded to.
    ///
    /// # Errors
    /// When the devices cannot be queried.
    fn devices(&self) -> Result<Vec<Device>> {
        Ok(vec![Device::new("cpu", "CPU")])
    }

    /// `[any thread]` Whether this backend can load the file or directory. Read a header, no more: the host asks for every
    /// model that has no backend configured. For a path that does not exist the answer is "no", with that reason.
    fn supports(&self, path: &Path) -> Support;

    /// `[any thread]` Memory that loading with `load` and serving with `session` would take, per device.
    ///
    /// # Errors
    /// [`Code::UNSUPPORTED`](crate::Code::UNSUPPORTED) by default.
    fn estimate(&self, load: &LoadArgs, session: &SessionArgs) -> Result<Vec<Estimate>> {
        let _ = (load, session);
        Err(Error::unsupported("memory estimates"))
    }

    /// `[any thread]` Loads a model. May take long: report to `progress`. Called once for each model that the server has,
    /// and again for the same path after a panic or a lost device.
    ///
    /// # Errors
    /// `INVALID` (with the file's name) for a file that is no such model, `NO_MEMORY`, `IO`, `CANCELLED`, `UNSUPPORTED` for
    /// devices or a level that the backend does not have.
    fn load(&self, args: &LoadArgs, progress: &Progress) -> Result<Box<dyn Model>>;

    /// `[any thread]` Writes the model of `args.path` at the level `args.quantize`, which is never None here. `output` is
    /// the file or directory to write; it does not exist yet. May take long: report to `progress`. After an error, nothing
    /// of `output` must be left.
    ///
    /// Returns facts about the written model. Of these the host uses `quantization`, `source_quantization`,
    /// `fallback_tensors` and `weight_bytes`.
    ///
    /// # Errors
    /// [`Code::UNSUPPORTED`](crate::Code::UNSUPPORTED) by default; otherwise as for [`load`](Self::load).
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

/// A loaded model: weights and tokenizer. The host keeps the model to requantize it, and drops the model, its sessions and
/// its tokenizers in any order. So sessions and tokenizers own what they need of the model: share it in an `Arc`.
pub trait Model: Send + Sync {
    /// `[any thread]` Facts about the model. They never change. The host refuses a model whose facts contradict each other, see
    /// [`ModelInfo`].
    fn info(&self) -> ModelInfo;

    /// `[any thread]` The model's tokenizer. The tokenizer serves requests for as long as the model does.
    ///
    /// # Errors
    /// `INVALID` if the model came without a tokenizer. Such a model cannot be served.
    fn tokenizer(&self) -> Result<Box<dyn Tokenizer>>;

    /// `[model thread]` Makes a session: a KV pool for many sequences, all empty. The session is used and dropped on the
    /// thread that made it.
    ///
    /// The session may grant less than was asked, and says so in [`Session::info`]. Not called for a model that generates no text,
    /// see [`ModelInfo::set_without_text`].
    ///
    /// # Errors
    /// `UNSUPPORTED` by default; `NO_MEMORY`; `INVALID` for sizes that cannot be granted.
    fn session(&self, args: &SessionArgs) -> Result<Box<dyn Session>> {
        let _ = args;
        Err(Error::unsupported("generating text"))
    }

    /// `[any thread]` Makes a **new** model at another level from the original weights on disk, while this model goes on
    /// serving. `level` is one of [`ModelInfo::requantize_levels`]. The calling thread has a low priority, so that threads
    /// that answer requests come first. Threads that are started from it inherit this priority: do not keep them for the new
    /// model's sessions.
    ///
    /// # Errors
    /// `UNSUPPORTED` by default and for levels that the model does not have; `IO`, `NO_MEMORY`, `CANCELLED`.
    fn requantize(&self, level: &str, progress: &Progress) -> Result<Box<dyn Model>> {
        let _ = (level, progress);
        Err(Error::unsupported("requantizing"))
    }

    /// `[any thread]` The model's embedder. None if the model makes no embeddings. Asked once, before the model is dropped.
    fn embedder(&self) -> Option<Box<dyn Embedder>> {
        None
    }

    /// `[any thread]` An optional interface by its id; None for ids that the plugin does not know.
    fn extension(&self, id: &str) -> Option<Extension> {
        let _ = id;
        None
    }
}

/// Encodes text into tokens, and says what each token is.
pub trait Tokenizer: Send + Sync {
    /// `[any thread]` Token ids of a text, all below [`ModelInfo::vocab_size`]. Called by several threads at once, and while
    /// the session computes. The empty text has no tokens except those that `ADD_SPECIAL` adds.
    ///
    /// # Errors
    /// `INVALID` for text that cannot be encoded: the client's request is refused with the message.
    fn encode(&self, text: &str, flags: EncodeFlags) -> Result<Vec<u32>>;

    /// `[any thread]` Bytes and kind of every token, exactly `vocab_size` of them. Called once per load. The host decodes
    /// tokens to text with it, so the bytes are those of running text: the space before a word is included, and the markers
    /// of BPE and SentencePiece are undone.
    ///
    /// # Errors
    /// `INTERNAL` if the vocabulary cannot be read.
    fn vocabulary(&self) -> Result<Vocabulary>;
}

/// One KV pool and the sequences in it. Every call is made on the `[model thread]`, and so is the drop; a session need not
/// be `Send`.
///
/// A sequence has an id below [`SessionInfo::max_sequences`] and a stored length, which is 0 at first.
/// [`KvLedger`](crate::KvLedger) keeps both for backends that have no ledger of their own.
pub trait Session {
    /// What the session grants. Asked once, after the session was made. None of the sizes is 0.
    fn info(&self) -> SessionInfo;

    /// Puts a ragged batch through the model and stores its KV. `out` is as long as `batch.spans()`. May return before the
    /// device is done; errors may then surface at [`sample`](Self::sample) or [`logits`](Self::logits).
    ///
    /// Every `out` arrives as its default: status `OK`, row 0. Any forward, even a failed one, invalidates the rows of the
    /// one before.
    ///
    /// # Errors
    /// An error here means that **no** span was computed and nothing was changed. An error of one span goes into its
    /// [`SpanOut::status`]. Codes: `NO_KV_SPACE`, `CANCELLED`, `NO_MEMORY`, `DEVICE_LOST`. After `DEVICE_LOST` the host
    /// drops the session.
    fn forward(&mut self, batch: &Batch<'_>, out: &mut [SpanOut]) -> Result<()>;

    /// Logits of a row of the last forward: `[logits_width]`, as the model computed them. May wait for the device. Rows can
    /// be read in any order and repeatedly, until the next forward.
    ///
    /// # Errors
    /// `INVALID` for a row that does not exist; `DEVICE_LOST`.
    fn logits(&mut self, row: u32) -> Result<&[f32]>;

    /// Picks one token for each request; `out` is as long as `requests`. By default the SDK's `sampler` picks on the CPU
    /// from [`logits`](Self::logits); override this to sample on the device that has the logits. The same request over the
    /// same row gives the same token, whatever else is in the call.
    ///
    /// # Errors
    /// An error of one request goes into its [`Sampled::status`]: `NO_ALLOWED_TOKEN`, `BAD_LOGITS`, or `SEQUENCE_LOST` if a
    /// `forward` that returned early could not compute the row. The host then frees that sequence and computes it again. An error
    /// here is an error of every request: `INVALID` for a row that does not exist; `SEQUENCE_LOST`; `CANCELLED` if the host has set the
    /// interrupt. After `DEVICE_LOST` the host drops the session. Except for lost sequences, the spans of the last `forward` stay
    /// stored.
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

    /// The session's ledger, if it keeps one. The defaults of [`fork`](Self::fork), [`truncate`](Self::truncate),
    /// [`free`](Self::free) and [`kv_stats`](Self::kv_stats) then work on it. They are enough for a session that stores keys
    /// and values at the numbers of the ledger's cells. A session that stores them otherwise overrides these methods.
    fn ledger(&mut self) -> Option<&mut KvLedger> {
        None
    }

    /// Shares the first `len` positions of `src` with the empty sequence `dst`. A later change of one sequence does not show
    /// in the other.
    ///
    /// A fork takes no room in the KV pool: the host counts shared positions once. It may take time and other memory. A KV
    /// cache only notes who shares its cells. A recurrent model copies its state, which may be many megabytes: a part of
    /// [`Estimate::sequence_bytes`]. The host forks when a prompt begins like a stored sequence, and to store a prefix for
    /// later prompts. It does not fork in each step.
    ///
    /// Where [`SessionInfo::fork_any_len`] is false, `len` is the length of `src`. The host ends a span at each position that
    /// it wants to return to, and forks the whole sequence there. Such a checkpoint takes a sequence id and a state until the
    /// host frees it, and `truncate` is not called on it.
    ///
    /// # Errors
    /// `UNSUPPORTED` without a ledger, or if `len` is not the whole of `src` where [`SessionInfo::fork_any_len`] is false;
    /// `INVALID` for a `dst` that is not empty, a `src` shorter than `len`, or ids that do not exist. An error changes
    /// nothing.
    fn fork(&mut self, src: u32, dst: u32, len: u32) -> Result<()> {
        match self.ledger() {
            Some(ledger) => ledger.fork(src, dst, len),
            None => Err(Error::unsupported("forking sequences")),
        }
    }

    /// Drops the positions of `seq` from `len` on. Does nothing if `seq` is not longer. The host calls this after a `forward`
    /// with a wrong draft, and to shorten a stored sequence to the part that a new prompt shares.
    ///
    /// # Errors
    /// `UNSUPPORTED` without a ledger, or beyond [`SessionInfo::max_rollback`]: the host then frees the sequence and computes it
    /// again. An error changes nothing.
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

    /// Changes how many threads the session computes with, from the next forward on.
    ///
    /// # Errors
    /// `UNSUPPORTED` by default; `INVALID` for 0 threads. After an error the session keeps its threads.
    fn set_threads(&mut self, plan: ThreadPlan) -> Result<()> {
        let _ = plan;
        Err(Error::unsupported("changing its threads"))
    }
}
