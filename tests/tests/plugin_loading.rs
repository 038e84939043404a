//! Files in a plugin directory: which are used, and what is said of the others.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};
use tempfile::TempDir;
use tenon::plugin::{ChooseError, Registry, RegistryOptions};
use tenon_tests::artifacts;

const ECHO: &str = "tenon_plugin_echo";
const CONSTRUCTOR: &str = "tenon_fixture_constructor";
const PANICS: &str = "tenon_fixture_panics";

#[test]
fn each_bad_file_is_refused_with_its_reason_and_the_good_one_is_used() {
    let echo = fs::read(artifacts().library(ECHO)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("empty.so", Vec::new(), "is not a shared library"),
        ("text.so", b"a text".into(), "is not a shared library"),
        ("half.so", echo[..echo.len() / 2].into(), "is cut off"),
        (
            "machine.so",
            with_byte(&echo, 18, 243),
            "is for another processor (ELF machine 243)",
        ),
        (
            "program.so",
            fs::read(&artifacts().tenon).unwrap(),
            "is no Tenon plugin",
        ),
        ("ggml.so", needing_ggml(&echo), "needs `libggml.so.12`"),
        (
            "plain.so",
            library("tenon_fixture_plain"),
            "is no Tenon plugin",
        ),
        (
            "other.so",
            library("tenon_fixture_other_abi"),
            "they differ at `PrefixRef.0` (PluginModule): expected tenon-plugin-api, found tenon-fixture-other-abi",
        ),
    ];
    for (name, bytes, _) in &cases {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    install(ECHO, folder.path(), "good.so");

    let listed = list(&[folder.path()], None);
    assert_eq!(ids(&listed), ["org.tenon.echo"]);
    for (name, _, expected) in &cases {
        check_reason(&listed, &folder.path().join(name), expected);
    }
    assert_eq!(listed["refused"].as_array().unwrap().len(), cases.len());
}

#[test]
fn another_abi_is_told_in_one_sentence_and_in_full_for_authors() {
    let folder = folder_with("tenon_fixture_other_abi");
    let listed = list(&[folder.path()], None);
    let refused = &listed["refused"][0];
    let reason = refused["reason"].as_str().unwrap();
    assert!(
        reason.contains("was built with tenon-plugin-api 0.1.0"),
        "{reason}"
    );
    assert!(reason.contains("takes plugins of ABI 1."), "{reason}");
    assert!(
        reason.lines().count() == 1 && reason.len() < 500,
        "{reason}"
    );
    let details = refused["details"].as_str().unwrap();
    assert!(details.lines().count() > 20, "{details}");
}

#[test]
fn a_constructor_that_aborts_is_refused() {
    check_constructor("abort", "crashed while being loaded (signal: 6 (SIGABRT)");
}

#[test]
fn a_constructor_with_an_illegal_instruction_is_refused() {
    check_constructor("illegal", "crashed while being loaded (signal: 4 (SIGILL)");
}

#[test]
fn a_constructor_that_exits_is_refused() {
    check_constructor(
        "exit",
        "ended the process while being loaded (exit status: 3)",
    );
}

#[test]
fn a_constructor_that_hangs_is_refused() {
    check_constructor("hang", "was not loaded within 10 seconds");
}

#[test]
fn a_constructor_that_prints_does_no_harm() {
    let folder = folder_with(CONSTRUCTOR);
    let listed = list(&[folder.path()], None);
    assert_eq!(ids(&listed), ["org.tenon.fixture.constructor"]);
}

#[test]
fn of_two_with_one_id_the_first_directory_wins() {
    let (first, second) = (folder_with(ECHO), folder_with(ECHO));
    let listed = list(&[second.path(), first.path()], None);
    assert_eq!(ids(&listed), ["org.tenon.echo"]);
    let path = first.path().join("plugin.so");
    check_reason(&listed, &path, "has the same id as");
    assert_eq!(
        listed["backends"][0]["path"],
        json!(second.path().join("plugin.so"))
    );
}

#[test]
fn a_directory_without_plugins_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let listed = list(&[folder.path(), &missing], None);
    let warnings = listed["warnings"].to_string();
    let empty = format!("{} has no plugins", folder.path().display());
    assert!(warnings.contains(&empty), "{warnings}");
    let missing = format!("{} cannot be read", missing.display());
    assert!(warnings.contains(&missing), "{warnings}");
}

#[test]
fn a_file_that_took_the_place_of_a_loaded_one_is_what_is_loaded() {
    let folder = folder_with(ECHO);
    let options = options(folder.path());
    let before = Registry::load(&options);
    assert_eq!(registry_ids(&before), ["org.tenon.echo"]);

    install(PANICS, folder.path(), "plugin.so");
    let after = Registry::load(&options);
    assert_eq!(registry_ids(&after), ["org.tenon.fixture.panics"]);
    // The old one is still there for those who use it.
    let devices = before.backends()[0].devices().unwrap();
    assert_eq!(devices[0].id, "cpu");
}

