//! A model in memory, and how the plugins load it from files.

use std::sync::Arc;

use tenon_plugin_api::{
    Capabilities, Embedder, Error, Estimate, Model, ModelInfo, Progress, Result, Session,
    SessionArgs, Tokenizer, hf_tokenizer::Prompting, levels,
};

use crate::{
    compute::Compute,
    config::Config,
    decoder::{Decoder, ReportFraction},
    embedder::DecoderEmbedder,
    kernels::memory::{Arena, LargePages},
    kv::KvType,
    pool,
    session::DecoderSession,
    weights::{
        TensorLoader, TensorSource,
        quantize::{self, Quantizer},
    },
};

/// A model's files, opened.
pub trait Files: Send + Sync {
    /// # Errors
    /// `INVALID` for unknown architectures and for missing values.
    fn config(&self) -> Result<Config>;

    /// Tokenizer and chat template.
    ///
    /// # Errors
    /// `INVALID` for unknown tokenizers and for missing values.
    fn prompting(&self) -> Result<Prompting>;

    /// Where the weights come from.
    fn source(&self) -> &dyn TensorSource;

    /// The level that the weights have, for example `Q4_1`.
    fn level(&self) -> &str;

    /// Number of weights.
    fn parameters(&self) -> u64;

    /// Bytes that the weights take.
    fn bytes(&self) -> u64;
}

/// Opens a model's files again: every level is made from the original weights.
pub type Open = Box<dyn Fn() -> Result<Box<dyn Files>> + Send + Sync>;

/// A model's files and settings, without its level.
pub struct Origin {
    pub open: Open,
    pub kv_type: KvType,
    /// Threads for everything but sessions. 0: all threads that the plugin may use.
    pub threads: u32,
}

/// A model in memory. Sessions share its weights.
pub struct DecoderModel<C: Compute> {
    origin: Arc<Origin>,
    decoder: Arc<Decoder<C>>,
    prompting: Prompting,
    level: String,
    source_level: String,
    fallback_tensors: u32,
}

impl<C: Compute> DecoderModel<C> {
    /// A new model at another level, made from the files, while sessions of this one compute.
    ///
    /// # Errors
    /// Those of [`load`].
    pub fn at(&self, level: &str, report: &ReportFraction) -> Result<Self> {
        load(
            self.decoder.compute().clone(),
            Arc::clone(&self.origin),
            Some(level),
            LargePages::Later,
            report,
        )
    }

    /// See [`Decoder::uses_candles_threads`].
    pub fn uses_candles_threads(&self) -> bool {
        self.decoder.uses_candles_threads()
    }
}

/// Loads a model, and quantizes it if a level is asked for.
///
/// # Errors
/// Those of [`Files`], [`Quantizer::new`] and [`Decoder::load`].
pub fn load<C: Compute>(
    compute: C,
    origin: Arc<Origin>,
    level: Option<&str>,
    pages: LargePages,
    report: &ReportFraction,
) -> Result<DecoderModel<C>> {
    let files = (origin.open)()?;
    let source_level = files.level().to_owned();
    let quantizer = quantizer(level, &source_level)?;
    let prompting = files.prompting()?;
    let loader = TensorLoader {
        source: files.source(),
        quantizer,
        arena: Arena::new(pages),
    };
    let decoder = Decoder::load(compute, files.config()?, &loader, report)?;
    check_vocabulary(&prompting, decoder.vocabulary())?;
    let (level, fallback_tensors) = match &loader.quantizer {
        Some(quantizer) => (quantizer.level().to_owned(), quantizer.fallbacks()),
        None => (source_level.clone(), 0),
    };
    Ok(DecoderModel {
        level,
        fallback_tensors,
        decoder: Arc::new(decoder),
        source_level,
        prompting,
        origin,
    })
}

/// # Errors
/// `INVALID` for a tokenizer with more tokens than the embedding has rows.
fn check_vocabulary(prompting: &Prompting, rows: usize) -> Result<()> {
    match prompting.tokenizer.vocab_size() {
        tokens if tokens as usize <= rows => Ok(()),
        tokens => Err(Error::invalid(format!(
            "the tokenizer has {tokens} tokens, but the model's embedding has {rows} rows: the files do not belong together"
        ))),
    }
}

