//! `tenon plugins check`: plugins without faults pass, and each fault is found by its case alone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use serde_json::Value;
use tempfile::TempDir;
use tenon_tests::{
    Backend, FrozenAbi, artifacts, c_library,
    models::{Family, TestModel},
};

const FAULTY: &str = "tenon_fixture_faulty";

/// Faults that the fixture can have, and how the checker must judge them. A fault has the name of its case.
const FAULTS: &[(&str, &str)] = &[
    ("open/id-valid", "failed"),
    ("open/scan-time", "warning"),
    ("init/starts", "failed"),
    ("init/unknown-option-named", "warning"),
    ("init/schema-matches", "failed"),
    ("init/threads-as-told", "failed"),
    ("supports/missing-is-no", "warning"),
    ("supports/garbage", "failed"),
    ("supports/truncated-header", "crashed"),
    ("supports/header-only", "failed"),
    ("estimate/near-measured", "failed"),
    ("load/missing-io", "failed"),
    ("load/truncated-invalid", "failed"),
    ("load/unknown-device", "failed"),
    ("load/cancel-each-report", "failed"),
    ("load/twice", "failed"),
    ("load/memory-returns", "failed"),
    ("info/consistent", "failed"),
    ("tokenizer/vocabulary-complete", "failed"),
    ("tokenizer/bytes-roundtrip", "failed"),
    ("tokenizer/control-only-when-asked", "failed"),
    ("tokenizer/canonical-if-claimed", "failed"),
    ("tokenizer/concurrent-with-forward", "failed"),
    ("tokenizer/outlives-model", "failed"),
    ("session/grants-in-bounds", "failed"),
    ("session/outlives-model", "failed"),
    ("session/random-operations", "failed"),
    ("session/kv-stats", "failed"),
    ("forward/batch-equals-alone", "failed"),
    ("forward/chunks-equal-whole", "failed"),
    ("forward/rows-in-order", "failed"),
    ("forward/bad-start", "failed"),
    ("forward/full-pool-changes-nothing", "failed"),
    ("forward/failure-isolated", "failed"),
    ("forward/reserved-zero", "failed"),
    ("forward/interrupt-changes-nothing", "failed"),
    ("sample/matches-reference", "failed"),
    ("sample/seed-in-a-crowd", "failed"),
    ("sample/empty-mask", "failed"),
    ("sample/forced-scored", "failed"),
    ("sample/top-sorted", "failed"),
    ("sample/padding-never-picked", "failed"),
    ("fork/continues-like-source", "failed"),
    ("fork/isolated", "failed"),
    ("fork/refuses-non-empty", "failed"),
    ("truncate/then-same", "failed"),
    ("truncate/beyond-rollback-refused", "failed"),
    ("free/idempotent", "failed"),
    ("free/id-reuse-clean", "failed"),
    ("set_threads/same-result", "failed"),
    ("set_threads/zero-refused", "failed"),
    ("requantize/old-serves-meanwhile", "failed"),
    ("requantize/every-level", "failed"),
    ("quantize/cancel-leaves-nothing", "failed"),
    ("embedder/batch-equals-alone", "failed"),
    ("embedder/works-after-error", "failed"),
    ("steady/no-allocation", "warning"),
    ("steady/no-log", "failed"),
    ("steady/no-thread-leak", "failed"),
];

