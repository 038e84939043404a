//! `tenon doctor`: its report of this machine, and of why a server could not start.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;
use tenon_tests::{artifacts, install};

const ECHO: &str = "tenon_plugin_echo";
const CANDLE: &str = "tenon_plugin_candle_quantized";

/// A folder with plugins, in which `tenon doctor` runs.
struct Machine(TempDir);

impl Machine {
    fn with(plugins: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let directory = folder.path().join("plugins");
        fs::create_dir(&directory).unwrap();
        for plugin in plugins {
            install(&directory, plugin, &format!("lib{plugin}.so"));
        }
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn config(self, text: &str) -> Self {
        fs::write(self.path().join("tenon.toml"), text).unwrap();
        self
    }

    fn doctor(&self, arguments: &[&str]) -> Output {
        Command::new(&artifacts().tenon)
            .args(["doctor", "--plugins", "plugins"])
            .args(arguments)
            .env("HOME", self.path())
            .env_remove("XDG_CONFIG_HOME")
            .current_dir(self.path())
            .output()
            .unwrap()
    }

    /// The report, and whether a server could start.
    fn report(&self) -> (Value, bool) {
        let output = self.doctor(&["--json"]);
        let report = serde_json::from_slice(&output.stdout);
        let report = report.unwrap_or_else(|error| panic!("{error}: {output:#?}"));
        let code = output.status.code();
        assert!(code == Some(0) || code == Some(1), "{output:#?}");
        (report, code == Some(0))
    }
}

/// The sentences of a list of the report, in one text.
fn list(report: &Value, name: &str) -> String {
    let sentences = report[name].as_array().expect(name).iter();
    let sentences: Vec<_> = sentences.filter_map(Value::as_str).collect();
    sentences.join("\n")
}

#[test]
fn this_machine_is_described() {
    let machine = Machine::with(&[ECHO, CANDLE]);
    let (report, could_start) = machine.report();
    assert!(could_start, "{report:#}");
    assert_eq!(list(&report, "errors"), "");
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(report["threads"]["used"], cores);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(report["kernel"], release.trim());
    assert!(report["memory"]["bytes"].as_u64().unwrap() > 1 << 28);
    assert_eq!(report["memory"]["limits"][0]["of"], "the machine");
    assert!(report["isolation"]["error"].is_null(), "{report:#}");
    assert_eq!(report["configuration"], Value::Null);
    let unoptimized = list(&report, "slow").contains("without optimization");
    assert_eq!(unoptimized, cfg!(debug_assertions));
}

/// The report has the kernels that the plugin names, and these fit the features of the CPU.
#[test]
fn kernels_are_those_that_the_cpu_has() {
    let (report, _) = Machine::with(&[CANDLE]).report();
    let plugin = &report["plugins"]["backends"][0];
    let kernels = plugin["kernels"]["cpu"].as_str().expect("kernels");
    let features = report["cpu"]["features"].as_array().unwrap();
    let has = |name: &str| features.iter().any(|feature| feature == name);
    let expected = match () {
        () if has("avx512vnni") && has("avx512bw") => "AVX-512 VNNI",
        () if has("avxvnni") => "AVX-VNNI",
        () if has("avx2") => "AVX2",
        () => "candle's own",
    };
    let begin = format!("quantized weights: {expected}; floats: ");
    assert!(kernels.starts_with(&begin), "{kernels}, {features:?}");
    let text = Machine::with(&[CANDLE]).doctor(&[]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains(&format!("cpu: {kernels}")), "{text}");
}

#[test]
fn people_get_sections_and_a_last_word() {
    let machine = Machine::with(&[ECHO]);
    install(
        &machine.path().join("plugins"),
        "tenon_fixture_plain",
        "plain.so",
    );
    let output = machine.doctor(&[]);
    let text = String::from_utf8(output.stdout).unwrap();
    for title in [
        "CPU",
        "threads",
        "memory",
        "isolation of workers",
        "GPUs",
        "plugins",
    ] {
        assert!(
            text.contains(&format!("\n{title}\n")),
            "no {title} in\n{text}"
        );
    }
    assert!(text.contains("org.tenon.echo"), "{text}");
    assert!(text.contains("plain.so is no Tenon plugin"), "{text}");
    assert!(text.ends_with("\na server could start\n"), "{text}");
}

#[test]
fn without_a_plugin_no_server_starts() {
    let machine = Machine::with(&["tenon_fixture_plain"]);
    let (report, could_start) = machine.report();
    assert!(!could_start);
    let errors = list(&report, "errors");
    assert!(
        errors.contains("there is no plugin that can be used"),
        "{errors}"
    );
    assert!(errors.contains("is no Tenon plugin"), "{errors}");
    let text = String::from_utf8(machine.doctor(&[]).stdout).unwrap();
    assert!(text.contains("\na server cannot start\n"), "{text}");
}

#[test]
fn a_wrong_configuration_keeps_a_server_from_starting() {
    let machine = Machine::with(&[ECHO]).config("[server]\nprt = 1\n");
    let (report, could_start) = machine.report();
    assert!(!could_start);
    assert!(list(&report, "errors").contains("prt"), "{report:#}");
    let model = "[[models]]\npath = 'missing.echo'\n";
    let (report, could_start) = Machine::with(&[ECHO]).config(model).report();
    assert!(!could_start);
    let errors = list(&report, "errors");
    assert!(
        errors.contains("missing.echo: it does not exist"),
        "{errors}"
    );
}

#[test]
fn what_a_configuration_makes_slow_or_doubtful_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let config = format!(
        "[server]\nport = {port}\n[[models]]\npath = 'there.echo'\nthreads = 200\n[[models]]\npath = 'missing.echo'\n"
    );
    let machine = Machine::with(&[ECHO]).config(&config);
    fs::write(machine.path().join("there.echo"), "").unwrap();
    let (report, could_start) = machine.report();
    assert!(could_start, "{report:#}");
    let slow = list(&report, "slow");
    assert!(
        slow.contains("model there: 200 threads were asked for"),
        "{slow}"
    );
    let warnings = list(&report, "warnings");
    assert!(warnings.contains("model missing: "), "{warnings}");
    let owner = format!("process {} (", std::process::id());
    assert!(warnings.contains(&owner), "{warnings}");
    assert!(
        warnings.contains(&format!("listens at port {port}")),
        "{warnings}"
    );
}

/// A limit that the shell sets with `ulimit` counts as a limit of memory.
#[test]
fn limits_of_the_process_are_shown() {
    let machine = Machine::with(&[ECHO]);
    let script = "ulimit -d 4000000 && exec \"$0\" doctor --plugins plugins --json";
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(&artifacts().tenon)
        .current_dir(machine.path())
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let limits = report["memory"]["limits"].as_array().unwrap();
    let is_it = |limit: &&Value| limit["of"] == "the process (RLIMIT_DATA)";
    let limit = limits.iter().find(is_it).expect("the limit");
    assert_eq!(limit["bytes"], 4_000_000_u64 * 1024);
}
