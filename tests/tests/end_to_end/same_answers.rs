//! All backends compute the same logits for the same model, however the work is divided into batches.

use std::{path::PathBuf, sync::LazyLock};

use tenon_plugin_api::EncodeFlags;
use tenon_tests::{
    Backend, LoadedModel, ModelFiles, Row, RowReader, largest_difference,
    models::{Family, LANGUAGES, TestModel, smollm2_f32_dir, smollm2_f32_gguf, split_gguf},
};

/// Largest allowed difference of logits that are computed in f32 throughout. Logits of the models here are mostly between
/// -10 and 10.
const TOLERANCE: f32 = 1e-3;

#[test]
fn llama_is_the_same_in_all_backends() {
    check_backends(Family::Llama);
}

#[test]
fn qwen2_is_the_same_in_all_backends() {
    check_backends(Family::Qwen2);
}

#[test]
fn qwen3_is_the_same_in_all_backends() {
    check_backends(Family::Qwen3);
}

#[test]
fn gemma2_is_the_same_in_all_backends() {
    check_backends(Family::Gemma2);
}

#[test]
fn gemma3_is_the_same_in_all_backends() {
    check_backends(Family::Gemma3);
}

fn check_backends(family: Family) {
    let files = ModelFiles::write(&TestModel::tiny(family));
    let [llama, others @ ..] = Backend::ALL.map(|backend| {
        let loaded = files.load(backend);
        let tokens = text(&loaded, 0);
        (
            backend,
            tokens.clone(),
            RowReader::new(&loaded, 1).append_one(0, &tokens),
        )
    });
    let (_, expected_tokens, expected) = llama;
    assert!(
        expected_tokens.len() > 64,
        "longer than any window: {}",
        expected_tokens.len()
    );
    assert!(spread(&expected) > 1.0, "the logits say something");
    for (backend, tokens, rows) in others {
        assert_eq!(tokens, expected_tokens, "{backend:?}");
        let difference = largest_difference(&rows, &expected);
        assert!(
            difference <= TOLERANCE,
            "{backend:?}, {family:?}: {difference}"
        );
    }
}

#[test]
fn a_model_in_several_files_is_the_model() {
    let files = ModelFiles::write(&TestModel::tiny(Family::Llama));
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::CandleQuantized;
    let parts = split_gguf(&files.path(backend), folder.path(), 3);
    let rows = |loaded: &LoadedModel| {
        let tokens = text(loaded, 0);
        RowReader::new(loaded, 1).append_one(0, &tokens)
    };
    let whole = rows(&files.load(backend));
    let split = rows(&backend.load(&parts[0], &backend.exact()));
    assert_eq!(largest_difference(&split, &whole), 0.0);
}

#[test]
fn chunks_are_as_the_whole() {
    on_all(|case, loaded| {
        let tokens = text(loaded, 0);
        let mut reader = RowReader::new(loaded, 2);
        let whole = reader.append_one(0, &tokens);
        let chunks = tokens
            .chunks(7)
            .flat_map(|chunk| reader.append_one(1, chunk))
            .collect::<Vec<_>>();
        check(case, &chunks, &whole);
    });
}

#[test]
fn a_crowd_is_as_each_alone() {
    on_all(|case, loaded| {
        let texts: Vec<Vec<u32>> = (0..4).map(|start| text(loaded, start)).collect();
        let mut reader = RowReader::new(loaded, 4);
        let alone: Vec<Vec<Row>> = texts
            .iter()
            .map(|tokens| {
                let rows = reader.append_one(0, tokens);
                reader.free(0);
                rows
            })
            .collect();
        // Every step has chunks of other lengths, and one of them is a single token: prefill and decode in one batch.
        let mut together: Vec<Vec<Row>> = vec![Vec::new(); 4];
        let mut done = [0; 4];
        for step in 0.. {
            let parts: Vec<(u32, &[u32])> = (0..4)
                .filter_map(|seq| {
                    let rest = &texts[seq][done[seq]..];
                    let len = [1, 13, 5, 24][(seq + step) % 4].min(rest.len());
                    (len > 0).then(|| (seq as u32, &rest[..len]))
                })
                .collect();
            if parts.is_empty() {
                break;
            }
            for (rows, (seq, part)) in reader.append(&parts).into_iter().zip(&parts) {
                together[*seq as usize].extend(rows);
                done[*seq as usize] += part.len();
            }
        }
        for (together, alone) in together.iter().zip(&alone) {
            check(case, together, alone);
        }
    });
}