/// Plugins in C that are wrong in one way, the case that must find it, and how it must judge it.
const C_FAULTS: &[(&str, &str, &str)] = &[
    ("more-exports", "file/exports-loader-only", "warning"),
    ("static-tls", "file/no-static-tls", "failed"),
    ("no-table", "open/abi-agrees", "failed"),
    ("small-table", "open/abi-agrees", "failed"),
    ("newer-major", "open/abi-agrees", "failed"),
    ("newer-entry", "open/abi-agrees", "failed"),
    ("not-utf8", "open/abi-agrees", "failed"),
    ("later-fact", "open/abi-agrees", "failed"),
    ("aborts", "open/unwinds", "failed"),
    ("wrong-id", "open/id-valid", "failed"),
    ("no-backend", "init/starts", "failed"),
    ("null-load", "init/starts", "failed"),
    ("ignores-options", "init/unknown-option-named", "warning"),
    ("supports-missing", "supports/missing-is-no", "warning"),
    ("loads-missing", "load/missing-io", "failed"),
    ("ignores-devices", "load/unknown-device", "failed"),
    ("unknown-code", "info/consistent", "failed"),
    ("small-model", "info/consistent", "failed"),
    ("wrong-flag", "info/consistent", "failed"),
    ("no-info", "info/consistent", "failed"),
    ("null-token", "tokenizer/vocabulary-complete", "failed"),
    ("later-word", "session/grants-in-bounds", "failed"),
    ("later-outcome", "forward/reserved-zero", "failed"),
    ("prints", "steady/no-log", "failed"),
    ("allocates", "steady/no-allocation", "warning"),
];

/// Checks that run at the same time.
const WORKERS: usize = 4;

/// The report of `tenon plugins check` about a library.
struct Checked {
    exit_code: Option<i32>,
    report: Value,
}

impl Checked {
    fn of(file: &Path, args: &[&str], fault: &str) -> Self {
        let output = Command::new(&artifacts().tenon)
            .args(["plugins", "check", "--json", "--seed", "1"])
            .args(args)
            .arg("--")
            .arg(file)
            .env("TENON_FAULT", fault)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        Self {
            exit_code: output.status.code(),
            report: serde_json::from_slice(&output.stdout)
                .unwrap_or_else(|_| panic!("{fault}: {errors}")),
        }
    }

    /// The cases with one of these statuses: name, status, and sentence.
    fn with(&self, statuses: &[&str]) -> Vec<[&str; 3]> {
        let cases = self.report["cases"].as_array().unwrap().iter();
        let told =
            cases.map(|case| ["name", "status", "sentence"].map(|key| case[key].as_str().unwrap()));
        told.filter(|[_, status, _]| statuses.contains(status))
            .collect()
    }

    fn names(&self, statuses: &[&str]) -> Vec<&str> {
        self.with(statuses).iter().map(|[name, ..]| *name).collect()
    }

    fn check_passes(&self) {
        let bad = self.with(&["failed", "crashed"]);
        assert!(bad.is_empty(), "{bad:#?}");
        assert_eq!(self.exit_code, Some(0));
    }

    /// Checks that exactly this case complains, and in this way.
    fn check_only(&self, case: &str, status: &str) {
        let bad = self.with(&["failed", "crashed", "warning"]);
        let found: Vec<_> = bad
            .iter()
            .map(|[name, status, _]| (*name, *status))
            .collect();
        assert_eq!(found, [(case, status)], "{bad:#?}");
        let exit_code = if status == "warning" { 0 } else { 1 };
        assert_eq!(self.exit_code, Some(exit_code), "{case}");
    }
}

fn library(name: &str) -> PathBuf {
    artifacts().library(name).to_owned()
}

/// A model of the fixture.
fn faulty_model(folder: &TempDir) -> String {
    let path = folder.path().join("model.faulty");
    let mut content = b"faulty".to_vec();
    content.resize(4096, 0);
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn each_fault_is_found_by_its_case_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (model, file) = (faulty_model(&folder), library(FAULTY));
    for_each(FAULTS, |(fault, status)| {
        let checked = Checked::of(&file, &["--model", &model], fault);
        checked.check_only(fault, status);
    });
}

#[test]
fn a_case_that_takes_too_long_fails() {
    const CASE: &str = "open/scan-time";
    let args = ["--include", CASE, "--time-limit", "1"];
    // With this fault the devices are listed after 1.2 seconds.
    let checked = Checked::of(&library(FAULTY), &args, CASE);
    checked.check_only(CASE, "failed");
    let [[.., sentence]] = checked.with(&["failed"])[..] else {
        panic!("{:#}", checked.report);
    };
    assert!(
        sentence.contains("it was not done after 1 seconds"),
        "{sentence}"
    );
}

