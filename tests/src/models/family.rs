//! The tested model families: what they have in common, and how they differ.

use serde_json::{Value as Json, json};

/// A model family, under its name in GGUF files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Llama,
    Qwen2,
    Qwen3,
    Gemma2,
    Gemma3,
}

/// Sizes of a model.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub hidden: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_size: usize,
    pub ffn: usize,
    pub context: usize,
}

/// A weight under its names in both formats, without `.weight`.
pub struct Weight {
    pub hf: String,
    pub gguf: String,
    pub dims: Vec<usize>,
    pub role: Role,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Embedding,
    Matrix,
    /// The projection to queries or keys of `heads` heads, which RoPE rotates.
    Rotated {
        heads: usize,
    },
    Norm,
    /// The weights of a norm whose output is small.
    FaintNorm,
    Bias,
}

/// Number of positions that local layers see: fewer than the tests' texts have.
const WINDOW: usize = 16;
const EPSILON: f32 = 1e-6;

impl Family {
    pub const ALL: [Self; 5] = [
        Self::Llama,
        Self::Qwen2,
        Self::Qwen3,
        Self::Gemma2,
        Self::Gemma3,
    ];

    pub fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma2 => "gemma2",
            Self::Gemma3 => "gemma3",
        }
    }

    /// A small shape. There are more query heads than KV heads. If the family allows it, the head size is no fraction of the
    /// hidden size.
    pub fn tiny(self) -> Shape {
        Shape {
            hidden: 64,
            // Gemma 3 has one global layer in six.
            layers: if self == Self::Gemma3 { 7 } else { 3 },
            heads: 4,
            kv_heads: 2,
            head_size: if self.has_free_heads() { 32 } else { 16 },
            ffn: 160,
            context: 256,
        }
    }

    /// Whether the family's tokenizer is SentencePiece's.
    pub fn has_pieces(self) -> bool {
        self.is_gemma()
    }

    fn is_gemma(self) -> bool {
        matches!(self, Self::Gemma2 | Self::Gemma3)
    }

    fn has_free_heads(self) -> bool {
        self.is_gemma() || self == Self::Qwen3
    }

    fn has_head_norms(self) -> bool {
        matches!(self, Self::Qwen3 | Self::Gemma3)
    }

    fn rope_base(self) -> f32 {
        match self {
            Self::Gemma3 => 1e6,
            _ => 1e4,
        }
    }

    /// Whether GGUF files interleave the halves of each head.
    pub fn interleaves_heads(self) -> bool {
        self == Self::Llama
    }

    /// How much lower the norms' weights are in directories than in GGUF files: Gemma stores them around 0.
    pub fn norm_offset(self) -> f32 {
        if self.is_gemma() { 1.0 } else { 0.0 }
    }

    /// config.json.
    pub fn config(self, shape: &Shape, vocab_size: usize) -> Json {
        let mut config = json!({
            "architectures": [self.hf_architecture()],
            "model_type": self.model_type(),
            "hidden_size": shape.hidden,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "head_dim": shape.head_size,
            "intermediate_size": shape.ffn,
            "max_position_embeddings": shape.context,
            "vocab_size": vocab_size,
            "rms_norm_eps": EPSILON,
            "rope_theta": self.rope_base(),
            "hidden_act": "silu",
            "tie_word_embeddings": true,
            "torch_dtype": "float32",
        });
        if self.is_gemma() {
            config["hidden_activation"] = json!("gelu_pytorch_tanh");
            config["hidden_act"] = json!("gelu_pytorch_tanh");
            config["sliding_window"] = json!(WINDOW);
            config["query_pre_attn_scalar"] = json!(shape.head_size);
        }
        match self {
            Self::Gemma2 => {
                config["attn_logit_softcapping"] = json!(50.0);
                config["final_logit_softcapping"] = json!(30.0);
            }
            Self::Gemma3 => {
                config["sliding_window_pattern"] = json!(6);
                config["rope_local_base_freq"] = json!(1e4);
            }
            _ => {}
        }
        config
    }

    fn hf_architecture(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::Gemma2 => "Gemma2ForCausalLM",
            Self::Gemma3 => "Gemma3ForCausalLM",
        }
    }

    fn model_type(self) -> &'static str {
        match self {
            Self::Gemma3 => "gemma3_text",
            other => other.architecture(),
        }
    }

    /// Integers of the GGUF metadata. Their keys are without the architecture.
    pub fn sizes(self, shape: &Shape) -> Vec<(&'static str, usize)> {
        let mut sizes = vec![
            ("context_length", shape.context),
            ("embedding_length", shape.hidden),
            ("block_count", shape.layers),
            ("feed_forward_length", shape.ffn),
            ("attention.head_count", shape.heads),
            ("attention.head_count_kv", shape.kv_heads),
            ("attention.key_length", shape.head_size),
            ("attention.value_length", shape.head_size),
            ("rope.dimension_count", shape.head_size),
        ];
        if self.is_gemma() {
            sizes.push(("attention.sliding_window", WINDOW));
        }
        sizes
    }

    /// Floats of the GGUF metadata.
    pub fn factors(self) -> Vec<(&'static str, f32)> {
        let mut factors = vec![
            ("attention.layer_norm_rms_epsilon", EPSILON),
            ("rope.freq_base", self.rope_base()),
        ];
        if self == Self::Gemma2 {
            factors.push(("attn_logit_softcapping", 50.0));
            factors.push(("final_logit_softcapping", 30.0));
        }
        factors
    }

    /// All weights. The output layer uses the embedding.
    pub fn weights(self, shape: &Shape, vocab_size: usize) -> Vec<Weight> {
        let (hidden, role) = (shape.hidden, Role::Norm);
        let embedding = vec![vocab_size, hidden];
        let mut weights = vec![
            weight(
                "model.embed_tokens",
                "token_embd",
                embedding,
                Role::Embedding,
            ),
            weight("model.norm", "output_norm", vec![hidden], role),
        ];
        for layer in 0..shape.layers {
            for mut weight in self.layer(shape) {
                weight.hf = format!("model.layers.{layer}.{}", weight.hf);
                weight.gguf = format!("blk.{layer}.{}", weight.gguf);
                weights.push(weight);
            }
        }
        weights
    }

    fn layer(self, shape: &Shape) -> Vec<Weight> {
        let Shape {
            hidden,
            heads,
            kv_heads,
            head_size,
            ffn,
            ..
        } = *shape;
        let (queries, keys) = (heads * head_size, kv_heads * head_size);
        let mut weights = vec![
            weight(
                "self_attn.q_proj",
                "attn_q",
                vec![queries, hidden],
                Role::Rotated { heads },
            ),
            weight(
                "self_attn.k_proj",
                "attn_k",
                vec![keys, hidden],
                Role::Rotated { heads: kv_heads },
            ),
            weight(
                "self_attn.v_proj",
                "attn_v",
                vec![keys, hidden],
                Role::Matrix,
            ),
            weight(
                "self_attn.o_proj",
                "attn_output",
                vec![hidden, queries],
                Role::Matrix,
            ),
            weight("mlp.gate_proj", "ffn_gate", vec![ffn, hidden], Role::Matrix),
            weight("mlp.up_proj", "ffn_up", vec![ffn, hidden], Role::Matrix),
            weight("mlp.down_proj", "ffn_down", vec![hidden, ffn], Role::Matrix),
        ];
        let norms: &[(&str, &str, Role)] = match self.is_gemma() {
            true => &[
                ("input_layernorm", "attn_norm", Role::Norm),
                (
                    "post_attention_layernorm",
                    "post_attention_norm",
                    Role::Norm,
                ),
                ("pre_feedforward_layernorm", "ffn_norm", Role::Norm),
                // llama.cpp's GELU rounds to 16 bits on CPUs. With an MLP output as large as the rest, this alone would move
                // logits by some thousandths.
                (
                    "post_feedforward_layernorm",
                    "post_ffw_norm",
                    Role::FaintNorm,
                ),
            ],
            false => &[
                ("input_layernorm", "attn_norm", Role::Norm),
                ("post_attention_layernorm", "ffn_norm", Role::Norm),
            ],
        };
        weights.extend(
            norms
                .iter()
                .map(|&(hf, gguf, role)| weight(hf, gguf, vec![hidden], role)),
        );
        if self.has_head_norms() {
            weights.push(weight(
                "self_attn.q_norm",
                "attn_q_norm",
                vec![head_size],
                Role::Norm,
            ));
            weights.push(weight(
                "self_attn.k_norm",
                "attn_k_norm",
                vec![head_size],
                Role::Norm,
            ));
        }
        if self == Self::Qwen2 {
            for (part, width) in [("q", queries), ("k", keys), ("v", keys)] {
                let (hf, gguf) = (format!("self_attn.{part}_proj"), format!("attn_{part}"));
                weights.push(weight(&hf, &gguf, vec![width], Role::Bias));
            }
        }
        weights
    }
}

fn weight(hf: &str, gguf: &str, dims: Vec<usize>, role: Role) -> Weight {
    Weight {
        hf: hf.to_owned(),
        gguf: gguf.to_owned(),
        dims,
        role,
    }
}
