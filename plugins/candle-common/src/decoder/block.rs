//! One block of the decoder: attention, then an MLP. Each is added to its input.

use tenon_plugin_api::Result;

use super::{buffers::Buffers, ropes::Ropes};
use crate::{
    compute::{Compute, Heads, Layer},
    config::{Config, Rope},
    layers::{Linear, Norm},
    weights::{TensorLoader, check_side},
};

pub struct Block<C: Compute> {
    attention_norm: Norm<C>,
    attention: Attention<C>,
    attention_out_norm: Option<Norm<C>>,
    mlp_norm: Norm<C>,
    mlp: Mlp<C>,
    mlp_out_norm: Option<Norm<C>>,
}

struct Attention<C: Compute> {
    /// Queries, keys and values side by side.
    qkv: Linear<C>,
    query_norm: Option<Norm<C>>,
    key_norm: Option<Norm<C>>,
    output: Linear<C>,
}

struct Mlp<C: Compute> {
    /// The gate and the up projection, side by side.
    gate_up: Linear<C>,
    down: Linear<C>,
}

/// A batch on its way through one block.
pub struct Pass<'a, 'p, C: Compute> {
    pub compute: &'a C,
    pub layer: Layer<'a>,
    pub plan: &'a C::Plan<'p>,
    pub ropes: &'a Ropes,
    /// The tokens that continue after attention. None: all.
    pub wanted: Option<&'a [u32]>,
}

impl<C: Compute> Block<C> {
    pub fn load(compute: &C, config: &Config, loader: &TensorLoader, layer: usize) -> Result<Self> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let linear = |names: &[String]| Linear::load(compute, loader, names);
        let norm = |part: &str, len| Norm::load(compute, config, loader, &name(part), len);
        let optional_norm = |part: &str, len| match loader.source.has(&name(part)) {
            true => norm(part, len).map(Some),
            false => Ok(None),
        };
        Ok(Self {
            attention_norm: norm("attn_norm", config.hidden)?,
            attention: Attention {
                qkv: linear(&merged(
                    loader,
                    name("attn_qkv"),
                    ["attn_q", "attn_k", "attn_v"].map(name),
                ))?,
                query_norm: optional_norm("attn_q_norm", config.head)?,
                key_norm: optional_norm("attn_k_norm", config.head)?,
                output: linear(&[name("attn_output")])?,
            },
            attention_out_norm: optional_norm("post_attention_norm", config.hidden)?,
            mlp_norm: norm("ffn_norm", config.hidden)?,
            mlp: Mlp {
                gate_up: linear(&gate_up(loader, name("ffn_gate"), name("ffn_up")))?,
                down: linear(&[name("ffn_down")])?,
            },
            mlp_out_norm: optional_norm("post_ffw_norm", config.hidden)?,
        })
        .and_then(|block| block.checked(config, layer))
    }

    /// Updates `buffers.hidden`, and stores keys and values.
    pub fn forward(&self, pass: &Pass<C>, kv: &mut C::Kv, buffers: &mut Buffers<C>) -> Result<()> {
        let &Pass {
            compute,
            layer,
            plan,
            ..
        } = pass;
        let Buffers {
            hidden,
            normed,
            qkv,
            attended,
            gate_up,
            gated,
            added,
            cos_sin,
        } = buffers;
        let heads = self.attention.heads(pass.ropes.of(layer, cos_sin));

        compute.norm(hidden, &self.attention_norm, normed)?;
        compute.linear(normed, &self.attention.qkv, qkv)?;
        compute.store(layer, plan, &heads, kv, qkv)?;
        if pass.wanted.is_some_and(<[_]>::is_empty) {
            return Ok(());
        }
        compute.attend(layer, plan, kv, qkv, attended)?;
        if pass.wanted.is_some() {
            compute.select(plan, attended)?;
            compute.select(plan, hidden)?;
        }
        compute.linear(attended, &self.attention.output, added)?;
        compute.add(added, self.attention_out_norm.as_ref(), hidden)?;

        compute.norm(hidden, &self.mlp_norm, normed)?;
        compute.linear(normed, &self.mlp.gate_up, gate_up)?;
        compute.gate(gate_up, layer.config.activation, gated)?;
        compute.linear(gated, &self.mlp.down, added)?;
        compute.add(added, self.mlp_out_norm.as_ref(), hidden)
    }

    pub fn linears(&self) -> [&Linear<C>; 4] {
        let (attention, mlp) = (&self.attention, &self.mlp);
        [&attention.qkv, &attention.output, &mlp.gate_up, &mlp.down]
    }

    fn checked(self, config: &Config, layer: usize) -> Result<Self> {
        let heads = config.heads * config.head;
        let expected = [
            (
                "attn_qkv",
                heads + 2 * config.kv_heads * config.head,
                config.hidden,
            ),
            ("attn_output", config.hidden, heads),
            ("ffn_up", 2 * self.mlp.down.inputs(), config.hidden),
            ("ffn_down", config.hidden, self.mlp.down.inputs()),
        ];
        for (linear, (name, outputs, inputs)) in self.linears().into_iter().zip(expected) {
            let name = format!("blk.{layer}.{name}");
            check_side(&name, linear.outputs(), outputs)?;
            check_side(&name, linear.inputs(), inputs)?;
        }
        Ok(self)
    }
}

impl<C: Compute> Attention<C> {
    fn heads<'a>(&'a self, (rope, cos_sin): (&'a Rope, &'a C::CosSin)) -> Heads<'a, C> {
        Heads {
            query_norm: self.query_norm.as_ref(),
            key_norm: self.key_norm.as_ref(),
            rope,
            cos_sin,
        }
    }
}

/// Names of layers that the model may have merged into one.
fn merged<const N: usize>(loader: &TensorLoader, whole: String, parts: [String; N]) -> Vec<String> {
    match loader.source.has(&whole) {
        true => vec![whole],
        false => parts.into(),
    }
}

/// Names of the gate and up layers. If there is no gate, the first half of `up` is the gate.
fn gate_up(loader: &TensorLoader, gate: String, up: String) -> Vec<String> {
    match loader.source.has(&gate) {
        true => vec![gate, up],
        false => vec![up],
    }
}
