//! One block of the decoder: attention, then an MLP, each added to what came in.

use tenon_plugin_api::{Error, Result};

use super::{Buffers, Step};
use crate::{
    config::{Config, Rope, Turns},
    kernels::{
        attention::{self, Geometry},
        elementwise,
    },
    kv::{Element, LayerKv},
    linear::Linear,
    matrix::Matrix,
    pool,
    weights::Loader,
};

pub struct Block {
    attention_norm: Vec<f32>,
    attention: Attention,
    attention_out_norm: Option<Vec<f32>>,
    mlp_norm: Vec<f32>,
    mlp: Mlp,
    mlp_out_norm: Option<Vec<f32>>,
}

struct Attention {
    /// Queries, keys and values side by side.
    qkv: Linear,
    query_norm: Option<Vec<f32>>,
    key_norm: Option<Vec<f32>>,
    output: Linear,
}

struct Mlp {
    /// The gate and what it lets through, side by side.
    gate_up: Linear,
    down: Linear,
}

/// A batch on its way through one block.
pub struct Pass<'a> {
    pub config: &'a Config,
    pub step: &'a Step<'a>,
    pub window: Option<u32>,
    pub rope: LayerRope<'a>,
    /// The tokens that go on behind attention. None: all.
    pub wanted: Option<&'a [u32]>,
}

/// Which frequencies a layer has.
#[derive(Clone, Copy)]
pub enum LayerRope<'a> {
    Global(&'a Rope),
    Local(&'a Rope),
}

impl Block {
    pub fn load(config: &Config, loader: &Loader, layer: usize) -> Result<Self> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let norm = |part: &str| norm(config, loader, &name(part), config.hidden);
        let optional_norm = |part: &str, len| optional_norm(config, loader, &name(part), len);
        Ok(Self {
            attention_norm: norm("attn_norm")?,
            attention: Attention {
                qkv: merged(
                    loader,
                    &name("attn_qkv"),
                    ["attn_q", "attn_k", "attn_v"].map(name),
                )?,
                query_norm: optional_norm("attn_q_norm", config.head)?,
                key_norm: optional_norm("attn_k_norm", config.head)?,
                output: Linear::load(loader, &[name("attn_output")])?,
            },
            attention_out_norm: optional_norm("post_attention_norm", config.hidden)?,
            mlp_norm: norm("ffn_norm")?,
            mlp: Mlp {
                gate_up: gate_up(loader, &name("ffn_gate"), name("ffn_up"))?,
                down: Linear::load(loader, &[name("ffn_down")])?,
            },
            mlp_out_norm: optional_norm("post_ffw_norm", config.hidden)?,
        })
        .and_then(|block| block.checked(config, layer))
    }

    /// Computes `buffers.hidden` anew and stores keys and values.
    pub fn forward<E: Element>(
        &self,
        pass: &Pass,
        kv: &mut LayerKv<E>,
        buffers: &mut Buffers,
    ) -> Result<()> {
        let epsilon = pass.config.norm_epsilon;
        elementwise::rms_norm(
            &buffers.hidden,
            &self.attention_norm,
            epsilon,
            &mut buffers.normed,
        );
        let qkv = &mut buffers.qkv;
        self.attention.qkv.forward(&buffers.normed, qkv)?;
        let turns = match pass.rope {
            LayerRope::Global(rope) => (rope, &buffers.global),
            LayerRope::Local(rope) => (rope, &buffers.local),
        };
        self.attention.position(pass.config, turns, qkv);
        store(pass, qkv, kv);
        if pass.wanted.is_some_and(<[_]>::is_empty) {
            return Ok(());
        }
        let geometry = geometry(pass.config, pass.window);
        attention::attend(pass.step.tiles, qkv, kv, &geometry, &mut buffers.attended);
        if let Some(wanted) = pass.wanted {
            buffers.attended.select_rows(wanted);
            buffers.hidden.select_rows(wanted);
        }
        let added = &mut buffers.added;
        self.attention.output.forward(&buffers.attended, added)?;
        add(
            &mut buffers.hidden,
            added,
            &self.attention_out_norm,
            epsilon,
        );

        elementwise::rms_norm(
            &buffers.hidden,
            &self.mlp_norm,
            epsilon,
            &mut buffers.normed,
        );
        let gate_up = &mut buffers.gate_up;
        self.mlp.gate_up.forward(&buffers.normed, gate_up)?;
        elementwise::gate(gate_up, pass.config.activation, &mut buffers.gated);
        self.mlp.down.forward(&buffers.gated, added)?;
        add(&mut buffers.hidden, added, &self.mlp_out_norm, epsilon);
        Ok(())
    }

    pub fn linears(&self) -> [&Linear; 4] {
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
            check(&name, linear.outputs(), outputs)?;
            check(&name, linear.inputs(), inputs)?;
        }
        Ok(self)
    }
}

