//! Measures what a call into a plugin costs: through the Rust ABI with echo, and through the C ABI with the example in C.
//!
//! `cargo run --release -p tenon-tests --example abi_cost -- [PLUGIN MODEL]...` prints nanoseconds per call. Calls without work show
//! the door alone. `whole step` is a `forward` and a `sample` of 8 spans, and 8 calls of `truncate` that take the tokens back. It
//! includes the models' own work, which differs. Without arguments the workspace is built first. The last line then shows two
//! shares of a step of SmolLM2 with llama.cpp: that of the calls without work, and that of a whole step of echo, an upper bound
//! of what the ABI costs. The program fails if the first share is above a thousandth, or if a call through the C ABI costs over
//! 5 ns more than one through the Rust ABI.

use std::{
    env, fs,
    fs::File,
    path::{Path, PathBuf},
    time::Instant,
};

use tenon::plugin::{Session, start_plugin};
use tenon_plugin_api::{Batch, LoadArgs, SampleRequest, Sampled, SessionArgs, Span, SpanOut};
use tenon_tests::{artifacts, c_library, smollm2};

const SPANS: u32 = 8;
/// Calls of a measurement. The fastest of several measurements counts: the others were disturbed.
const CALLS: u32 = 20_000;
const MEASUREMENTS: u32 = 15;
/// The calls that are measured without work.
const EMPTY_CALLS: [&str; 3] = ["truncate", "forward", "sample"];
/// Most nanoseconds that such a call may cost through the C ABI above its cost through the Rust ABI.
const MAX_MORE: f64 = 5.0;
/// Largest share of a `forward` and a `sample` without work in a step of a small model.
const MAX_SHARE: f64 = 0.001;

fn main() {
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let folder = tempfile::tempdir().expect("a temporary directory");
    let is_whole = arguments.is_empty();
    let plugins = match is_whole {
        true => built(folder.path()),
        false => arguments,
    };
    let (mut doors, mut steps) = (Vec::new(), Vec::new());
    let [first, second, third] = EMPTY_CALLS;
    println!(
        "{:40} {first:>9} {second:>9} {third:>9} {:>15}",
        "ns per call of", "whole step"
    );
    for pair in plugins.chunks_exact(2) {
        let mut session = session(&pair[0], &pair[1]);
        let name = pair[0].file_name().expect("a file").to_string_lossy();
        let truncate = fastest(|| session.truncate(0, 5).expect("nothing to truncate"));
        let empty = Batch::new(&[], &[]);
        let forward = fastest(|| session.forward(&empty, &mut []).expect("a forward"));
        let sample = fastest(|| session.sample(&[], &mut []).expect("a sample"));
        let step = step(&mut session, CALLS);
        doors.push([truncate, forward, sample]);
        steps.push(step);
        println!("{name:40} {truncate:9.1} {forward:9.1} {sample:9.1} {step:15.1}");
    }
    if let ([rust, c], true) = (&doors[..], is_whole) {
        check_c(rust, c);
        let costs = doors.iter().map(|[_, forward, sample]| forward + sample);
        check_share(costs.fold(0.0, f64::max), steps[0]);
    }
}

/// Compares the calls without work through the C ABI with those through the Rust ABI.
fn check_c(rust: &[f64; 3], c: &[f64; 3]) {
    for ((call, rust), c) in EMPTY_CALLS.iter().zip(rust).zip(c) {
        let more = c - rust;
        println!("{call} through the C ABI: {more:+.1} ns");
        assert!(more <= MAX_MORE, "that is more than {MAX_MORE} ns");
    }
}

/// Compares what `forward` and `sample` cost without work, and a whole step of echo, with a step of SmolLM2.
fn check_share(nanoseconds: f64, echo: f64) {
    let llama_cpp = artifacts().library("tenon_plugin_llama_cpp");
    let step = step(&mut session(llama_cpp, &smollm2()), 4);
    let share = nanoseconds / step;
    println!(
        "{SPANS} spans of SmolLM2 take {:.1} ms; calls without work are {nanoseconds:.1} ns, {:.5} % of it, and a whole step of echo is \
         {echo:.1} ns, {:.5} % of it",
        step / 1e6,
        share * 100.0,
        echo / step * 100.0
    );
    assert!(share <= MAX_SHARE, "that is more than {MAX_SHARE}");
}

/// The plugins of the workspace, each with a model for it.
fn built(folder: &Path) -> Vec<PathBuf> {
    let model = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).expect("a file");
        path
    };
    vec![
        artifacts().library("tenon_plugin_echo").to_path_buf(),
        model("a.echo", ""),
        c_library("ngram"),
        model("a.ngram", "some text\n"),
    ]
}

fn session(plugin: &Path, model: &Path) -> Session {
    let library = File::open(plugin).expect("a plugin");
    let backend = start_plugin(library, 1, Path::new("/nowhere"), "{}").expect("a backend");
    let args = LoadArgs {
        path: model.into(),
        options: "{}".into(),
        ..LoadArgs::default()
    };
    let model = backend.load(&args, Box::new(|_, _| true)).expect("a model");
    let args = SessionArgs {
        max_sequences: SPANS,
        kv_tokens: SPANS * 16,
        max_batch_tokens: SPANS,
        ..SessionArgs::default()
    };
    model.session(&args).expect("a session")
}

/// Nanoseconds of a step that decodes one token of each sequence, and of the calls of `truncate` that take the tokens back.
fn step(session: &mut Session, calls: u32) -> f64 {
    let tokens = [97; SPANS as usize];
    let spans: Vec<Span> = (0..SPANS)
        .map(|seq| Span {
            seq,
            len: 1,
            rows: 1,
            ..Span::default()
        })
        .collect();
    let requests: Vec<SampleRequest<'_>> = (0..SPANS).map(SampleRequest::new).collect();
    let mut out = vec![SpanOut::default(); SPANS as usize];
    fastest_of(calls, || {
        session
            .forward(&Batch::new(&tokens, &spans), &mut out)
            .expect("a forward");
        let mut sampled: [Sampled<'_>; SPANS as usize] =
            std::array::from_fn(|_| Sampled::new(&mut []));
        session.sample(&requests, &mut sampled).expect("a sample");
        for seq in 0..SPANS {
            session.truncate(seq, 0).expect("a truncated sequence");
        }
    })
}

/// Nanoseconds per call in the fastest measurement.
fn fastest(call: impl FnMut()) -> f64 {
    fastest_of(CALLS, call)
}

/// The same measurement with this number of calls.
fn fastest_of(calls: u32, mut call: impl FnMut()) -> f64 {
    let mut measure = || {
        let begun = Instant::now();
        for _ in 0..calls {
            call();
        }
        begun.elapsed().as_nanos() as f64 / f64::from(calls)
    };
    (0..MEASUREMENTS)
        .map(|_| measure())
        .fold(f64::MAX, f64::min)
}
