//! Tokenizers: from a Hugging Face directory, or from the metadata of a GGUF file.
//!
//! Both become one [`HfTokenizer`]: the byte-pair model, normalizers and pre-tokenizers of the `tokenizers` crate. They are
//! put together so that text becomes a control token only if the caller asks for it.
//!
//! 1. [`from_dir`] or [`from_gguf`] returns [`Prompting`]: the tokenizer, and what else the files say about prompts.
//! 2. [`HfTokenizer`] is the [`Tokenizer`](tenon_plugin_api::Tokenizer) that a plugin gives to the host.

mod gguf;
mod hf_config;
mod hf_dir;
mod hf_tokenizer;
mod pipeline;
mod pre_tokenizers;
mod sentencepiece;
mod spelling;
mod tokens;

#[cfg(test)]
mod tests;

pub use gguf::from_gguf;
pub use hf_dir::from_dir;
pub use hf_tokenizer::HfTokenizer;

use tenon_plugin_api::SamplingDefaults;

/// What a model's files say about prompts and generation.
#[derive(Clone)]
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