/// Memory that a model takes on a device. On CPUs without AVX2 candle also keeps a copy of most weights of 4, 6 and 8 bits.
/// The copy is sorted for products of many rows.
///
/// # Errors
/// Those of [`Files`] and [`Quantizer::new`].
pub fn estimate(
    device: String,
    origin: &Origin,
    level: Option<&str>,
    session: &SessionArgs,
) -> Result<Vec<Estimate>> {
    let files = (origin.open)()?;
    let config = files.config()?;
    let weight_bytes = match quantizer(level, files.level())? {
        Some(quantizer) => {
            let bits = quantizer.tensor().bits_per_weight();
            (files.parameters() as f64 * f64::from(bits) / 8.0) as u64
        }
        None => files.bytes(),
    };
    // Hidden state, queries, keys and values, and the widest layer. The widest layer is about four times the hidden state.
    let activations = (config.hidden * 12 + 2 * config.heads * config.head) as u64;
    let mut estimate = Estimate::new(device);
    estimate.weight_bytes = weight_bytes;
    estimate.kv_bytes_per_token = config.kv_numbers_per_token() * origin.kv_type.bytes();
    estimate.compute_bytes =
        u64::from(session.max_batch_tokens).saturating_mul(activations * size_of::<f32>() as u64);
    Ok(vec![estimate])
}

/// None if the weights stay at their level.
fn quantizer(level: Option<&str>, source_level: &str) -> Result<Option<Quantizer>> {
    let offered = levels_from(source_level);
    let level = levels::change(level, source_level, &offered)?;
    level.map(Quantizer::new).transpose()
}

/// The levels that a model at the level `source` can have.
fn levels_from(source: &str) -> Vec<&'static str> {
    let made = quantize::offered();
    levels::offered(source, |level| made.contains(&level))
}

impl<C: Compute> Model for DecoderModel<C> {
    fn info(&self) -> ModelInfo {
        let config = self.decoder.config();
        let (prompting, architecture) = (&self.prompting, config.architecture.as_str());
        let vocab_size = prompting.tokenizer.vocab_size();
        let mut info = ModelInfo::new(architecture, config.context_length, vocab_size);
        info.parameters = self.decoder.parameters();
        info.weight_bytes = self.decoder.weight_bytes();
        info.logits_width = self.decoder.vocabulary() as u32;
        info.bos = prompting.bos;
        info.eos = prompting.eos.clone();
        info.chat_template = prompting.chat_template.clone();
        info.tool_chat_template = prompting.tool_chat_template.clone();
        info.quantization = self.level.clone();
        info.source_quantization = self.source_level.clone();
        info.fallback_tensors = self.fallback_tensors;
        let levels = levels_from(&self.source_level).into_iter();
        info.requantize_levels = levels.map(str::to_owned).collect();
        info.sampling = prompting.sampling;
        if prompting.tokenizer.is_canonical() {
            info.capabilities = Capabilities::CANONICAL_TOKENIZER;
        }
        info
    }

    fn tokenizer(&self) -> Result<Box<dyn Tokenizer>> {
        Ok(Box::new(self.prompting.tokenizer.clone()))
    }

    fn session(&self, args: &SessionArgs) -> Result<Box<dyn Session>> {
        let decoder = Arc::clone(&self.decoder);
        let session = DecoderSession::new(decoder, self.origin.kv_type, args)?;
        Ok(Box::new(session))
    }

    fn embedder(&self) -> Option<Box<dyn Embedder>> {
        let decoder = Arc::clone(&self.decoder);
        let pooling = decoder.config().pooling?;
        let threads = pool::wanted(self.origin.threads);
        let kv_type = self.origin.kv_type;
        let embedder = DecoderEmbedder::new(decoder, pooling, kv_type, threads);
        Some(Box::new(embedder))
    }

    fn requantize(&self, level: &str, progress: &Progress) -> Result<Box<dyn Model>> {
        let message = format!("quantizing to {level}");
        let report = |fraction| progress.report(Some(fraction), &message);
        Ok(Box::new(self.at(level, &report)?))
    }
}

#[cfg(test)]
mod tests;