#[test]
fn a_plugin_that_does_not_take_its_options_is_refused() {
    let folder = folder_with(CONSTRUCTOR);
    let mut options = options(folder.path());
    let own = json!({"speed": 9}).as_object().unwrap().clone();
    options
        .options
        .insert("org.tenon.fixture.constructor".into(), own);
    let registry = Registry::load(&options);
    let reason = &registry.refused()[0].reason;
    assert!(
        reason.ends_with("did not start: this plugin takes no options"),
        "{reason}"
    );
}

#[test]
fn a_backend_is_chosen_by_name_or_by_what_fits() {
    let folder = folder_with(ECHO);
    install(PANICS, folder.path(), "other.so");
    let registry = Registry::load(&options(folder.path()));
    let choose = |path: &str, name| {
        let backend = registry.choose(Path::new(path), name);
        backend.map(|backend| backend.descriptor().id.clone())
    };
    let echo = Ok("org.tenon.echo".to_string());
    assert_eq!(choose("a.echo", None), echo);
    assert_eq!(
        choose("a.panics", None).unwrap(),
        "org.tenon.fixture.panics"
    );
    assert_eq!(choose("a.panics", Some("org.tenon.echo")), echo);
    assert_eq!(choose("a.panics", Some("echo")), echo);

    let unknown = choose("a.echo", Some("candle")).unwrap_err().to_string();
    assert!(unknown.contains("no backend `candle`"), "{unknown}");
    assert!(unknown.contains("org.tenon.echo, "), "{unknown}");
    let unsupported = choose("a.gguf", None).unwrap_err().to_string();
    assert!(unsupported.contains("can load a.gguf"), "{unsupported}");
    assert!(
        unsupported.contains("org.tenon.echo: not a .echo file"),
        "{unsupported}"
    );
}

#[test]
fn without_any_backend_the_error_says_where_it_looked_and_what_it_found() {
    let folder = folder_with("tenon_fixture_plain");
    let registry = Registry::load(&options(folder.path()));
    let error = registry.choose(Path::new("a.gguf"), None).err().unwrap();
    assert!(matches!(error, ChooseError::NoBackends { .. }));
    let message = error.to_string();
    assert!(
        message.contains("plugin.so is no Tenon plugin"),
        "{message}"
    );
}

fn check_constructor(does: &str, expected: &str) {
    let folder = folder_with(CONSTRUCTOR);
    let listed = list(&[folder.path()], Some(does));
    check_reason(&listed, &folder.path().join("plugin.so"), expected);
}

fn check_reason(listed: &Value, path: &Path, expected: &str) {
    let refused = listed["refused"].as_array().unwrap();
    let of_path = refused
        .iter()
        .find(|refused| refused["path"] == json!(path));
    let of_path = of_path.unwrap_or_else(|| panic!("{path:?} is not in {listed:#}"));
    let reason = of_path["reason"].as_str().unwrap();
    assert!(reason.starts_with(path.to_str().unwrap()), "{reason}");
    assert!(reason.contains(expected), "{reason} is not: {expected}");
}

fn ids(listed: &Value) -> Vec<&str> {
    let backends = listed["backends"].as_array().unwrap().iter();
    backends
        .map(|backend| backend["id"].as_str().unwrap())
        .collect()
}

fn registry_ids(registry: &Registry) -> Vec<&str> {
    let backends = registry.backends().iter();
    backends
        .map(|backend| backend.descriptor().id.as_str())
        .collect()
}

/// What `tenon plugins list --json` prints. Lines before it are the plugins' own.
fn list(directories: &[&Path], constructor: Option<&str>) -> Value {
    let mut command = Command::new(&artifacts().tenon);
    command.args(["plugins", "list", "--json"]);
    for directory in directories {
        command.arg("--plugins").arg(directory);
    }
    command.envs(constructor.map(|does| ("TENON_FIXTURE_CONSTRUCTOR", does)));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let json = &stdout[stdout.find('{').unwrap()..];
    serde_json::from_str(json).unwrap()
}

fn options(directory: &Path) -> RegistryOptions {
    RegistryOptions {
        executable: artifacts().tenon.clone(),
        ..RegistryOptions::new(vec![directory.into()]).unwrap()
    }
}

fn library(name: &str) -> Vec<u8> {
    fs::read(artifacts().library(name)).unwrap()
}

fn folder_with(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    install(name, folder.path(), "plugin.so");
    folder
}

/// By rename, as plugins are to be installed: a loaded file must not change.
fn install(name: &str, folder: &Path, file: &str) {
    let new = folder.join("new");
    fs::copy(artifacts().library(name), &new).unwrap();
    fs::rename(new, folder.join(file)).unwrap();
}

fn with_byte(bytes: &[u8], at: usize, value: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] = value;
    bytes
}

/// The same library, but where it needs libgcc it needs libggml.
fn needing_ggml(library: &[u8]) -> Vec<u8> {
    let (from, to) = (b"libgcc_s.so.1", b"libggml.so.12");
    let at = library.windows(from.len()).position(|bytes| bytes == from);
    let at = at.expect("Rust libraries need libgcc_s");
    let mut library = library.to_vec();
    library[at..at + to.len()].copy_from_slice(to);
    library
}
