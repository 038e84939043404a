//! A BERT with random weights: a GGUF file for llama.cpp, and the plain computation that its numbers are compared with.

use std::{collections::HashMap, path::Path};

use candle_core::{D, Device, Result, Tensor, quantized::gguf_file::Value};

use super::tensors::{
    RandomWeight, bias, embedding, matrix, norm, random_tensors, weight, write_tensors,
};

const HIDDEN: usize = 64;
const HEADS: usize = 4;
const HEAD_SIZE: usize = HIDDEN / HEADS;
const FFN: usize = 160;
const LAYERS: usize = 2;
const EPSILON: f64 = 1e-6;

/// The special tokens, by their ids.
const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
const CLS: u32 = 2;
const SEP: u32 = 3;
const CHARS: &str = "abcdefghijklmnopqrstuvwxyz0123456789.,?!-[]";
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;

/// A BERT: one that judges pairs of texts, or one that makes vectors, with the mean of the tokens' vectors.
pub struct Bert {
    judges: bool,
    tensors: HashMap<String, Tensor>,
}

impl Bert {
    /// Most tokens of a text.
    pub const CONTEXT: usize = 600;

    /// A cross-encoder with the head of bge-reranker.
    pub fn judge() -> Self {
        Self::new(true)
    }

    /// An encoder that makes vectors.
    pub fn encoder() -> Self {
        Self::new(false)
    }

    fn new(judges: bool) -> Self {
        let tensors = random_tensors(&weights(judges), 11).expect("tensors");
        Self {
            judges,
            tensors: tensors.into_iter().collect(),
        }
    }

