//! Tests on tiny random decoders: a batch, a chunk and a fork must give the same as one token at a time.

use std::sync::Arc;

use candle_core::{
    Device, Tensor,
    quantized::{GgmlDType, QTensor},
};
use tenon_plugin_api::{
    Batch, Code, Embedder, Interrupt, Pooling, Session, SessionArgs, Span, SpanOut,
};

use super::*;
use crate::{
    compute::Cpu,
    config::{RopeConfig, RopeLayout, RopeScaling},
    embedder::DecoderEmbedder,
    kernels::{
        elementwise::Activation,
        memory::{Arena, LargePages},
        quantized::kernel,
    },
    kv::KvType,
    session::DecoderSession,
    weights::TensorSource,
};

mod tensors;

const VOCABULARY: usize = 96;
const TOLERANCE: f32 = 1e-4;

/// Weights that are generated from their names.
struct Random {
    config: Config,
    kind: GgmlDType,
    /// Whether the model has biases, and norms of queries, keys and outputs.
    extras: bool,
    /// Whether layers with the same input are merged in the file.
    merged: bool,
}

impl Random {
    fn shape(&self, name: &str) -> Option<(usize, usize)> {
        let config = &self.config;
        let (hidden, heads, kv) = (
            config.hidden,
            config.heads * config.head,
            config.kv_heads * config.head,
        );
        let part = name.rsplit('.').next().unwrap();
        Some(match part {
            "token_embd" => (VOCABULARY, hidden),
            "output" if !config.tied => (VOCABULARY, hidden),
            "attn_qkv" if self.merged => (heads + 2 * kv, hidden),
            "attn_q" => (heads, hidden),
            "attn_k" | "attn_v" => (kv, hidden),
            "attn_output" => (hidden, heads),
            "ffn_gate" if self.merged => return None,
            "ffn_up" if self.merged => (2 * hidden, hidden),
            "ffn_gate" | "ffn_up" => (hidden, hidden),
            "ffn_down" => (hidden, hidden),
            "attn_norm" | "ffn_norm" | "output_norm" => (1, hidden),
            "post_attention_norm" | "post_ffw_norm" if self.extras => (1, hidden),
            "attn_q_norm" | "attn_k_norm" if self.extras => (1, config.head),
            _ => return None,
        })
    }

    fn numbers(name: &str, len: usize) -> Vec<f32> {
        let mut state = name.bytes().fold(7u32, |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(byte.into())
        });
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 8) as f32 / (1 << 23) as f32 - 1.0) * 0.3
        };
        (0..len).map(next).collect()
    }
}

impl TensorSource for Random {
    fn has(&self, name: &str) -> bool {
        self.shape(name).is_some()
    }

    fn matrix(&self, name: &str) -> Result<Option<QTensor>> {
        let matrix = self.shape(name).map(|(rows, width)| {
            let numbers = Self::numbers(name, rows * width);
            let tensor = Tensor::from_vec(numbers, (rows, width), &Device::Cpu).unwrap();
            QTensor::quantize(&tensor, self.kind).unwrap()
        });
        Ok(matrix)
    }

    fn vector(&self, name: &str) -> Result<Option<Vec<f32>>> {
        let numbers = self.shape(name).map(|(_, len)| Self::numbers(name, len));
        Ok(numbers.map(|numbers| numbers.into_iter().map(|x| 1.0 + x).collect()))
    }

    fn bias(&self, name: &str) -> Result<Option<Vec<f32>>> {
        let biased = self.extras && name.ends_with("attn_q");
        Ok(biased.then(|| Self::numbers(name, self.config.heads * self.config.head)))
    }
}

fn plain() -> Config {
    let rope = RopeConfig {
        dimensions: 16,
        base: 1e4,
        scaling: RopeScaling::None,
    };
    Config {
        architecture: "llama".into(),
        layers: 3,
        hidden: 64,
        heads: 4,
        kv_heads: 2,
        head: 16,
        context_length: 256,
        activation: Activation::Silu,
        norm_epsilon: 1e-5,
        norm_offset: 0.0,
        embedding_scale: 1.0,
        attention_scale: 0.25,
        attention_soft_cap: None,
        logits_soft_cap: None,
        rope_layout: RopeLayout::Pairs,
        rope,
        local_rope: None,
        window: None,
        local: vec![true; 3],
        tied: true,
        pooling: Some(Pooling::Mean),
    }
}

