//! Compares candle's tensors with this crate's kernels: on the CPU, and in builds with CUDA on every GPU.

use tenon_plugin_api::ThreadPlan;

use super::*;
use crate::compute::Tensors;

fn source(config: Config, kind: GgmlDType, extras: bool, merged: bool) -> Random {
    Random {
        config,
        kind,
        extras,
        merged,
    }
}

/// Largest allowed difference of logits, as a share of the largest logit. The kernels and candle round their input in
/// different ways.
fn tolerance(kind: GgmlDType) -> f32 {
    match kind {
        GgmlDType::F32 => 1e-4,
        GgmlDType::F16 => 0.01,
        GgmlDType::BF16 => 0.05,
        GgmlDType::Q8_0 => 0.08,
        _ => 0.25,
    }
}

/// A model whose rows fit every weight type, and whose small products of queries and keys keep attention broad. Narrow
/// attention would turn small differences into large ones.
fn wide(config: Config) -> Config {
    Config {
        hidden: 256,
        head: 64,
        attention_scale: 0.01,
        ..config
    }
}

/// A model whose heads rotate only in part, and which has an output layer of its own.
fn partial() -> Config {
    let config = plain();
    Config {
        rope_layout: RopeLayout::Halves,
        rope: RopeConfig {
            dimensions: 8,
            ..config.rope.clone()
        },
        tied: false,
        ..config
    }
}

fn normed_gemma() -> Random {
    source(gemma(), GgmlDType::F32, true, false)
}

fn sources() -> Vec<Random> {
    use GgmlDType::*;
    vec![
        source(plain(), F32, false, false),
        source(plain(), F32, true, false),
        normed_gemma(),
        source(gemma(), F32, false, false),
        source(partial(), F32, false, true),
        source(plain(), F16, false, false),
        source(plain(), BF16, true, false),
        source(plain(), Q8_0, true, true),
        source(wide(plain()), Q4K, false, false),
        source(wide(gemma()), Q4K, true, false),
    ]
}

fn devices() -> Vec<Tensors> {
    #[cfg(feature = "cuda")]
    let gpus = (1..crate::devices::list().len()).map(|gpu| Tensors::on_gpu(gpu - 1).unwrap());
    #[cfg(not(feature = "cuda"))]
    let gpus = [];
    [Tensors::on_cpu()].into_iter().chain(gpus).collect()
}

/// Runs `check` with each source on each device.
fn for_each(sources: impl IntoIterator<Item = Random>, check: impl Fn(&Random, Tensors)) {
    for source in sources {
        devices()
            .into_iter()
            .for_each(|device| check(&source, device));
    }
}

/// Runs the same batches through two sessions, and compares all wanted logits.
struct Pair {
    own: DecoderSession<Cpu>,
    tensors: DecoderSession<Tensors>,
    tolerance: f32,
}

impl Pair {
    fn new(source: &Random, device: Tensors) -> Self {
        Self {
            own: session(&load(Cpu, source)),
            tensors: session(&load(device, source)),
            tolerance: tolerance(source.kind),
        }
    }

    fn forward(&mut self, spans: &[(u32, u32, &[u32], u32)]) {
        forward(&mut self.own, spans);
        forward(&mut self.tensors, spans);
        let rows = spans.iter().map(|span| span.3).sum();
        for row in 0..rows {
            let expected = self.own.logits(row).unwrap();
            let largest = expected.iter().fold(0.0, |most, x| x.abs().max(most));
            assert!(largest > 0.5);
            let got = self.tensors.logits(row).unwrap();
            assert_close(expected, got, self.tolerance * largest);
        }
        assert!(self.tensors.logits(rows).is_err());
    }

    fn each(&mut self, change: impl Fn(&mut dyn Session)) {
        change(&mut self.own);
        change(&mut self.tensors);
    }
}