    /// Writes a GGUF file.
    pub fn write_gguf(&self, path: &Path) {
        let tensors = self.tensors.clone().into_iter().collect::<Vec<_>>();
        write_tensors(path, &self.metadata(), &tensors)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    fn metadata(&self) -> Vec<(String, Value)> {
        let size = |size: usize| Value::U32(size as u32);
        let id = |id: u32| Value::U32(id);
        let text = |text: &str| Value::String(text.to_owned());
        let kinds = tokens()
            .into_iter()
            .map(|token| match SPECIAL.contains(&token.as_str()) {
                true => Value::I32(CONTROL),
                false => Value::I32(NORMAL),
            });
        let texts = tokens().into_iter().map(Value::String);
        let pairs = [
            ("general.architecture", text("bert")),
            ("bert.context_length", size(Self::CONTEXT)),
            ("bert.embedding_length", size(HIDDEN)),
            ("bert.block_count", size(LAYERS)),
            ("bert.feed_forward_length", size(FFN)),
            ("bert.attention.head_count", size(HEADS)),
            (
                "bert.attention.layer_norm_epsilon",
                Value::F32(EPSILON as f32),
            ),
            ("bert.attention.causal", Value::Bool(false)),
            ("bert.pooling_type", id(if self.judges { 4 } else { 1 })),
            ("tokenizer.ggml.model", text("bert")),
            ("tokenizer.ggml.tokens", Value::Array(texts.collect())),
            ("tokenizer.ggml.token_type", Value::Array(kinds.collect())),
            ("tokenizer.ggml.token_type_count", id(2)),
            ("tokenizer.ggml.padding_token_id", id(0)),
            ("tokenizer.ggml.unknown_token_id", id(1)),
            ("tokenizer.ggml.bos_token_id", id(CLS)),
            ("tokenizer.ggml.eos_token_id", id(SEP)),
            ("tokenizer.ggml.seperator_token_id", id(SEP)),
            ("tokenizer.ggml.mask_token_id", id(4)),
            ("tokenizer.ggml.add_bos_token", Value::Bool(true)),
            ("tokenizer.ggml.add_eos_token", Value::Bool(true)),
            ("tokenizer.ggml.add_sep_token", Value::Bool(false)),
        ];
        let named = |(key, value): (&str, Value)| (key.to_owned(), value);
        pairs.into_iter().map(named).collect()
    }

    /// The tokens of a query and a document.
    pub fn pair(query: &str, document: &str) -> Vec<u32> {
        let (query, document) = (encode(query), encode(document));
        [&[CLS], &*query, &[SEP], &*document, &[SEP]].concat()
    }

    /// How relevant a document is to a query, from 0 to 1.
    pub fn relevance(&self, query: &str, document: &str) -> f64 {
        let output = self
            .judgement(&Self::pair(query, document))
            .expect("an output");
        1.0 / (1.0 + (-f64::from(output)).exp())
    }

    /// The vector of a text, of length 1.
    pub fn vector(&self, text: &str) -> Vec<f32> {
        let tokens = [&[CLS], &*encode(text), &[SEP]].concat();
        let vector = || {
            let mean = self.forward(&tokens)?.mean(0)?;
            let length = mean.sqr()?.sum_all()?.sqrt()?;
            mean.broadcast_div(&length)?.to_vec1()
        };
        vector().expect("a vector")
    }

    fn judgement(&self, tokens: &[u32]) -> Result<f32> {
        let first = self.forward(tokens)?.narrow(0, 0, 1)?;
        let head = self.linear(&first, "cls")?.tanh()?;
        self.linear(&head, "cls.output")?
            .flatten_all()?
            .get(0)?
            .to_scalar()
    }

    /// The vectors of tokens: `[tokens, HIDDEN]`.
    fn forward(&self, tokens: &[u32]) -> Result<Tensor> {
        let ids = Tensor::new(tokens, &Device::Cpu)?;
        let x = self.get("token_embd.weight").index_select(&ids, 0)?;
        let x = (x + self
            .get("position_embd.weight")
            .narrow(0, 0, tokens.len())?)?;
        let x = x.broadcast_add(&self.get("token_types.weight").get(0)?)?;
        let mut x = self.norm(&x, "token_embd_norm")?;
        for layer in 0..LAYERS {
            let name = |part: &str| format!("blk.{layer}.{part}");
            let attended = self.attention(&x, name)?;
            x = self.norm(&(attended + &x)?, &name("attn_output_norm"))?;
            let inner = self.linear(&x, &name("ffn_up"))?.gelu()?;
            let outer = self.linear(&inner, &name("ffn_down"))?;
            x = self.norm(&(outer + &x)?, &name("layer_output_norm"))?;
        }
        Ok(x)
    }

    fn attention(&self, x: &Tensor, name: impl Fn(&str) -> String) -> Result<Tensor> {
        let tokens = x.dim(0)?;
        let heads = |part: &str| {
            let x = self.linear(x, &name(part))?;
            x.reshape((tokens, HEADS, HEAD_SIZE))?
                .transpose(0, 1)?
                .contiguous()
        };
        let (q, k, v) = (heads("attn_q")?, heads("attn_k")?, heads("attn_v")?);
        let scores = (q.matmul(&k.t()?.contiguous()?)? / (HEAD_SIZE as f64).sqrt())?;
        let shifted = scores
            .broadcast_sub(&scores.max_keepdim(D::Minus1)?)?
            .exp()?;
        let shares = shifted.broadcast_div(&shifted.sum_keepdim(D::Minus1)?)?;
        let mixed = shares.matmul(&v)?.transpose(0, 1)?.contiguous()?;
        self.linear(&mixed.reshape((tokens, HIDDEN))?, &name("attn_output"))
    }

    fn linear(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let (weight, bias) = self.weight_and_bias(name);
        x.matmul(&weight.t()?.contiguous()?)?.broadcast_add(bias)
    }

    fn norm(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let (weight, bias) = self.weight_and_bias(name);
        let centered = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let spread = (centered.sqr()?.mean_keepdim(D::Minus1)? + EPSILON)?.sqrt()?;
        let normal = centered.broadcast_div(&spread)?;
        normal.broadcast_mul(weight)?.broadcast_add(bias)
    }

    fn weight_and_bias(&self, name: &str) -> (&Tensor, &Tensor) {
        let of = |part: &str| self.get(&format!("{name}.{part}"));
        (of("weight"), of("bias"))
    }

    fn get(&self, name: &str) -> &Tensor {
        self.tensors
            .get(name)
            .unwrap_or_else(|| panic!("no {name}"))
    }
}

/// Every character is a token: one at the beginning of words, and one within them.
fn tokens() -> Vec<String> {
    let special = SPECIAL.map(str::to_owned);
    let first = CHARS.chars().map(|c| format!("\u{2581}{c}"));
    let later = CHARS.chars().map(String::from);
    special.into_iter().chain(first).chain(later).collect()
}

/// The tokens of a text. Capitals are read as small letters. Punctuation is a word of its own, and other characters than the vocabulary's do not occur.
fn encode(text: &str) -> Vec<u32> {
    let mut tokens = Vec::new();
    let mut begins = true;
    for c in text.to_lowercase().chars() {
        let Some(at) = CHARS.find(c) else {
            assert_eq!(c, ' ', "{text:?}");
            begins = true;
            continue;
        };
        let alone = !c.is_alphanumeric();
        let within = if begins || alone { 0 } else { CHARS.len() };
        tokens.push((SPECIAL.len() + within + at) as u32);
        begins = alone;
    }
    tokens
}

fn weights(judges: bool) -> Vec<RandomWeight> {
    let vocab_size = tokens().len();
    let mut weights = vec![
        embedding("token_embd.weight", &[vocab_size, HIDDEN]),
        embedding("position_embd.weight", &[Bert::CONTEXT, HIDDEN]),
        embedding("token_types.weight", &[2, HIDDEN]),
    ];
    weights.extend(with_bias(norm("token_embd_norm.weight", HIDDEN), HIDDEN));
    for layer in 0..LAYERS {
        for (name, rows, columns) in [
            ("attn_q", HIDDEN, HIDDEN),
            ("attn_k", HIDDEN, HIDDEN),
            ("attn_v", HIDDEN, HIDDEN),
            ("attn_output", HIDDEN, HIDDEN),
            ("ffn_up", FFN, HIDDEN),
            ("ffn_down", HIDDEN, FFN),
        ] {
            let name = format!("blk.{layer}.{name}.weight");
            weights.extend(with_bias(matrix(&name, &[rows, columns]), rows));
        }
        for name in ["attn_output_norm", "layer_output_norm"] {
            let name = format!("blk.{layer}.{name}.weight");
            weights.extend(with_bias(norm(&name, HIDDEN), HIDDEN));
        }
    }
    if judges {
        weights.extend(with_bias(matrix("cls.weight", &[HIDDEN, HIDDEN]), HIDDEN));
        // Wide enough for scores that differ.
        let output = weight("cls.output.weight", &[1, HIDDEN], 0.0, 0.3);
        weights.extend(with_bias(output, 1));
    }
    weights
}

/// A weight, and its bias of this length.
fn with_bias(weight: RandomWeight, len: usize) -> [RandomWeight; 2] {
    let name = weight.name.replace(".weight", ".bias");
    [weight, bias(&name, len)]
}
