//! Models with recurrent layers, as GGUF files for llama.cpp. The shapes are those that its loaders want.

use std::path::Path;

use candle_core::{Result, quantized::gguf_file::Value};

use super::{
    TestVocabulary,
    tensors::{RandomWeight, bias, embedding, matrix, norm, random_tensors, weight, write_tensors},
};

/// An architecture with recurrent layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recurrent {
    /// Purely recurrent: there is no KV.
    Mamba,
    /// A hybrid: short convolutions, and layers of attention among them.
    Lfm2,
}

const HIDDEN: usize = 64;
const FFN: usize = 160;
const CONTEXT: u32 = 2048;
const EPSILON: f32 = 1e-5;

/// Sizes of Mamba's layers.
const INNER: usize = 2 * HIDDEN;
const STATE: usize = 16;
const RANK: usize = 4;
const KERNEL: usize = 4;
const MAMBA_LAYERS: usize = 2;

/// Sizes of LFM2's layers. A layer without KV heads is a convolution.
const HEADS: usize = 4;
const HEAD_SIZE: usize = HIDDEN / HEADS;
const KV_HEADS: [usize; 4] = [0, 2, 0, 2];
const WINDOW: usize = 3;

impl Recurrent {
    pub const ALL: [Self; 2] = [Self::Mamba, Self::Lfm2];

    /// Writes a GGUF file with random weights.
    pub fn write_gguf(self, path: &Path) {
        self.write(path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    fn write(self, path: &Path) -> Result<()> {
        let vocabulary = TestVocabulary::byte_level(700);
        let tensors = random_tensors(&self.weights(vocabulary.size()), 7)?;
        let mut metadata = self.metadata();
        metadata.extend(vocabulary.gguf("gpt-2"));
        write_tensors(path, &metadata, &tensors)
    }

    fn architecture(self) -> &'static str {
        match self {
            Self::Mamba => "mamba",
            Self::Lfm2 => "lfm2",
        }
    }

    fn metadata(self) -> Vec<(String, Value)> {
        let size = |size: usize| Value::U32(size as u32);
        let mut pairs = vec![
            ("context_length", Value::U32(CONTEXT)),
            ("embedding_length", size(HIDDEN)),
            ("attention.layer_norm_rms_epsilon", Value::F32(EPSILON)),
        ];
        pairs.extend(match self {
            Self::Mamba => vec![
                ("block_count", size(MAMBA_LAYERS)),
                ("feed_forward_length", size(0)),
                ("attention.head_count", size(0)),
                ("ssm.conv_kernel", size(KERNEL)),
                ("ssm.inner_size", size(INNER)),
                ("ssm.state_size", size(STATE)),
                ("ssm.time_step_rank", size(RANK)),
            ],
            Self::Lfm2 => vec![
                ("block_count", size(KV_HEADS.len())),
                ("feed_forward_length", size(FFN)),
                ("attention.head_count", size(HEADS)),
                // llama.cpp reads these as signed numbers.
                (
                    "attention.head_count_kv",
                    Value::Array(KV_HEADS.map(|heads| Value::I32(heads as i32)).into()),
                ),
                ("rope.freq_base", Value::F32(1e4)),
                ("shortconv.l_cache", size(WINDOW)),
            ],
        });
        let architecture = self.architecture();
        let named = pairs
            .into_iter()
            .map(|(key, value)| (format!("{architecture}.{key}"), value));
        let general = (
            "general.architecture".to_owned(),
            Value::String(architecture.to_owned()),
        );
        [general].into_iter().chain(named).collect()
    }

    fn weights(self, vocab_size: usize) -> Vec<RandomWeight> {
        let (output_norm, layers) = match self {
            Self::Mamba => ("output_norm", MAMBA_LAYERS),
            Self::Lfm2 => ("token_embd_norm", KV_HEADS.len()),
        };
        let mut weights = vec![
            embedding("token_embd.weight", &[vocab_size, HIDDEN]),
            norm(&format!("{output_norm}.weight"), HIDDEN),
            matrix("output.weight", &[vocab_size, HIDDEN]),
        ];
        for layer in 0..layers {
            let prefix = format!("blk.{layer}.");
            let layer = self.layer(layer).into_iter();
            weights.extend(layer.map(|weight| weight.prefixed(&prefix)));
        }
        weights
    }

    fn layer(self, layer: usize) -> Vec<RandomWeight> {
        match self {
            Self::Mamba => mamba_layer(),
            Self::Lfm2 => lfm2_layer(KV_HEADS[layer]),
        }
    }
}

fn mamba_layer() -> Vec<RandomWeight> {
    vec![
        norm("attn_norm.weight", HIDDEN),
        matrix("ssm_in.weight", &[2 * INNER, HIDDEN]),
        matrix("ssm_conv1d.weight", &[INNER, KERNEL]),
        bias("ssm_conv1d.bias", INNER),
        matrix("ssm_x.weight", &[RANK + 2 * STATE, INNER]),
        matrix("ssm_dt.weight", &[INNER, RANK]),
        bias("ssm_dt.bias", INNER),
        // Below zero, so that the state forgets.
        weight("ssm_a", &[INNER, STATE], -1.0, 0.3),
        weight("ssm_d", &[INNER], 1.0, 0.1),
        matrix("ssm_out.weight", &[HIDDEN, INNER]),
    ]
}

fn lfm2_layer(kv_heads: usize) -> Vec<RandomWeight> {
    let mut weights = vec![
        norm("attn_norm.weight", HIDDEN),
        norm("ffn_norm.weight", HIDDEN),
        matrix("ffn_gate.weight", &[FFN, HIDDEN]),
        matrix("ffn_up.weight", &[FFN, HIDDEN]),
        matrix("ffn_down.weight", &[HIDDEN, FFN]),
    ];
    let keys = kv_heads * HEAD_SIZE;
    weights.extend(match kv_heads {
        0 => vec![
            matrix("shortconv.conv.weight", &[HIDDEN, WINDOW]),
            matrix("shortconv.in_proj.weight", &[3 * HIDDEN, HIDDEN]),
            matrix("shortconv.out_proj.weight", &[HIDDEN, HIDDEN]),
        ],
        _ => vec![
            norm("attn_q_norm.weight", HEAD_SIZE),
            norm("attn_k_norm.weight", HEAD_SIZE),
            matrix("attn_q.weight", &[HIDDEN, HIDDEN]),
            matrix("attn_k.weight", &[keys, HIDDEN]),
            matrix("attn_v.weight", &[keys, HIDDEN]),
            matrix("attn_output.weight", &[HIDDEN, HIDDEN]),
        ],
    });
    weights
}
