//! Loads a GGUF file, and reads the facts of the loaded model.

use std::{cell::Cell, ffi::CStr, path::Path, rc::Rc, sync::Arc};

use llama_cpp_2::{
    llama_backend::LlamaBackend,
    model::{LlamaModel, params::LlamaModelParams},
};
use llama_cpp_sys_2 as sys;
use tenon_plugin_api::{
    Capabilities, Code, Embedder, Error, LoadArgs, Model, ModelInfo, Pooling, Progress, Result,
    SamplingDefaults, Session, SessionArgs, Tokenizer,
};

use crate::{
    devices,
    embedder::LlamaEmbedder,
    file_types, gguf,
    level_file::{LevelFile, LevelFiles},
    log,
    options::Options,
    quantize::Report,
    session::LlamaSession,
    shim,
    tokenizer::LlamaTokenizer,
    weights,
};

/// A model in memory. Its users share the weights.
pub struct GgufModel {
    weights: Arc<Weights>,
    options: Options,
    loader: Arc<Loader>,
    /// The arguments that it was loaded with, without the level.
    args: LoadArgs,
    file: LevelFile,
}

/// How many cells times heads cost a twentieth of a step, for each byte of weights. Measured on CPUs with `tenon bench
/// engine --idle-tokens`: 1,000 cells of SmolLM2, with its 270 heads and 97 MB.
const IDLE_HEADS_PER_WEIGHT_BYTE: f64 = 0.0028;

/// What loading needs besides its arguments.
pub struct Loader {
    pub backend: Arc<LlamaBackend>,
    pub files: LevelFiles,
    /// Number of threads for models and sessions that do not choose one.
    pub threads: u32,
}

impl Loader {
    /// Loads the model that `args` names.
    ///
    /// # Errors
    /// See [`Backend::load`](tenon_plugin_api::Backend::load).
    pub fn load(self: &Arc<Self>, args: &LoadArgs, report: Report) -> Result<GgufModel> {
        let options = Options::parse(&args.options)?;
        let params = params(args, &options)?;
        gguf::check_model(&args.path)?;
        let threads = self.threads(args.threads);
        let level = args.quantize.as_deref();
        let file = self.files.find(&args.path, level, threads, report)?;
        weights::check(&file.path, threads)?;
        Ok(GgufModel {
            weights: Arc::new(Weights(read(&self.backend, &file.path, params, report)?)),
            options,
            loader: Arc::clone(self),
            args: args.clone(),
            file,
        })
    }

    pub fn threads(&self, asked: u32) -> u32 {
        match asked {
            0 => self.threads,
            asked => asked,
        }
    }
}

fn params(args: &LoadArgs, options: &Options) -> Result<LlamaModelParams> {
    let mut params = LlamaModelParams::default().with_use_mmap(options.mmap);
    if let Some(layers) = options.gpu_layers {
        params = params.with_n_gpu_layers(layers);
    }
    if args.devices.is_empty() {
        return Ok(params);
    }
    let gpus = devices::gpus(&args.devices)?;
    if gpus.is_empty() {
        params = params.with_n_gpu_layers(0);
    }
    params
        .with_devices(&gpus)
        .map_err(|error| Error::invalid(format!("the model's devices: {error}")))
}

fn read(
    backend: &LlamaBackend,
    path: &Path,
    params: LlamaModelParams,
    report: Report,
) -> Result<LlamaModel> {
    let cancelled = Rc::new(Cell::new(false));
    let seen = Rc::clone(&cancelled);
    let message = format!("loading {}", path.display());
    let report = std::ptr::from_ref(&report).cast::<()>();
    let params = params.with_progress_callback(move |fraction| {
        // SAFETY: the pointer is to a `Report` that lives as long as this function, and so do the parameters.
        let report = unsafe { *report.cast::<Report>() };
        seen.set(report(Some(fraction), &message).is_err());
        !seen.get()
    });
    let load = || LlamaModel::load_from_file(backend, path, &params);
    let (model, reason) = log::with_reason(|| shim::reading(load));
    model.map_err(|_| {
        if cancelled.get() {
            return Error::new(Code::CANCELLED, "loading was cancelled");
        }
        failure(
            &format!("llama.cpp cannot load {}", path.display()),
            &reason,
        )
    })
}