#[test]
fn forks_and_cuts_are_as_computed_anew() {
    on_all(|case, loaded| {
        let (first, second) = (text(loaded, 0), text(loaded, 1));
        let shared = 29;
        let other = [&first[..shared], &second].concat();
        let mut reader = RowReader::new(loaded, 3);
        let first_rows = reader.append_one(0, &first);
        let other_rows = reader.append_one(1, &other);
        // The fork continues with other tokens. Its source continues as if there were no fork.
        reader.fork(0, 2, shared as u32);
        let forked = reader.append_one(2, &second);
        check(case, &forked, &other_rows[shared..]);
        reader.truncate(0, shared as u32);
        let again = reader.append_one(0, &first[shared..]);
        check(case, &again, &first_rows[shared..]);
        reader.truncate(2, shared as u32 + 5);
        let again = reader.append_one(2, &second[5..]);
        check(case, &again, &other_rows[shared + 5..]);
    });
}

/// Compares the dequantized weights of the quantized file in both formats, at every position of a text that llama.cpp
/// writes.
#[test]
fn smollm2_writes_the_same_from_safetensors_as_from_gguf() {
    const POSITIONS: usize = 32;
    /// Rounding may decide between the two best tokens if their logits are this near.
    const NEAR_TIE: f32 = 0.05;

    let load = |backend: Backend, path: PathBuf| backend.load(&path, &backend.exact());
    let llama = load(Backend::LlamaCpp, smollm2_f32_gguf());
    let candle = load(Backend::Candle, smollm2_f32_dir());
    let (mut writer, mut reader) = (RowReader::new(&llama, 1), RowReader::new(&candle, 1));
    let mut different = 0;
    for prompt in PROMPTS {
        let mut next = encode(&llama, prompt);
        assert_eq!(next, encode(&candle, prompt));
        for _ in 0..POSITIONS {
            let expected = writer.append_one(0, &next).pop().unwrap();
            let found = reader.append_one(0, &next).pop().unwrap();
            let token = best(&expected);
            if best(&found) != token {
                different += 1;
                let gap = expected[token] - expected[best(&found)];
                assert!(gap <= NEAR_TIE, "{prompt}: {gap}");
            }
            next = vec![token as u32];
        }
        writer.free(0);
        reader.free(0);
    }
    let positions = PROMPTS.len() * POSITIONS;
    assert!(different * 20 <= positions, "{different} of {positions}");
}

const PROMPTS: [&str; 10] = [
    "The capital of France is",
    "Once upon a time, there was a",
    "def fibonacci(n):\n    ",
    "The three primary colours are",
    "Water boils at a temperature of",
    "Dear Sir or Madam,\n\nI am writing to",
    "1, 2, 3, 4, 5, 6,",
    "La tour Eiffel est",
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nWhy is the sky blue?<|im_end|>\n<|im_start|>assistant\n",
    "The most important thing about software is",
];

struct Case {
    name: String,
    /// Largest allowed difference of logits.
    tolerance: f32,
}

/// Runs `check` on two families that differ in almost everything, in all backends.
fn on_all(check: impl Fn(&Case, &LoadedModel)) {
    static FILES: LazyLock<[(Family, ModelFiles); 2]> = LazyLock::new(|| {
        [Family::Llama, Family::Gemma3]
            .map(|family| (family, ModelFiles::write(&TestModel::tiny(family))))
    });
    for (family, files) in &*FILES {
        for backend in Backend::ALL {
            let case = Case {
                name: format!("{backend:?}, {family:?}"),
                tolerance: match backend {
                    Backend::LlamaCpp => TOLERANCE,
                    // Every token has the same bits, however batches are cut.
                    Backend::CandleQuantized | Backend::Candle => 0.0,
                },
            };
            check(&case, &files.load(backend));
        }
    }
}

fn check(Case { name, tolerance }: &Case, rows: &[Row], expected: &[Row]) {
    let difference = largest_difference(rows, expected);
    assert!(difference <= *tolerance, "{name}: {difference}");
}

/// About 100 tokens of a text. Each `start` gives another text.
fn text(loaded: &LoadedModel, start: usize) -> Vec<u32> {
    let mut tokens = encode(loaded, &LANGUAGES[start..].join(" "));
    tokens.truncate(100 + start);
    tokens
}

fn encode(loaded: &LoadedModel, text: &str) -> Vec<u32> {
    let flags = EncodeFlags::PARSE_CONTROL | EncodeFlags::ADD_SPECIAL;
    let tokenizer = loaded.model.tokenizer().unwrap();
    tokenizer.encode(text, flags).unwrap()
}

fn best(row: &[f32]) -> usize {
    let ids = 0..row.len();
    ids.max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap()
}

/// Distance of the best logit from the mean of all logits, in the last row.
fn spread(rows: &[Row]) -> f32 {
    let row = rows.last().unwrap();
    row[best(row)] - row.iter().sum::<f32>() / row.len() as f32
}
