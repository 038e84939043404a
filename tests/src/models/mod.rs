//! Models for tests, with random weights from fixed seeds and small vocabularies. They are written as a Hugging Face
//! directory and as GGUF.

mod bert;
mod family;
mod random;
mod recurrent;
mod smollm2;
mod split;
mod tensors;
mod texts;
mod vocabulary;
mod write;

pub use bert::Bert;
pub use family::{Family, Shape};
pub use recurrent::Recurrent;
pub use smollm2::{smollm2_f32_dir, smollm2_f32_gguf};
pub use split::split_gguf;
pub use texts::{CODE, LANGUAGES, TEXTS};
pub use vocabulary::TestVocabulary;

use std::path::Path;

use candle_core::DType;
use tenon_plugin_api::Pooling;

/// A model to write.
#[derive(Clone)]
pub struct TestModel {
    pub family: Family,
    pub shape: Shape,
    pub vocabulary: TestVocabulary,
    /// `tokenizer.ggml.pre` in the GGUF file.
    pub pre: &'static str,
    /// Type of the weights. Norms and biases are f32 in GGUF files.
    pub dtype: DType,
    pub seed: u64,
    /// The pooling that the files state. None: they state none.
    pub pooling: Option<Pooling>,
    /// Makes the GGUF file one of a model that judges pairs of texts, as Qwen3-Reranker does.
    pub rank: Option<RankHead>,
}

/// The tokens by whose probabilities a model judges, and the text of a pair.
#[derive(Clone, Copy)]
pub struct RankHead {
    pub yes: u32,
    pub no: u32,
    pub template: &'static str,
}

impl TestModel {
    /// A model with some hundred thousand parameters, in f32.
    pub fn tiny(family: Family) -> Self {
        Self {
            family,
            shape: family.tiny(),
            vocabulary: match family.has_pieces() {
                true => TestVocabulary::sentence_piece(700, false),
                false => TestVocabulary::byte_level(700),
            },
            pre: "gpt-2",
            dtype: DType::F32,
            seed: 42,
            pooling: None,
            rank: None,
        }
    }

    /// A Llama with 150 million parameters. Its widths are multiples of 256, which every quantization needs.
    pub fn llama_150m(dtype: DType) -> Self {
        Self {
            shape: Shape {
                hidden: 768,
                layers: 20,
                heads: 12,
                kv_heads: 4,
                head_size: 64,
                ffn: 2048,
                context: 2048,
            },
            vocabulary: TestVocabulary::byte_level(700).padded(32_000),
            dtype,
            ..Self::tiny(Family::Llama)
        }
    }

    /// Writes a GGUF file.
    pub fn write_gguf(&self, path: &Path) {
        write::gguf(self, path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Writes a Hugging Face directory.
    pub fn write_dir(&self, folder: &Path) {
        write::dir(self, folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    }
}