/// An error for something that llama.cpp refused, with the reason that it logged.
pub fn failure(what: &str, reason: &str) -> Error {
    let code = match reason.contains("alloc") {
        true => Code::NO_MEMORY,
        false => Code::INVALID,
    };
    match reason {
        "" => Error::new(code, format!("{what}, and gives no reason")),
        reason => Error::new(code, format!("{what}: {reason}")),
    }
}

impl Model for GgufModel {
    fn info(&self) -> ModelInfo {
        let model = &self.weights.0;
        ModelInfo {
            architecture: self
                .weights
                .text("general.architecture")
                .unwrap_or_default(),
            parameters: model.n_params(),
            weight_bytes: model.size(),
            context_length: model.n_ctx_train(),
            vocab_size: self.weights.vocab_size(),
            logits_width: self.weights.vocab_size(),
            bos: u32::try_from(model.vocab().bos().0).ok(),
            eos: self.weights.ends_of_generation(),
            chat_template: model
                .chat_template(None)
                .ok()
                .and_then(|t| t.to_string().ok()),
            tool_chat_template: self.weights.text("tokenizer.chat_template.tool_use"),
            quantization: self.weights.quantization(),
            source_quantization: self.file.source_level.clone(),
            fallback_tensors: self.file.fallback_tensors,
            requantize_levels: file_types::levels_from(&self.file.source_level),
            capabilities: self.weights.capabilities(),
            sampling: self.weights.sampling(),
        }
    }

    fn tokenizer(&self) -> Result<Box<dyn Tokenizer>> {
        Ok(Box::new(LlamaTokenizer::new(Arc::clone(&self.weights))?))
    }

    fn session(&self, args: &SessionArgs) -> Result<Box<dyn Session>> {
        let threads = match args.threads {
            0 => self.loader.threads(self.args.threads),
            threads => threads,
        };
        let weights = Arc::clone(&self.weights);
        Ok(Box::new(LlamaSession::new(
            weights,
            args,
            &self.options,
            threads,
        )?))
    }

    fn embedder(&self) -> Option<Box<dyn Embedder>> {
        let weights = Arc::clone(&self.weights);
        let pooling = weights.pooling().filter(|_| !weights.is_encoder())?;
        let threads = self.loader.threads(self.args.threads);
        let options = self.options.clone();
        Some(Box::new(LlamaEmbedder::new(
            weights, options, threads, pooling,
        )))
    }

    fn requantize(&self, level: &str, progress: &Progress) -> Result<Box<dyn Model>> {
        let args = LoadArgs {
            quantize: Some(level.to_owned()),
            ..self.args.clone()
        };
        let report = |fraction, message: &str| progress.report(fraction, message);
        Ok(Box::new(self.loader.load(&args, &report)?))
    }
}

/// A loaded model, with everything that tokenizers and sessions need of it.
pub struct Weights(pub LlamaModel);

impl Weights {
    /// llama.cpp's model, valid as long as `self`.
    pub fn raw(&self) -> *mut sys::llama_model {
        // SAFETY: `LlamaModel` is `repr(transparent)` over this pointer, and its version is pinned. It has no method that
        // returns the pointer.
        unsafe { *std::ptr::from_ref(&self.0).cast() }
    }

    /// llama.cpp's vocabulary, valid as long as `self`.
    pub fn vocab(&self) -> *const sys::llama_vocab {
        // SAFETY: the model is valid.
        unsafe { sys::llama_model_get_vocab(self.raw()) }
    }

    pub fn vocab_size(&self) -> u32 {
        self.0.n_vocab().unsigned_abs()
    }

    /// Whether a sequence's state is a recurrent one of fixed size, which cannot be truncated.
    pub fn is_recurrent(&self) -> bool {
        self.0.is_recurrent() || self.0.is_hybrid()
    }