fn gemma() -> Config {
    let config = plain();
    Config {
        activation: Activation::Gelu,
        norm_offset: 0.5,
        embedding_scale: 8.0,
        attention_soft_cap: Some(3.0),
        logits_soft_cap: Some(2.0),
        rope_layout: RopeLayout::Halves,
        local_rope: Some(RopeConfig {
            base: 100.0,
            ..config.rope.clone()
        }),
        window: Some(9),
        local: vec![true, false, true],
        ..config
    }
}

fn load<C: Compute>(compute: C, source: &Random) -> Arc<Decoder<C>> {
    let loader = TensorLoader {
        source,
        quantizer: None,
        arena: Arena::new(LargePages::Later),
    };
    Arc::new(Decoder::load(compute, source.config.clone(), &loader, &|_| Ok(())).unwrap())
}

fn decoder(config: Config, kind: GgmlDType, extras: bool) -> Arc<Decoder<Cpu>> {
    let source = Random {
        config,
        kind,
        extras,
        merged: false,
    };
    load(Cpu, &source)
}

/// Decoders whose products all come from this crate's kernels, so that every token has the same bits however batches are
/// cut.
fn decoders() -> Vec<Arc<Decoder<Cpu>>> {
    let mut decoders = vec![
        decoder(plain(), GgmlDType::F32, false),
        decoder(gemma(), GgmlDType::F32, true),
        decoder(plain(), GgmlDType::BF16, true),
    ];
    let kinds = [GgmlDType::Q8_0, GgmlDType::Q4_1];
    let kinds = kinds.into_iter().filter(|kind| kernel(*kind).is_some());
    decoders.extend(kinds.map(|kind| decoder(gemma(), kind, true)));
    decoders
}

fn session<C: Compute>(decoder: &Arc<Decoder<C>>) -> DecoderSession<C> {
    let args = SessionArgs {
        max_sequences: 4,
        kv_tokens: 200,
        max_batch_tokens: 128,
        ..SessionArgs::default()
    };
    DecoderSession::new(Arc::clone(decoder), KvType::F32, &args).unwrap()
}

fn text(len: usize, seed: usize) -> Vec<u32> {
    (0..len)
        .map(|at| ((at * 17 + seed * 29 + at * at) % VOCABULARY) as u32)
        .collect()
}

/// Runs spans, with the logits of the last `rows` tokens of each.
fn try_forward(
    session: &mut impl Session,
    spans: &[(u32, u32, &[u32], u32)],
) -> (Result<()>, Vec<SpanOut>) {
    let tokens: Vec<_> = spans.iter().flat_map(|span| span.2).copied().collect();
    let spans: Vec<_> = spans
        .iter()
        .map(|&(seq, start, tokens, rows)| Span {
            seq,
            start,
            len: tokens.len() as u32,
            rows,
            ..Span::default()
        })
        .collect();
    let mut out = vec![SpanOut::default(); spans.len()];
    (session.forward(&Batch::new(&tokens, &spans), &mut out), out)
}

fn forward(session: &mut impl Session, spans: &[(u32, u32, &[u32], u32)]) -> Vec<SpanOut> {
    let (result, out) = try_forward(session, spans);
    result.unwrap();
    out
}

/// The logits after each token of a text, computed one by one.
fn one_by_one<C: Compute>(decoder: &Arc<Decoder<C>>, text: &[u32]) -> Vec<Vec<f32>> {
    let mut session = session(decoder);
    (0..text.len())
        .map(|at| {
            forward(&mut session, &[(2, at as u32, &text[at..=at], 1)]);
            session.logits(0).unwrap().to_vec()
        })
        .collect()
}

fn assert_close(left: &[f32], right: &[f32], tolerance: f32) {
    let apart = left
        .iter()
        .zip(right)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(
        left.len() == right.len() && apart < tolerance,
        "logits are {apart} apart"
    );
}

