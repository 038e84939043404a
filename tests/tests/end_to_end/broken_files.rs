//! Model files with mistakes. Whatever the mistake is, loading returns a model that computes, or a sentence. It takes no
//! more memory than the file could need.
//!
//! A mistake that ends the process would end the test. So files are loaded in a separate process: this program again, with
//! little memory. To search longer, with other mistakes:
//! `TENON_MUTANTS=1000..9000 cargo test --release --workspace broken_files::`.

use std::{
    env,
    ops::Range,
    process::{Command, Output},
    sync::Arc,
};

use tempfile::TempDir;
use tenon::plugin::{self, Model};
use tenon_plugin_api::{
    Batch, Code, EncodeFlags, Error, LoadArgs, Result, SessionArgs, Span, SpanOut,
};
use tenon_tests::{Backend, Mutants, models::Family};

/// Environment variable with the numbers of the mutants to try for each kind of file.
const NUMBERS: &str = "TENON_MUTANTS";
const BACKEND: &str = "TENON_BACKEND";
/// Address space of the process that loads the files, in KiB: a few times what loading a valid file takes.
const MEMORY_KIB: u32 = 3 << 20;

#[test]
fn gguf_mutants_are_loaded_by_candle_or_refused() {
    load_all(Backend::CandleQuantized, "0..250");
}

#[test]
fn gguf_mutants_are_loaded_by_llama_cpp_or_refused() {
    load_all(Backend::LlamaCpp, "0..150");
}

#[test]
fn directory_mutants_are_loaded_or_refused() {
    load_all(Backend::Candle, "0..250");
}

#[track_caller]
fn load_all(backend: Backend, numbers: &str) {
    let numbers = env::var(NUMBERS).unwrap_or(numbers.to_owned());
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new("sh")
        .args(["-c", "ulimit -v $0; exec \"$@\"", &MEMORY_KIB.to_string()])
        .arg(env::current_exe().expect("this program"))
        .args(["--exact", "broken_files::child", "--ignored", "--nocapture"])
        .env(NUMBERS, numbers)
        .env(BACKEND, backend.library())
        .output()
        .expect("sh starts");
    let (out, errors) = (
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr),
    );
    let (last, errors) = (tail(&out, 4), tail(&errors, 10));
    assert!(status.success(), "{status}\n{last}\n{errors}");
    assert!(out.contains("whole file is loaded"), "{out}\n{errors}");
}

fn tail(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// The process that the other tests start.
#[test]
#[ignore = "loads what the other tests tell it to, in a process of its own"]
fn child() {
    let library = env::var(BACKEND).expect("a backend");
    let backend = Backend::ALL
        .into_iter()
        .find(|backend| backend.library() == library);
    let backend = backend.expect("a backend");
    let folder = TempDir::new().expect("a temporary directory");
    let plugin = backend.open();
    for family in [Family::Llama, Family::Gemma3] {
        let folder = folder.path().join(family.architecture());
        std::fs::create_dir(&folder).expect("a folder");
        let mutants = Mutants::new(&folder, family);
        let whole = match backend {
            Backend::Candle => folder.join("whole"),
            _ => folder.join("whole.gguf"),
        };
        load(&plugin, &whole).expect("a whole file");
        println!("the whole file is loaded");
        for number in numbers() {
            let (path, what) = mutants.write(number, backend);
            println!("{library} {family:?} {number}: {what}");
            if let Err(error) = load(&plugin, &path) {
                println!("  {error}");
                check(&error);
            }
        }
    }
}

fn numbers() -> Range<u64> {
    let text = env::var(NUMBERS).expect("numbers");
    let (from, to) = text.split_once("..").expect("a range");
    from.parse().expect("a number")..to.parse().expect("a number")
}

/// Checks that a fault of the file is reported as one.
fn check(error: &Error) {
    let faults = [Code::PANICKED, Code::NO_MEMORY];
    assert!(!faults.contains(&error.code), "{error}");
    assert!(!error.message.contains("tell its author"), "{error}");
}

/// Loads a model and computes with it.
fn load(plugin: &Arc<plugin::Backend>, path: &std::path::Path) -> Result<()> {
    let args = LoadArgs {
        path: path.into(),
        threads: 1,
        options: "{}".into(),
        ..LoadArgs::default()
    };
    plugin.supports(path)?;
    let session = SessionArgs {
        max_sequences: 2,
        kv_tokens: 64,
        context_length: 64,
        max_batch_tokens: 16,
        threads: 1,
        ..SessionArgs::default()
    };
    if let Err(error) = plugin.estimate(&args, &session) {
        check(&error);
    }
    let model = plugin.load(&args, Box::new(|_, _| true))?;
    let tokenizer = model.tokenizer()?;
    tokenizer.vocabulary()?;
    tokenizer.encode("Hello <|im_end|> world", EncodeFlags::PARSE_CONTROL)?;
    compute(&model, &session)
}

fn compute(model: &Model, args: &SessionArgs) -> Result<()> {
    let mut session = model.session(args)?;
    let tokens = [0, 1, model.info().vocab_size - 1];
    let span = Span {
        len: 3,
        rows: 1,
        ..Span::default()
    };
    let mut out = [SpanOut::default()];
    session.forward(&Batch::new(&tokens, &[span]), &mut out)?;
    let mut logits = vec![0.0; model.info().logits_width as usize];
    match out[0].status {
        Code::OK => session.read_logits(out[0].first_row, &mut logits),
        code => Err(Error::new(code, "the batch was refused")),
    }
}
