//! Compares the candle backends with llama.cpp, without a server and on one thread.
//!
//! candle-quantized reads the same GGUF files as llama-cpp: SmolLM2 and a random Llama of 138 million parameters, each at
//! several levels. The widths of that Llama are multiples of 256. candle reads the Llama from a directory, in the number
//! format of the file that llama-cpp reads.

use std::path::{Path, PathBuf};

use candle_core::DType;
use tempfile::TempDir;
use tenon_tests::{
    Backend,
    models::{TestModel, smollm2_f32_gguf},
    smollm2,
};

use crate::{
    Bench,
    measurements::{Engine, Rate},
    table::{Table, median},
};

/// Levels of the GGUF files.
const LEVELS: [&str; 2] = ["Q8_0", "Q4_K_S"];
/// Measurements of each model, as arguments of `tenon bench engine`.
const TESTS: [&str; 2] = [
    "--prompt 512 --generate 64",
    "--prompt 0 --generate 32 --batch 4,8",
];

/// One model in the form that llama-cpp reads, and in the form that another backend reads.
struct Pair {
    name: String,
    llama_cpp: PathBuf,
    other: (Backend, PathBuf),
}

impl Bench {
    pub fn backends(&self) -> Table {
        let mut table = Table::new(&["tokens/s", "llama-cpp", "candle", "ratio"]);
        let folder = tempfile::tempdir().expect("a temporary directory");
        for pair in quantized(&self.engine, &folder).chain(floats(&folder)) {
            let (other, path) = &pair.other;
            let sides = [(Backend::LlamaCpp, &pair.llama_cpp), (*other, path)];
            let mut rounds = [Vec::new(), Vec::new()];
            for _ in 0..self.rounds {
                for (rounds, (backend, path)) in rounds.iter_mut().zip(sides) {
                    rounds.push(rates(&self.engine, backend, path));
                }
            }
            let [theirs, ours] = rounds.map(|rounds| medians(&rounds));
            for ((test, theirs), (_, ours)) in theirs.iter().zip(ours) {
                table.row(
                    &format!("{} {test}", pair.name),
                    &[*theirs, ours, ours / theirs],
                );
            }
        }
        table
    }
}

fn rates(engine: &Engine, backend: Backend, model: &Path) -> Vec<Rate> {
    let test = |arguments| engine.rates(Some(backend), model, arguments);
    TESTS.into_iter().flat_map(test).collect()
}

/// Pairs in which both backends read the same file.
fn quantized<'a>(engine: &'a Engine, folder: &'a TempDir) -> impl Iterator<Item = Pair> + 'a {
    let random = folder.path().join("Llama-138M.F32.gguf");
    TestModel::llama_150m(DType::F32).write_gguf(&random);
    let pair = |name: String, file: PathBuf| Pair {
        name,
        llama_cpp: file.clone(),
        other: (Backend::CandleQuantized, file),
    };
    let sources = [("Llama-138M", random), ("SmolLM2-135M", smollm2_f32_gguf())];
    let at_levels = sources.into_iter().flat_map(move |(name, source)| {
        LEVELS.map(|level| {
            let name = format!("{name} {level}");
            let file = folder.path().join(format!("{name}.gguf"));
            engine.quantize(&source, &file, level);
            pair(name, file)
        })
    });
    at_levels.chain([pair("SmolLM2-135M Q4_1".into(), smollm2())])
}

/// Pairs of a GGUF file and a directory.
fn floats(folder: &TempDir) -> impl Iterator<Item = Pair> {
    [("BF16", DType::BF16), ("F32", DType::F32)]
        .into_iter()
        .map(|(kind, dtype)| {
            let name = format!("Llama-138M {kind}");
            let (file, directory) = (
                folder.path().join(format!("{name}.gguf")),
                folder.path().join(&name),
            );
            let model = TestModel::llama_150m(dtype);
            model.write_gguf(&file);
            model.write_dir(&directory);
            Pair {
                name,
                llama_cpp: file,
                other: (Backend::Candle, directory),
            }
        })
}

fn medians(rounds: &[Vec<Rate>]) -> Vec<Rate> {
    let tests = rounds[0].iter().enumerate();
    let rates = |test: usize| rounds.iter().map(|round| round[test].1).collect::<Vec<_>>();
    tests
        .map(|(test, (name, _))| (name.clone(), median(&rates(test))))
        .collect()
}