#[test]
fn ragged_batches_have_the_same_logits() {
    for_each(sources(), |source, device| {
        let mut pair = Pair::new(source, device);
        let texts = [text(40, 1), text(3, 2), text(1, 3), text(12, 4)];
        // Prompts together, one of which wants no row.
        pair.forward(&[
            (0, 0, &texts[0], 3),
            (1, 0, &texts[1], 0),
            (3, 0, &texts[2], 1),
        ]);
        // Some sequences continue while another begins: the cells of a sequence are no longer consecutive.
        pair.forward(&[
            (3, 1, &texts[1], 3),
            (0, 40, &texts[2], 1),
            (2, 0, &texts[3], 12),
            (1, 3, &texts[2], 1),
        ]);
        // Decode only.
        pair.forward(&[(0, 41, &[5], 1), (1, 4, &[6], 1), (2, 12, &[7], 1)]);
        // No row is wanted.
        pair.forward(&[(0, 42, &texts[3], 0)]);
        pair.forward(&[(0, 54, &[8], 1)]);
    });
}

#[test]
fn chunks_forks_and_rollbacks_have_the_same_logits() {
    for_each(sources(), |source, device| {
        let mut pair = Pair::new(source, device);
        let text = text(50, 4);
        pair.forward(&[(1, 0, &text[..13], 0)]);
        pair.forward(&[(1, 13, &text[13..48], 2)]);
        pair.each(|session| session.fork(1, 2, 20).unwrap());
        pair.forward(&[(2, 20, &text[30..], 1), (1, 48, &text[48..], 2)]);
        pair.each(|session| session.truncate(2, 25).unwrap());
        pair.each(|session| session.free(1));
        // Into cells that other sequences had before.
        pair.forward(&[(0, 0, &text[10..], 1), (2, 25, &text[..20], 20)]);
    });
}

#[test]
fn windows_hide_from_their_first_position_on() {
    let window = gemma().window.unwrap();
    let text = text(window as usize + 4, 1);
    for step in [1, 2, 3] {
        for_each([normed_gemma()], |source, device| {
            let mut pair = Pair::new(source, device);
            let mut position = 0;
            for tokens in text.chunks(step) {
                let len = tokens.len() as u32;
                pair.forward(&[(0, position, tokens, len)]);
                position += len;
            }
        });
    }
}

#[test]
fn keys_and_values_of_16_bits_have_about_the_same_logits() {
    let args = SessionArgs {
        max_sequences: 2,
        kv_tokens: 100,
        max_batch_tokens: 64,
        ..SessionArgs::default()
    };
    for_each([normed_gemma()], |source, device| {
        let (own, tensors) = (load(Cpu, source), load(device, source));
        for kv_type in [KvType::F16, KvType::Bf16] {
            let mut pair = Pair {
                own: DecoderSession::new(Arc::clone(&own), kv_type, &args).unwrap(),
                tensors: DecoderSession::new(Arc::clone(&tensors), kv_type, &args).unwrap(),
                // Flash attention also rounds queries.
                tolerance: 0.02,
            };
            let text = text(30, 1);
            pair.forward(&[(0, 0, &text, 2), (1, 0, &text[5..], 1)]);
            pair.forward(&[(1, 25, &[1], 1), (0, 30, &[2], 1)]);
        }
    });
}

#[test]
fn texts_have_the_same_vectors() {
    let texts = [text(7, 1), text(250, 2), text(1, 3)];
    let texts: Vec<_> = texts.iter().map(Vec::as_slice).collect();
    for_each([normed_gemma()], |source, device| {
        let (own, tensors) = (load(Cpu, source), load(device, source));
        let mut own = DecoderEmbedder::new(own, Pooling::Mean, KvType::F32, 1);
        let mut tensors = DecoderEmbedder::new(tensors, Pooling::Mean, KvType::F32, 1);
        let pairs = embed(&mut own, &texts)
            .into_iter()
            .zip(embed(&mut tensors, &texts));
        for ((own, tensors), text) in pairs.zip(&texts) {
            // Means are computed as sums.
            assert_close(&own, &tensors, text.len() as f32 * TOLERANCE);
        }
    });
}

#[test]
fn an_interrupted_batch_of_tensors_leaves_no_trace() {
    for_each([normed_gemma()], |source, device| {
        check_interrupted(&load(device, source))
    });
}

#[test]
fn tensors_leave_threads_alone() {
    let plan = ThreadPlan {
        decode: 2,
        prefill: 2,
        ..ThreadPlan::default()
    };
    for_each([normed_gemma()], |source, device| {
        let refused = session(&load(device, source)).set_threads(plan);
        assert_eq!(refused.unwrap_err().code, Code::UNSUPPORTED);
    });
}