#[test]
fn a_batch_gives_what_its_tokens_give_alone() {
    for decoder in decoders() {
        let texts = [text(40, 1), text(3, 2), text(1, 3)];
        let mut session = session(&decoder);
        let spans = [
            (0, 0, &texts[0][..], 3),
            (1, 0, &texts[1][..], 0),
            (3, 0, &texts[2][..], 1),
        ];
        let out = forward(&mut session, &spans);
        assert_eq!(
            [0, 3, 3],
            [out[0].first_row, out[1].first_row, out[2].first_row]
        );
        let alone = one_by_one(&decoder, &texts[0]);
        for row in 0..3 {
            assert_eq!(session.logits(row).unwrap(), alone[37 + row as usize]);
        }
        let other = one_by_one(&decoder, &texts[2]);
        assert_eq!(session.logits(3).unwrap(), other[0]);
        assert_eq!(session.logits(4).unwrap_err().code, Code::INVALID);
        assert!(alone[39].iter().any(|x| x.abs() > 0.01));
    }
}

#[test]
fn chunks_forks_and_rollbacks_give_what_the_whole_gives() {
    for decoder in &decoders() {
        let text = text(50, 4);
        let mut session = session(decoder);
        forward(&mut session, &[(0, 0, &text, 1)]);
        let whole = session.logits(0).unwrap().to_vec();

        forward(&mut session, &[(1, 0, &text[..13], 0)]);
        forward(&mut session, &[(1, 13, &text[13..48], 0)]);
        forward(&mut session, &[(1, 48, &text[48..], 1)]);
        assert_eq!(session.logits(0).unwrap(), whole);

        // The fork first continues with another text, then like its source.
        session.fork(0, 2, 20).unwrap();
        let other: Vec<_> = text[20..]
            .iter()
            .map(|token| (token + 1) % VOCABULARY as u32)
            .collect();
        forward(&mut session, &[(2, 20, &other, 1)]);
        session.truncate(2, 20).unwrap();
        session.free(1);
        forward(&mut session, &[(2, 20, &text[20..], 1)]);
        assert_eq!(session.logits(0).unwrap(), whole);

        session.truncate(0, 49).unwrap();
        forward(&mut session, &[(0, 49, &text[49..], 1)]);
        assert_eq!(session.logits(0).unwrap(), whole);
        assert_eq!(session.kv_stats().used_tokens, 50 + 30);
    }
}

#[test]
fn what_does_not_fit_fails_alone_and_changes_nothing() {
    let decoder = decoder(plain(), GgmlDType::F32, false);
    let mut session = session(&decoder);
    assert_eq!(session.info().context_length, 200);
    forward(&mut session, &[(0, 0, &text(120, 1), 0)]);
    let (long, short) = (text(90, 2), text(10, 3));
    let spans = [
        (1, 0, &long[..], 1),
        (2, 0, &short[..], 1),
        (3, 1, &short[..], 1),
        (0, 120, &[VOCABULARY as u32][..], 1),
        (9, 0, &[0][..], 1),
    ];
    let statuses = forward(&mut session, &spans)
        .into_iter()
        .map(|out| out.status);
    let expected = [
        Code::NO_KV_SPACE,
        Code::OK,
        Code::BAD_POSITION,
        Code::INVALID,
        Code::INVALID,
    ];
    assert_eq!(statuses.collect::<Vec<_>>(), expected);
    assert_close(
        session.logits(0).unwrap(),
        &one_by_one(&decoder, &short)[9],
        TOLERANCE,
    );
    assert_eq!(session.kv_stats().used_tokens, 130);

    let too_many = [(0, 120, &text(129, 1)[..], 1)];
    assert_eq!(
        try_forward(&mut session, &too_many).0.unwrap_err().code,
        Code::INVALID
    );
    assert_eq!(session.kv_stats().used_tokens, 130);
}

#[test]
fn an_interrupted_batch_leaves_no_trace() {
    check_interrupted(&decoder(plain(), GgmlDType::F32, false));
}