#[test]
fn faults_that_need_an_order_of_operations_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let (model, file) = (faulty_model(&folder), library(FAULTY));
    for_each(
        &["a batch spoils forks", "a sample spoils forks"],
        |fault| {
            let checked = Checked::of(&file, &["--model", &model], fault);
            checked.check_only("session/random-operations", "failed");
        },
    );
}

#[test]
fn each_fault_in_c_is_found_by_its_case_alone() {
    let folder = tempfile::tempdir().unwrap();
    let model = c_model(&folder);
    for_each(C_FAULTS, |(fixture, case, status)| {
        let checked = Checked::of(&c_library(fixture), &["--model", &model], "");
        checked.check_only(case, status);
    });
}

#[test]
fn plugins_in_c_without_a_fault_pass() {
    let folder = tempfile::tempdir().unwrap();
    let model = c_model(&folder);
    for fixture in ["sound", "later"] {
        let checked = Checked::of(&c_library(fixture), &["--model", &model], "");
        checked.check_passes();
        assert_eq!(checked.names(&["warning"]), [""; 0], "{fixture}");
    }
    let text = folder.path().join("a.ngram");
    fs::write(&text, "one and two and three.\n\n".repeat(7)).unwrap();
    let args = ["--model", text.to_str().unwrap()];
    Checked::of(&c_library("ngram"), &args, "").check_passes();
}

/// The SDK refuses unknown flags, so this takes a plugin without it.
#[test]
fn a_session_that_ignores_unknown_flags_is_found() {
    const CASE: &str = "forward/unknown-flag-refused";
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.frozen");
    let checked = |content: &str| {
        fs::write(&model, content).unwrap();
        let args = ["--include", CASE, "--model", model.to_str().unwrap()];
        Checked::of(&FrozenAbi::First.plugin(), &args, "")
    };
    assert_eq!(checked("").names(&["success"]), [CASE]);
    checked("careless").check_only(CASE, "failed");
}

/// Calls with each item, several at the same time.
fn for_each<T: Sync>(items: &[T], call: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            call(item);
        }
    };
    thread::scope(|scope| {
        let workers = [(); WORKERS].map(|()| scope.spawn(work));
        for worker in workers {
            worker.join().unwrap();
        }
    });
}

/// A model of the plugins in C.
fn c_model(folder: &TempDir) -> String {
    let path = folder.path().join("model.any");
    fs::write(&path, "").unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn without_a_fault_only_two_cases_say_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let model = faulty_model(&folder);
    let checked = Checked::of(&library(FAULTY), &["--model", &model], "");
    checked.check_passes();
    assert_eq!(checked.names(&["warning"]), [""; 0]);
    // The fixture declares no schema and takes any number of tokens back.
    let silent = ["init/schema-matches", "truncate/beyond-rollback-refused"];
    assert_eq!(checked.names(&["skipped"]), silent, "{:#?}", checked.report);
}

#[test]
fn each_bad_file_fails_its_case_alone() {
    let folder = tempfile::tempdir().unwrap();
    let good = fs::read(library(FAULTY)).unwrap();
    let check = |name: &str, bytes: &[u8], case: &str| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        Checked::of(&path, &[], "").check_only(case, "failed");
    };
    check("half.so", &good[..good.len() / 2], "file/whole");
    check("text.so", b"a text", "file/whole");
    check("ggml.so", &needing_ggml(&good), "file/no-shared-ggml");
    let bytes = |name| fs::read(library(name)).unwrap();
    check(
        "plain.so",
        &bytes("tenon_fixture_plain"),
        "file/exports-loader-only",
    );
    check(
        "other.so",
        &bytes("tenon_fixture_other_abi"),
        "open/abi-agrees",
    );
}

