//! A loaded model: its weights, its vocabulary, and the facts in its metadata.

use std::{ffi::CStr, str::FromStr};

use llama_cpp_2::{model::LlamaModel, token::LlamaToken};
use llama_cpp_sys_2 as sys;
use tenon_plugin_api::{Capabilities, Pooling, SamplingDefaults};

use crate::file_types;

/// The product of idle cells and heads, for each byte of weights, that makes a step a twentieth slower. Measured on CPUs with
/// `tenon bench engine --idle-tokens`: 1,000 cells of SmolLM2, with its 270 heads and 97 MB.
const IDLE_HEADS_PER_WEIGHT_BYTE: f64 = 0.0028;

/// A loaded model. Tokenizers and sessions share it.
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

    /// Whether some or all layers keep a recurrent state of fixed size for each sequence, which cannot be truncated.
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

    /// How the vectors of a text's tokens become one vector. None for models that judge pairs of texts instead.
    pub fn pooling(&self) -> Option<Pooling> {
        Pooling::from_gguf(self.number(&self.key("pooling_type")))
    }

    /// Whether tokens attend to later ones too. Such a model computes whole texts, has no KV cache and generates no text.
    pub fn is_bidirectional(&self) -> bool {
        self.number(&self.key("attention.causal")) == Some(false)
    }

    /// Whether the model judges pairs of texts: its head has one output, or two for yes and no.
    pub fn is_judge(&self) -> bool {
        // SAFETY: the model is valid.
        let outputs = unsafe { sys::llama_model_n_cls_out(self.raw()) };
        let pooling: Option<i32> = self.number(&self.key("pooling_type"));
        pooling == Some(sys::LLAMA_POOLING_TYPE_RANK)
            && (outputs == 1 || (outputs == 2 && self.judges_in_probabilities()))
    }

    /// Whether llama.cpp turns the outputs of the model's head into probabilities.
    pub fn judges_in_probabilities(&self) -> bool {
        let architecture = self.text("general.architecture");
        matches!(architecture.as_deref(), Some("qwen3" | "qwen3vl"))
    }

    /// The text of a pair with its control tokens: the file's own, or that of the vocabulary's special tokens.
    pub fn pair_template(&self) -> String {
        let own = self.text("tokenizer.chat_template.rerank");
        own.unwrap_or_else(|| self.pair_of_special_tokens())
    }

    /// The text of a pair as llama.cpp's server builds it. It ends with the end token, or with the separator where no end
    /// token is added, as in BERT vocabularies whose files do not say which tokens are added.
    fn pair_of_special_tokens(&self) -> String {
        let vocab = self.vocab();
        // SAFETY: the vocabulary belongs to the model.
        let (bos, eos, sep) = unsafe {
            (
                (
                    sys::llama_vocab_get_add_bos(vocab),
                    sys::llama_vocab_bos(vocab),
                ),
                (
                    sys::llama_vocab_get_add_eos(vocab),
                    sys::llama_vocab_eos(vocab),
                ),
                (
                    sys::llama_vocab_get_add_sep(vocab),
                    sys::llama_vocab_sep(vocab),
                ),
            )
        };
        let text = |(is_added, token): (bool, i32)| match is_added {
            true => self.token_text(token),
            false => String::new(),
        };
        let begin = text(bos);
        let (eos, sep) = (
            text((eos.0, if eos.1 < 0 { sep.1 } else { eos.1 })),
            text(sep),
        );
        let end = if eos.is_empty() { &sep } else { &eos };
        format!("{begin}{{query}}{eos}{sep}{{document}}{end}")
    }

    /// The text of a token. Empty for an id that is no token.
    fn token_text(&self, token: sys::llama_token) -> String {
        let mut bytes = Vec::new();
        if (0..self.vocab_size() as i32).contains(&token) {
            let vocab = self.0.vocab();
            vocab.token_to_piece_into(LlamaToken(token), &mut bytes, true, None);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Length of a token's vector.
    pub fn embedding_dimensions(&self) -> u32 {
        // SAFETY: the model is valid.
        unsafe { sys::llama_model_n_embd_out(self.raw()) }.unsigned_abs()
    }

    /// Numbers that the KV cache holds for one token.
    pub fn kv_numbers_per_token(&self) -> u64 {
        let model = &self.0;
        let average = model.n_embd().unsigned_abs() / model.n_head().max(1);
        let head = |part| {
            self.number(&self.key(&format!("attention.{part}_length")))
                .unwrap_or(average)
        };
        let per_layer = u64::from(model.n_head_kv()) * u64::from(head("key") + head("value"));
        u64::from(model.n_layer()) * per_layer
    }

    /// The number of idle cells that slow down decode by a twentieth. Every head of every layer passes over each of these
    /// cells. The rest of a step takes as long as reading the weights. 0 without attention: idle cells then cost nothing.
    pub fn costly_idle_tokens(&self) -> u32 {
        if self.0.is_recurrent() {
            return 0;
        }
        let heads = self.0.n_layer() * self.0.n_head();
        let cells = self.0.size() as f64 * IDLE_HEADS_PER_WEIGHT_BYTE / f64::from(heads.max(1));
        (cells as u32).max(1)
    }

    /// The name of a key of the architecture.
    fn key(&self, name: &str) -> String {
        let architecture = self.text("general.architecture").unwrap_or_default();
        format!("{architecture}.{name}")
    }

    /// A text of the file's metadata.
    pub fn text(&self, key: &str) -> Option<String> {
        self.0.meta_val_str(key).ok()
    }

    fn number<T: FromStr>(&self, key: &str) -> Option<T> {
        self.text(key)?.parse().ok()
    }

    /// The tokens that end a generation. The one that the file calls EOS comes first.
    pub fn ends_of_generation(&self) -> Vec<u32> {
        let vocab = self.0.vocab();
        let ends = vocab.tokens().filter(|&token| vocab.is_eog(token));
        let mut ends: Vec<_> = ends.collect();
        ends.sort_by_key(|&token| token != vocab.eos());
        ends.iter().map(|token| token.0.unsigned_abs()).collect()
    }

    /// The level's name, or llama.cpp's name of a file type that is no level.
    pub fn quantization(&self) -> String {
        // SAFETY: the model is valid, and the name a constant.
        let (file_type, name) = unsafe {
            let file_type = sys::llama_model_ftype(self.raw());
            (file_type, CStr::from_ptr(sys::llama_ftype_name(file_type)))
        };
        let level = file_types::level(file_type);
        level.map_or_else(|| name.to_string_lossy().into_owned(), str::to_owned)
    }

    pub fn capabilities(&self) -> Capabilities {
        // SAFETY: the vocabulary belongs to the model.
        match unsafe { sys::llama_vocab_type(self.vocab()) } {
            // These tokenizers cut text by merges or scores alone, and keep all of it. Other tokenizers normalize text.
            sys::LLAMA_VOCAB_TYPE_BPE | sys::LLAMA_VOCAB_TYPE_SPM => {
                Capabilities::CANONICAL_TOKENIZER
            }
            _ => Capabilities::default(),
        }
    }

    /// The sampling parameters that the file recommends.
    pub fn sampling(&self) -> SamplingDefaults {
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