fn check_interrupted<C: Compute>(decoder: &Arc<Decoder<C>>) {
    let interrupt = Interrupt::default();
    let args = SessionArgs {
        max_sequences: 1,
        max_batch_tokens: 64,
        interrupt: interrupt.clone(),
        ..SessionArgs::default()
    };
    let mut session = DecoderSession::new(Arc::clone(decoder), KvType::F32, &args).unwrap();
    let text = text(20, 1);
    forward(&mut session, &[(0, 0, &text[..5], 0)]);
    interrupt.set(true);
    let stopped = try_forward(&mut session, &[(0, 5, &text[5..], 1)]).0;
    assert_eq!(stopped.unwrap_err().code, Code::CANCELLED);
    assert_eq!(session.kv_stats().used_tokens, 5);
    assert!(session.logits(0).is_err());
    interrupt.set(false);
    forward(&mut session, &[(0, 5, &text[5..], 1)]);
    assert_close(
        session.logits(0).unwrap(),
        &one_by_one(decoder, &text)[19],
        TOLERANCE,
    );
}

fn embed(embedder: &mut impl Embedder, texts: &[&[u32]]) -> Vec<Vec<f32>> {
    let dimensions = embedder.info().dimensions as usize;
    let mut out = vec![0.0; texts.len() * dimensions];
    embedder
        .embed(texts, &Interrupt::default(), &mut out)
        .unwrap();
    out.chunks(dimensions).map(<[f32]>::to_vec).collect()
}

#[test]
fn vectors_are_what_logits_are_made_of() {
    let decoder = decoder(plain(), GgmlDType::F32, false);
    let text = text(20, 1);
    let logits = one_by_one(&decoder, &text);
    for (pooling, token) in [(Pooling::Cls, 0), (Pooling::Last, 19)] {
        let mut embedder = DecoderEmbedder::new(Arc::clone(&decoder), pooling, KvType::F32, 2);
        let vector = embed(&mut embedder, &[&text]).remove(0);
        let vector = Matrix::new(vector, decoder.config().hidden);
        let mut made = Matrix::zeros(0, 1);
        decoder.logits(&vector, &mut made).unwrap();
        assert_close(made.row(0), &logits[token], TOLERANCE);
    }
}

#[test]
fn a_text_has_the_same_vector_alone_and_among_others() {
    for decoder in &decoders() {
        let embedder = || DecoderEmbedder::new(Arc::clone(decoder), Pooling::Mean, KvType::F32, 1);
        let (short, long) = (text(7, 1), text(250, 2));
        let mut one = embedder();
        let alone = [&short, &long].map(|text| embed(&mut one, &[text]).remove(0));
        // The long text continues in a second batch, and there are more texts than sequences.
        let crowd: Vec<&[u32]> = [&short[..], &long].repeat(20);
        for (number, vector) in embed(&mut embedder(), &crowd).iter().enumerate() {
            assert_eq!(*vector, alone[number % 2]);
        }
    }
}

#[test]
fn an_interrupted_embedding_leaves_no_trace() {
    let decoder = decoder(plain(), GgmlDType::F32, false);
    let mut embedder = DecoderEmbedder::new(decoder, Pooling::Mean, KvType::F32, 1);
    let text = text(20, 1);
    let before = embed(&mut embedder, &[&text]);
    let stopped = Interrupt::default();
    stopped.set(true);
    let error = embedder.embed(&[&text], &stopped, &mut [0.0; 64]);
    assert_eq!(error.unwrap_err().code, Code::CANCELLED);
    assert_eq!(embed(&mut embedder, &[&text]), before);
}

#[test]
fn files_that_do_not_fit_their_configuration_are_refused_by_tensor() {
    let source = Random {
        config: plain(),
        kind: GgmlDType::F32,
        extras: false,
        merged: false,
    };
    let loader = TensorLoader {
        source: &source,
        quantizer: None,
        arena: Arena::new(LargePages::Later),
    };
    let load = |config| {
        Decoder::load(Cpu, config, &loader, &|_| Ok(()))
            .err()
            .unwrap()
            .message
    };
    let hidden = load(Config {
        kv_heads: 4,
        ..plain()
    });
    assert!(
        hidden.contains("blk.0.attn_qkv") && hidden.contains("192"),
        "{hidden}"
    );
    assert!(
        load(Config {
            hidden: 32,
            ..plain()
        })
        .contains("norm")
    );
}