impl Attention {
    /// Norms queries and keys where the model does, and turns them to their positions.
    fn position(&self, config: &Config, (rope, turns): (&Rope, &Turns), qkv: &mut Matrix) {
        let width = qkv.width();
        pool::for_each_row(qkv.data_mut(), width, |token, row| {
            let heads = row.chunks_exact_mut(config.head);
            for (number, head) in heads.take(config.heads + config.kv_heads).enumerate() {
                let is_query = number < config.heads;
                let norm = if is_query {
                    &self.query_norm
                } else {
                    &self.key_norm
                };
                if let Some(norm) = norm {
                    elementwise::rms_norm_row(head, norm, config.norm_epsilon);
                }
                turns.apply(rope, token, head);
            }
        });
    }
}

/// Stores keys and values of the batch, which stand behind the queries.
fn store<E: Element>(pass: &Pass, qkv: &Matrix, kv: &mut LayerKv<E>) {
    let (queries, keys) = (
        pass.config.heads * pass.config.head,
        pass.config.kv_heads * pass.config.head,
    );
    for (token, &cell) in pass.step.cells.iter().enumerate() {
        let (keys, values) = qkv.row(token)[queries..].split_at(keys);
        kv.write(cell, keys, values);
    }
}

fn geometry(config: &Config, window: Option<u32>) -> Geometry {
    Geometry {
        heads: config.heads,
        kv_heads: config.kv_heads,
        head: config.head,
        scale: config.attention_scale,
        soft_cap: config.attention_soft_cap,
        window,
    }
}

/// `from` is normed in place, if it is.
fn add(to: &mut Matrix, from: &mut Matrix, norm: &Option<Vec<f32>>, epsilon: f32) {
    if let Some(norm) = norm {
        let width = from.width();
        pool::for_each_row(from.data_mut(), width, |_, row| {
            elementwise::rms_norm_row(row, norm, epsilon);
        });
    }
    elementwise::add(to, from);
}

/// Layers that the model may have as one.
fn merged<const N: usize>(loader: &Loader, whole: &str, parts: [String; N]) -> Result<Linear> {
    match loader.source.has(whole) {
        true => Linear::load(loader, &[whole.to_owned()]),
        false => Linear::load(loader, &parts),
    }
}

/// Without a gate of its own, `up` has it in its first half.
fn gate_up(loader: &Loader, gate: &str, up: String) -> Result<Linear> {
    match loader.source.has(gate) {
        true => Linear::load(loader, &[gate.to_owned(), up]),
        false => Linear::load(loader, &[up]),
    }
}

/// A norm's weights: `[len]`.
pub fn norm(config: &Config, loader: &Loader, name: &str, len: usize) -> Result<Vec<f32>> {
    let mut weights = loader.vector(name)?;
    check(name, weights.len(), len)?;
    weights
        .iter_mut()
        .for_each(|weight| *weight += config.norm_offset);
    Ok(weights)
}

fn optional_norm(
    config: &Config,
    loader: &Loader,
    name: &str,
    len: usize,
) -> Result<Option<Vec<f32>>> {
    match loader.source.has(name) {
        true => norm(config, loader, name, len).map(Some),
        false => Ok(None),
    }
}

/// # Errors
/// `INVALID` with the tensor's name, if its size is another than the configuration's.
pub fn check(name: &str, size: usize, expected: usize) -> Result<()> {
    if size == expected {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the tensor {name} has a side of {size} where the model's configuration says {expected}: the files do not belong together"
    )))
}
