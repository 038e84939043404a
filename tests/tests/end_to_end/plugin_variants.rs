//! Builds of one plugin for different CPUs: which is used, and why the others are not.
#![cfg(target_arch = "x86_64")]

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use object::{Object, ObjectSegment, ObjectSymbol};
use serde_json::json;
use tenon_plugin_api::abi::{
    COMPILED_FOR, CPU_FEATURES, CPU_FEATURES_SYMBOL, UNWINDS_SYMBOL, cpu_features,
};
use tenon_tests::{PluginFolder, ServerOptions, artifacts};

const ECHO: &str = "tenon_plugin_echo";
const CRASHES: &str = "tenon_fixture_crashes";
const V2: &str = "x86-64-v2/plugin.so";
const V3: &str = "x86-64-v3/plugin.so";
const V4: &str = "x86-64-v4/plugin.so";
const PLAIN: &str = "plugin.so";

#[test]
fn the_highest_level_that_the_cpu_has_is_used() {
    let folder = PluginFolder::with(ECHO);
    for level in [V2, V3, V4] {
        folder.install(ECHO, level);
    }
    let has_v3 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let has_v4 = has_v3 && is_x86_feature_detected!("avx512vl");
    let lesser = "is for lesser CPUs than this one, which uses";
    let lacks_v3 = "is for x86-64-v3, and this CPU lacks AVX";
    let lacks_v4 = "is for x86-64-v4, and this CPU lacks ";
    let expected = match (has_v3, has_v4) {
        (_, true) => [(V4, ""), (V3, lesser), (V2, lesser), (PLAIN, lesser)],
        (true, _) => [(V3, ""), (V4, lacks_v4), (V2, lesser), (PLAIN, lesser)],
        _ => [(V2, ""), (V4, lacks_v4), (V3, lacks_v3), (PLAIN, lesser)],
    };
    let [(used, _), passed_over @ ..] = expected.map(|(name, why)| (folder.path(name), why));
    let passed_over = passed_over
        .each_ref()
        .map(|(path, why)| (path.as_path(), *why));
    let listed = folder.list();
    listed.check_variant(&used, &passed_over);
    let level = used.parent().unwrap().file_name().unwrap();
    assert_eq!(listed.0["backends"][0]["level"], json!(level.to_str()));
    assert_eq!(listed.0["refused"], json!([]));
}

#[test]
fn a_plain_file_is_used_where_no_level_fits() {
    if is_x86_feature_detected!("avx512vl") {
        return;
    }
    let folder = PluginFolder::with(ECHO);
    folder.install(ECHO, V4);
    let lacks =
        "is for x86-64-v4, and this CPU lacks AVX512F, AVX512BW, AVX512CD, AVX512DQ, AVX512VL";
    let listed = folder.list();
    listed.check_variant(&folder.path(PLAIN), &[(folder.path(V4).as_path(), lacks)]);
    assert_eq!(listed.0["backends"][0]["level"], json!(null));

    fs::remove_file(folder.path(PLAIN)).unwrap();
    let listed = folder.list();
    assert!(listed.ids().is_empty(), "{:#}", listed.0);
    listed.check_refused(&folder.path(V4), lacks);
}

#[test]
fn a_variant_that_cannot_be_used_gives_way_to_the_next_lower_one() {
    let folder = PluginFolder::empty();
    folder.install(CRASHES, "deeds/init-amx.so");
    folder.install(ECHO, "deeds/echo.so");
    fs::create_dir(folder.path("x86-64-v2")).unwrap();
    symlink(folder.path("deeds/init-amx.so"), folder.path(V2)).unwrap();
    symlink(folder.path("deeds/echo.so"), folder.path(PLAIN)).unwrap();
    let listed = folder.list();
    let needs = "needs AMX_TILE, which this CPU or its kernel does not offer";
    listed.check_variant(&folder.path(PLAIN), &[(folder.path(V2).as_path(), needs)]);
    assert_eq!(listed.0["refused"], json!([]));

    // The command's text output says the same.
    let output = Command::new(&artifacts().tenon)
        .args(["plugins", "list", "--plugins"])
        .arg(folder.path(""))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = format!("  not used: {} {needs}", folder.path(V2).display());
    assert!(text.contains(&line), "{text}");
}

/// A library like one that was compiled for a newer CPU: it may use the CPU's instructions anywhere.
#[test]
fn a_build_for_another_cpu_is_refused_before_it_runs() {
    let folder = PluginFolder::with(ECHO);
    folder.install(ECHO, V2);
    for (feature, expected) in [
        (
            "avx512fp16",
            "is built for CPUs with more than this one has (AVX512FP16)",
        ),
        ("", "(features that this host does not know)"),
    ] {
        let bit = CPU_FEATURES.iter().position(|name| *name == feature);
        if cpu_features() >> bit.unwrap_or(63) & 1 == 1 {
            continue;
        }
        let features = COMPILED_FOR | 1 << bit.unwrap_or(63);
        set_note(&folder.path(V2), CPU_FEATURES_SYMBOL, features);
        let listed = folder.list();
        listed.check_variant(
            &folder.path(PLAIN),
            &[(folder.path(V2).as_path(), expected)],
        );
    }
}

/// A library like one that was compiled with `panic = "abort"`.
#[test]
fn a_build_that_aborts_is_refused_before_it_runs() {
    let folder = PluginFolder::with(ECHO);
    set_note(&folder.path(PLAIN), UNWINDS_SYMBOL, 0);
    let expected = "is built with `panic = \"abort\"`";
    folder.list().check_refused(&folder.path(PLAIN), expected);
}

/// Changes a note in a library.
fn set_note(library: &Path, name: &str, note: u64) {
    let mut bytes = fs::read(library).unwrap();
    let at = offset_of(&bytes, name);
    bytes[at..at + 8].copy_from_slice(&note.to_le_bytes());
    fs::write(library, bytes).unwrap();
}

fn offset_of(library: &[u8], name: &str) -> usize {
    let file = object::File::parse(library).unwrap();
    let mut symbols = file.dynamic_symbols();
    let symbol = symbols.find(|symbol| symbol.name() == Ok(name));
    let address = symbol.unwrap().address();
    let offset = file.segments().find_map(|segment| {
        let (offset, len) = segment.file_range();
        let within = address.checked_sub(segment.address())?;
        (within < len).then_some(offset + within)
    });
    offset.unwrap() as usize
}

#[test]
fn a_file_in_no_folder_of_a_level_is_told() {
    let folder = PluginFolder::with(ECHO);
    folder.install(ECHO, "x86_64-v3/plugin.so");
    let listed = folder.list();
    listed.check_variant(&folder.path(PLAIN), &[]);
    let warnings = listed.0["warnings"].to_string();
    assert!(
        warnings.contains("x86_64-v3 is not looked into: the levels of CPUs"),
        "{warnings}"
    );
}

#[tokio::test]
async fn a_server_serves_with_a_variant() {
    let folder = PluginFolder::empty();
    folder.install(ECHO, V2);
    let mut server = ServerOptions::new(&[])
        .file("a.echo", "")
        .arguments(&["a.echo", "--plugins", folder.path("").to_str().unwrap()])
        .start();
    let found = server.wait_for_log("plugin loaded");
    assert!(found.contains(V2), "{found}");
    let answer = server.client().chat("Hi", json!({"temperature": 0})).await;
    assert_eq!(answer, "Hi");
}