    /// Whether the model has an encoder, or does not generate from left to right.
    pub fn is_encoder(&self) -> bool {
        // SAFETY: the model is valid.
        unsafe {
            sys::llama_model_has_encoder(self.raw()) || sys::llama_model_is_diffusion(self.raw())
        }
    }

    /// How the vectors of a text's tokens become one vector. None for models that score pairs of texts instead.
    pub fn pooling(&self) -> Option<Pooling> {
        let architecture = self.text("general.architecture").unwrap_or_default();
        Pooling::from_gguf(self.number(&format!("{architecture}.pooling_type")))
    }

    /// Length of a token's vector.
    pub fn embedding_dimensions(&self) -> u32 {
        // SAFETY: the model is valid.
        unsafe { sys::llama_model_n_embd_out(self.raw()) }.unsigned_abs()
    }

    /// Numbers that the KV cache holds for one token.
    pub fn kv_numbers_per_token(&self) -> u64 {
        let model = &self.0;
        let architecture = self.text("general.architecture").unwrap_or_default();
        let average = model.n_embd().unsigned_abs() / model.n_head().max(1);
        let head = |part| {
            self.number(&format!("{architecture}.attention.{part}_length"))
                .unwrap_or(average)
        };
        let per_layer = u64::from(model.n_head_kv()) * u64::from(head("key") + head("value"));
        u64::from(model.n_layer()) * per_layer
    }

    /// The number of idle cells that slow down decode by a twentieth. Every head of every layer passes over each of these
    /// cells. The rest of a step takes as long as reading the weights.
    pub fn costly_idle_tokens(&self) -> u32 {
        let heads = self.0.n_layer() * self.0.n_head();
        let cells = self.0.size() as f64 * IDLE_HEADS_PER_WEIGHT_BYTE / f64::from(heads.max(1));
        (cells as u32).max(1)
    }

    fn text(&self, key: &str) -> Option<String> {
        self.0.meta_val_str(key).ok()
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.text(key)?.parse().ok()
    }

    fn ends_of_generation(&self) -> Vec<u32> {
        let vocab = self.0.vocab();
        let ends = vocab.tokens().filter(|&token| vocab.is_eog(token));
        let mut ends: Vec<_> = ends.collect();
        // The token that the file calls EOS comes first.
        ends.sort_by_key(|&token| token != vocab.eos());
        ends.iter().map(|token| token.0.unsigned_abs()).collect()
    }

    /// The level's name, or llama.cpp's name of a file type that is no level.
    fn quantization(&self) -> String {
        // SAFETY: the model is valid, and the name a constant.
        let (file_type, name) = unsafe {
            let file_type = sys::llama_model_ftype(self.raw());
            (file_type, CStr::from_ptr(sys::llama_ftype_name(file_type)))
        };
        let level = file_types::level(file_type);
        level.map_or_else(|| name.to_string_lossy().into_owned(), str::to_owned)
    }

    fn capabilities(&self) -> Capabilities {
        // SAFETY: the vocabulary belongs to the model.
        match unsafe { sys::llama_vocab_type(self.vocab()) } {
            // These tokenizers cut text by merges or scores alone, and lose nothing of it. The others normalize text.
            sys::LLAMA_VOCAB_TYPE_BPE | sys::LLAMA_VOCAB_TYPE_SPM => {
                Capabilities::CANONICAL_TOKENIZER
            }
            _ => Capabilities::default(),
        }
    }

    fn sampling(&self) -> SamplingDefaults {
        let mut defaults = SamplingDefaults::default();
        if let Some(value) = self.number("general.sampling.temp") {
            defaults = defaults.with_temperature(value);
        }
        if let Some(value) = self.number("general.sampling.top_p") {
            defaults = defaults.with_top_p(value);
        }
        if let Some(value) = self.number("general.sampling.min_p") {
            defaults = defaults.with_min_p(value);
        }
        if let Some(value) = self.number("general.sampling.top_k") {
            defaults = defaults.with_top_k(value);
        }
        if let Some(value) = self.number("general.sampling.penalty_repeat") {
            defaults = defaults.with_repetition_penalty(value);
        }
        defaults
    }
}
