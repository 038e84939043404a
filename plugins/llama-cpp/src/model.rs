//! Loads GGUF files. A loaded model makes its tokenizers, sessions and embedders.

use std::{cell::Cell, path::Path, rc::Rc, sync::Arc};

use llama_cpp_2::{
    llama_backend::LlamaBackend,
    model::{LlamaModel, params::LlamaModelParams},
};
use tenon_plugin_api::{
    Code, Embedder, Error, LoadArgs, Model, ModelInfo, Progress, Result, Session, SessionArgs,
    Tokenizer,
};

use crate::{
    devices,
    embedder::LlamaEmbedder,
    file_types, finite, gguf,
    level_file::{LevelFile, LevelFiles},
    log,
    options::Options,
    pooled::{Output, PooledEmbedder},
    quantize::Report,
    session::LlamaSession,
    shim,
    tokenizer::LlamaTokenizer,
    weights::Weights,
};

/// A model in memory. Its tokenizers, sessions and embedders share the weights.
pub struct GgufModel {
    weights: Arc<Weights>,
    options: Options,
    loader: Arc<ModelLoader>,
    /// The arguments that it was loaded with, without the level.
    args: LoadArgs,
    file: LevelFile,
}

/// Loads models. Holds what a load needs besides its arguments.
pub struct ModelLoader {
    pub backend: Arc<LlamaBackend>,
    pub files: LevelFiles,
    /// Number of threads for models and sessions that do not choose one.
    pub threads: u32,
}

impl ModelLoader {
    /// Loads the model that `args` names.
    ///
    /// # Errors
    /// See [`Backend::load`](tenon_plugin_api::Backend::load).
    pub fn load(self: &Arc<Self>, args: &LoadArgs, report: Report) -> Result<GgufModel> {
        let options = Options::of(args)?;
        let params = params(args, &options)?;
        gguf::check_model(&args.path)?;
        let threads = self.threads(args.threads);
        let level = args.quantize.as_deref();
        let file = self.files.find(&args.path, level, threads, report)?;
        finite::check(&file.path, threads)?;
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
        log::failure(
            &format!("llama.cpp cannot load {}", path.display()),
            &reason,
        )
    })
}

impl Model for GgufModel {
    fn info(&self) -> ModelInfo {
        let (weights, model) = (&self.weights, &self.weights.0);
        let architecture = weights.text("general.architecture").unwrap_or_default();
        let mut info = ModelInfo::new(architecture, model.n_ctx_train(), weights.vocab_size());
        info.parameters = model.n_params();
        info.weight_bytes = model.size();
        info.bos = u32::try_from(model.vocab().bos().0).ok();
        info.eos = weights.ends_of_generation();
        let template = model.chat_template(None).ok();
        info.chat_template = template.and_then(|template| template.to_string().ok());
        info.tool_chat_template = weights.text("tokenizer.chat_template.tool_use");
        info.quantization = weights.quantization();
        info.source_quantization = self.file.source_level.clone();
        info.fallback_tensors = self.file.fallback_tensors;
        let levels = file_types::levels_from(&self.file.source_level);
        info.requantize_levels = levels.into_iter().map(str::to_owned).collect();
        info.capabilities = weights.capabilities();
        info.sampling = weights.sampling();
        if weights.is_bidirectional() {
            info.set_without_text();
        }
        info
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
        if weights.is_bidirectional() {
            return Err(Error::unsupported("generating text with an encoder"));
        }
        Ok(Box::new(LlamaSession::new(
            weights,
            args,
            &self.options,
            threads,
        )?))
    }

    fn embedder(&self) -> Option<Box<dyn Embedder>> {
        let weights = Arc::clone(&self.weights);
        let threads = self.loader.threads(self.args.threads);
        let options = self.options.clone();
        if weights.is_encoder() {
            return None;
        }
        if let Some(output) = Output::of(&weights) {
            let embedder = PooledEmbedder::new(weights, options, threads, output);
            return Some(Box::new(embedder));
        }
        let pooling = weights.pooling()?;
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
