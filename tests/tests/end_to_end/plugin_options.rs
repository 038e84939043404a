//! Options that plugins declare: they are checked before anything is loaded, and shown.

use std::{
    fs,
    process::{Command, Output},
};

use serde_json::{Value, json};
use tenon::plugin::Registry;
use tenon_tests::{PluginFolder, ServerOptions, artifacts, c_library};

const ECHO: &str = "tenon_plugin_echo";
const LLAMA: &str = "tenon_plugin_llama_cpp";
const CANDLE: &str = "tenon_plugin_candle";
const QUANTIZED: &str = "tenon_plugin_candle_quantized";

#[test]
fn an_option_that_a_plugin_does_not_declare_is_named_with_those_that_it_does() {
    let folder = PluginFolder::with(LLAMA);
    let mut options = folder.options();
    let own = json!({"max_cache_byte": 9}).as_object().unwrap().clone();
    options.options.insert("org.tenon.llama-cpp".into(), own);
    let registry = Registry::load(&options);
    let reason = &registry.refused()[0].reason;
    assert!(
        reason.ends_with(
            "did not start: \"max_cache_byte\" in [plugins.options.\"org.tenon.llama-cpp\"] is no known option; did you mean \
             \"max_cache_bytes\"? Allowed: max_cache_bytes"
        ),
        "{reason}"
    );
}

#[test]
fn a_model_with_a_wrong_option_is_not_loaded() {
    let mut server = ServerOptions::new(&[ECHO])
        .file("echo.echo", "")
        .config("[[models]]\npath = 'echo.echo'\noptions = { speed = 9 }")
        .spawn();
    assert!(!server.wait().success());
    let log = server.rest_of_log();
    let expected = "\"speed\" in the options of the model echo is no known option";
    assert!(log.contains(expected), "{log}");
}

#[test]
fn config_check_knows_the_options_of_installed_plugins() {
    let folder = PluginFolder::with(QUANTIZED);
    folder.install(ECHO, "echo.so");
    let config = "
        [plugins]
        directories = ['.']
        [plugins.options.\"org.tenon.echo\"]
        speed = 9
        [plugins.options.\"org.example.missing\"]
        anything = 1
        [[models]]
        path = 'a.gguf'
        backend = 'candle-quantized'
        options = { kv_type = 'q4_0' }";
    fs::write(folder.path("tenon.toml"), config).unwrap();
    let file = folder.path("tenon.toml");
    let output = tenon(&["config", "check", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let error = String::from_utf8(output.stderr).unwrap();
    for expected in [
        "tenon.toml: \"speed\" in [plugins.options.\"org.tenon.echo\"] is no known option: remove it, there are none",
        "tenon.toml: \"kv_type\" in the options of the model a must be \"f32\", \"f16\" or \"bf16\", not \"q4_0\"",
    ] {
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn show_prints_what_a_plugin_is() {
    let folder = PluginFolder::with(LLAMA);
    let text = shown(&folder, "llama-cpp", &[]);
    for line in [
        "  licence     Apache-2.0",
        "options of the plugin, [plugins.options.\"org.tenon.llama-cpp\"]:",
        "  max_cache_bytes: a whole number of at least 0; default 68719476736",
        "  gpu_layers: a whole number of at least 0",
        "      How many layers are computed on GPUs. Left out: all.",
        "  mmap: true or false; default true",
        "  kv_type: \"f32\", \"f16\" or \"q8_0\"; default \"f16\"",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    let levels = text.lines().find(|line| line.starts_with("  levels"));
    assert!(levels.unwrap().contains("F32, "), "{text}");
    let devices = text.lines().find(|line| line.starts_with("  devices"));
    let devices = devices.unwrap().trim_start_matches("  devices").trim();
    assert!(devices.split(", ").any(|device| device == "cpu"), "{text}");
    let unknown = tenon(&[
        "plugins",
        "show",
        "echo",
        "--plugins",
        folder.path("").to_str().unwrap(),
    ]);
    assert_eq!(unknown.status.code(), Some(2));
}

#[test]
fn every_shipped_plugin_declares_its_options() {
    let rust = |name: &str| artifacts().library(name).to_owned();
    for (library, id, models) in [
        (rust(ECHO), "echo", &[][..]),
        (c_library("ngram"), "ngram-c", &[]),
        (rust(CANDLE), "candle", &["dtype", "quantize", "kv_type"]),
        (
            rust(QUANTIZED),
            "candle-quantized",
            &["quantize", "kv_type"],
        ),
        (
            rust(LLAMA),
            "llama-cpp",
            &["gpu_layers", "mmap", "flash_attention", "kv_type"],
        ),
    ] {
        let folder = PluginFolder::empty();
        folder.install_file(&library, "plugin.so");
        let plugin: Value = serde_json::from_str(&shown(&folder, id, &["--json"])).unwrap();
        for schema in ["options", "model_options"] {
            assert_eq!(
                plugin[schema]["additionalProperties"],
                json!(false),
                "{plugin:#}"
            );
        }
        let properties = plugin["model_options"]["properties"].as_object();
        let names: Vec<&str> = properties
            .into_iter()
            .flatten()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names, models, "{id}");
        assert_eq!(plugin["license"], "Apache-2.0");
    }
}

/// The output of `tenon plugins show` about a plugin.
fn shown(folder: &PluginFolder, id: &str, flags: &[&str]) -> String {
    let directory = folder.path("");
    let arguments = [
        "plugins",
        "show",
        id,
        "--plugins",
        directory.to_str().unwrap(),
    ];
    let output = tenon(&[&arguments, flags].concat());
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn tenon(arguments: &[&str]) -> Output {
    Command::new(&artifacts().tenon)
        .args(arguments)
        .output()
        .unwrap()
}
