//! Tokenizers of the crate `tokenizers`: from a Hugging Face directory, or from the metadata of a GGUF file. Feature
//! `hf-tokenizer`.
//!
//! Both become one [`HfTokenizer`]: the byte-pair model, normalizers and pre-tokenizers of the `tokenizers` crate. They are
//! put together so that text becomes a control token only if the caller asks for it.
//!
//! 1. [`from_dir`] or [`from_gguf`] returns [`Prompting`]: the tokenizer, and what else the files say about prompts.
//!    [`HfTokenizer::from_file`] reads a `tokenizer.json` alone.
//! 2. [`Model::tokenizer`](crate::Model::tokenizer) returns a clone of the tokenizer, which is cheap.
//! 3. [`Model::info`](crate::Model::info) takes the rest, as below.
//!
//! ```
//! use tenon_plugin_api::{Capabilities, ModelInfo, hf_tokenizer::Prompting};
//!
//! fn info(prompting: &Prompting) -> ModelInfo {
//!     let mut info = ModelInfo::new("llama", 8192, prompting.tokenizer.vocab_size());
//!     info.bos = prompting.bos;
//!     info.eos = prompting.eos.clone();
//!     info.chat_template = prompting.chat_template.clone();
//!     info.tool_chat_template = prompting.tool_chat_template.clone();
//!     info.sampling = prompting.sampling;
//!     if prompting.tokenizer.is_canonical() {
//!         info.capabilities = Capabilities::CANONICAL_TOKENIZER;
//!     }
//!     info
//! }
//! ```
//!
//! A model may have more rows of embeddings than its files have tokens: set `vocab_size` to the tokens and `logits_width` to the
//! rows. Other kinds of tokenizers than byte pairs (Unigram, WordPiece) are refused.

mod gguf;
mod hf_config;
mod hf_dir;
mod pipeline;
mod pre_tokenizers;
mod sentencepiece;
mod spelling;
mod tokenizer;
mod tokens;

#[cfg(test)]
mod tests;

pub use gguf::from_gguf;
pub use hf_dir::from_dir;
pub use tokenizer::HfTokenizer;

use crate::SamplingDefaults;

/// What a model's files say about prompts and generation.
#[derive(Clone)]
#[non_exhaustive]
pub struct Prompting {
    /// Cheap to clone.
    pub tokenizer: HfTokenizer,
    /// Begin of sequence, if the model has one.
    pub bos: Option<u32>,
    /// Every token that ends a generation; the first is the one that chat templates call `eos_token`.
    pub eos: Vec<u32>,
    /// Jinja source.
    pub chat_template: Option<String>,
    /// The template of chats with tools, if they have a separate one.
    pub tool_chat_template: Option<String>,
    /// What the model's makers recommend.
    pub sampling: SamplingDefaults,
}