/// The library with another name in its list of needed libraries.
fn needing_ggml(library: &[u8]) -> Vec<u8> {
    let (from, to) = (b"libgcc_s.so.1", b"libggml.so.12");
    let at = library.windows(from.len()).position(|bytes| bytes == from);
    let at = at.expect("Rust libraries need libgcc_s");
    let mut library = library.to_vec();
    library[at..at + to.len()].copy_from_slice(to);
    library
}

#[test]
fn echo_passes_with_and_without_a_model() {
    let echo = library("tenon_plugin_echo");
    let without = Checked::of(&echo, &[], "");
    without.check_passes();
    let skipped = without.with(&["skipped"]);
    assert!(skipped.iter().any(|[.., why]| why.contains("give --model")));

    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("a.echo");
    fs::write(&model, "").unwrap();
    let with = Checked::of(&echo, &["--model", model.to_str().unwrap()], "");
    with.check_passes();
    let success = with.names(&["success"]);
    for case in [
        "forward/batch-equals-alone",
        "sample/matches-reference",
        "fork/isolated",
    ] {
        assert!(success.contains(&case), "{case}: {:#?}", with.report);
    }
}

/// A model of the fixture says how many tokens `truncate` can take back. A fork has no states to go back to.
#[test]
fn a_recurrent_state_passes_whatever_it_can_take_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = library("tenon_fixture_recurrent");
    for_each(&["0", "3"], |rollback| {
        let model = folder.path().join(format!("{rollback}.recurrent"));
        fs::write(&model, rollback).unwrap();
        let checked = Checked::of(&file, &["--model", model.to_str().unwrap()], "");
        checked.check_passes();
        let success = checked.names(&["success"]);
        assert!(success.contains(&"session/random-operations"));
        assert!(success.contains(&"truncate/beyond-rollback-refused"));
        let takes_back = success.contains(&"truncate/then-same");
        assert_eq!(takes_back, *rollback != "0");
    });
}

#[test]
fn llama_cpp_passes() {
    check_backend(Backend::LlamaCpp);
}

#[test]
fn candle_quantized_passes() {
    check_backend(Backend::CandleQuantized);
}

#[test]
fn candle_passes() {
    check_backend(Backend::Candle);
}

/// Checks a backend with a tiny model.
fn check_backend(backend: Backend) {
    let folder = tempfile::tempdir().unwrap();
    let model = TestModel::tiny(Family::Llama);
    let path = match backend {
        Backend::Candle => folder.path().join("model"),
        _ => folder.path().join("model.gguf"),
    };
    match backend {
        Backend::Candle => model.write_dir(&path),
        _ => model.write_gguf(&path),
    }
    let args = ["--model", path.to_str().unwrap()];
    let checked = Checked::of(&library(backend.library()), &args, "");
    checked.check_passes();
    assert!(
        checked.names(&["success"]).len() > 40,
        "{:#?}",
        checked.report
    );
}

#[test]
fn cases_are_chosen_and_reported_as_text() {
    let run = |args: &[&str]| {
        let mut command = Command::new(&artifacts().tenon);
        command.args(["plugins", "check"]).args(args).arg("--");
        command
            .arg(library(FAULTY))
            .env("TENON_FAULT", "open/id-valid");
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, text) = run(&[
        "--include",
        "open",
        "--exclude",
        "open/scan-time",
        "--seed",
        "5",
    ]);
    assert_eq!(code, Some(1));
    assert!(
        text.contains("failed   open/id-valid    it calls itself `faulty`"),
        "{text}"
    );
    assert!(
        text.contains("promised: the plugin's id is a reverse URI"),
        "{text}"
    );
    assert!(!text.contains("scan-time"), "{text}");
    assert!(
        text.ends_with("1 failed, 1 skipped, 1 success (seed 5)\n"),
        "{text}"
    );

    let (code, text) = run(&["--include", "opens"]);
    assert_eq!(code, Some(2));
    assert!(
        text.contains("no case or group `opens`: choose from file/whole"),
        "{text}"
    );
}
