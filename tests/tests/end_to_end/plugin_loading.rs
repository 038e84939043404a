//! Files in a plugin directory: which are used, and why the others are not.

use std::{fs, path::Path};

use serde_json::json;
use tenon::plugin::{ChooseError, Registry};
use tenon_tests::{PluginFolder, artifacts, list};

const ECHO: &str = "tenon_plugin_echo";
const CRASHES: &str = "tenon_fixture_crashes";
const PANICS: &str = "tenon_fixture_panics";

#[test]
fn each_bad_file_is_refused_with_its_reason_and_the_good_one_is_used() {
    let echo = fs::read(artifacts().library(ECHO)).unwrap();
    let folder = PluginFolder::empty();
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
            "they differ at `PrefixRef.0` (PluginModule): expected tenon-plugin-abi, found tenon-fixture-other-abi",
        ),
    ];
    for (name, bytes, _) in &cases {
        fs::write(folder.path(name), bytes).unwrap();
    }
    folder.install(ECHO, "good.so");

    let listed = folder.list();
    assert_eq!(listed.ids(), ["org.tenon.echo"]);
    for (name, _, expected) in &cases {
        listed.check_refused(&folder.path(name), expected);
    }
    let refused = listed.0["refused"].as_array().unwrap();
    assert_eq!(refused.len(), cases.len());
}

#[test]
fn another_abi_is_told_in_one_sentence_and_in_full_for_authors() {
    let listed = PluginFolder::with("tenon_fixture_other_abi").list();
    let refused = &listed.0["refused"][0];
    let reason = refused["reason"].as_str().unwrap();
    assert!(
        reason.contains("(tenon-fixture-other-abi 0.1.0) was built against plugin ABI 0.1"),
        "{reason}"
    );
    assert!(reason.contains("takes ABI 1.0 to 1.x"), "{reason}");
    assert!(reason.contains("plugin.so (tenon-"), "{reason}");
    assert!(reason.contains("they differ at `PrefixRef.0`"), "{reason}");
    assert!(
        reason.ends_with("build the plugin with tenon-plugin-api 1"),
        "{reason}"
    );
    assert!(
        reason.lines().count() == 1 && reason.len() < 500,
        "{reason}"
    );
    let details = refused["details"].as_str().unwrap();
    assert!(details.lines().count() > 20, "{details}");
}

#[test]
fn of_two_with_one_id_the_first_directory_wins() {
    let (first, second) = (PluginFolder::with(ECHO), PluginFolder::with(ECHO));
    let listed = list(&[&second.path(""), &first.path("")]);
    assert_eq!(listed.ids(), ["org.tenon.echo"]);
    listed.check_refused(&first.path("plugin.so"), "has the same id as");
    listed.check_variant(&second.path("plugin.so"), &[]);
}

#[test]
fn a_directory_without_plugins_is_named() {
    let folder = PluginFolder::empty();
    let missing = folder.path("missing");
    let listed = list(&[&folder.path(""), &missing]);
    let warnings = listed.0["warnings"].to_string();
    let empty = format!("{} has no plugins", folder.path("").display());
    assert!(warnings.contains(&empty), "{warnings}");
    let missing = format!("{} cannot be read", missing.display());
    assert!(warnings.contains(&missing), "{warnings}");
}

#[test]
fn a_file_that_took_the_place_of_a_loaded_one_is_what_is_loaded() {
    let folder = PluginFolder::with(ECHO);
    let options = folder.options();
    let backend = |registry: &Registry, name| registry.choose(Path::new("a"), Some(name)).unwrap();
    let before = Registry::load(&options);
    let echo = backend(&before, "echo");
    assert_eq!(registry_ids(&before), ["org.tenon.echo"]);

    folder.install(PANICS, "plugin.so");
    let after = Registry::load(&options);
    assert_eq!(registry_ids(&after), ["org.tenon.fixture.panics"]);
    let panics = backend(&after, "panics");
    assert_eq!(panics.descriptor().id, "org.tenon.fixture.panics");
    // The old backend still works for those who use it.
    assert_eq!(echo.devices().unwrap()[0].id, "cpu");
}

#[test]
fn only_what_has_changed_is_tried_again() {
    let folder = PluginFolder::with(ECHO);
    let options = folder.options();
    let first = Registry::load(&options);
    folder.install(PANICS, "other.so");
    let second = first.renewed(&options);
    assert_eq!(new_ids(&second, &first), ["org.tenon.fixture.panics"]);
    folder.install(ECHO, "plugin.so");
    let third = second.renewed(&options);
    assert_eq!(new_ids(&third, &second), ["org.tenon.echo"]);
    fs::remove_file(folder.path("other.so")).unwrap();
    let fourth = third.renewed(&options);
    assert_eq!(new_ids(&fourth, &third), Vec::<&str>::new());
    assert_eq!(registry_ids(&fourth), ["org.tenon.echo"]);
    // An earlier registry still has its plugins.
    assert_eq!(registry_ids(&third).len(), 2);
}

#[test]
fn other_models_are_asked_about_again() {
    let folder = PluginFolder::with(ECHO);
    let mut options = folder.options();
    let first = Registry::load(&options);
    options.models = vec!["a.echo".into()];
    let second = first.renewed(&options);
    assert_eq!(new_ids(&second, &first), ["org.tenon.echo"]);
    assert!(second.plugin_for(Path::new("a.echo"), None).is_ok());
}

#[test]
fn what_was_tried_is_what_is_loaded_later() {
    let folder = PluginFolder::with(ECHO);
    let registry = Registry::load(&folder.options());
    folder.install(PANICS, "plugin.so");
    let echo = registry.choose(Path::new("a"), Some("echo")).unwrap();
    assert_eq!(echo.descriptor().id, "org.tenon.echo");
}

#[test]
fn a_plugin_that_does_not_take_its_options_is_refused() {
    let folder = PluginFolder::with(CRASHES);
    let mut options = folder.options();
    let own = json!({"speed": 9}).as_object().unwrap().clone();
    options
        .options
        .insert("org.tenon.fixture.plugin".into(), own);
    let registry = Registry::load(&options);
    let reason = &registry.refused()[0].reason;
    assert!(
        reason.ends_with("did not start: this plugin takes no options"),
        "{reason}"
    );
}

#[test]
fn a_backend_is_chosen_by_name_or_by_what_fits() {
    let folder = PluginFolder::with(ECHO);
    folder.install(PANICS, "other.so");
    let mut options = folder.options();
    // A file that exists, and is no model.
    let other = "Cargo.toml";
    options.models = ["a.echo", "a.panics", other].map(Into::into).into();
    let registry = Registry::load(&options);
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
    let unsupported = choose(other, None).unwrap_err().to_string();
    assert!(unsupported.contains("can load Cargo.toml"), "{unsupported}");
    assert!(
        unsupported.contains("org.tenon.echo: not a .echo file"),
        "{unsupported}"
    );
}

#[test]
fn without_any_backend_the_error_says_where_it_looked_and_what_it_found() {
    let folder = PluginFolder::with("tenon_fixture_plain");
    let registry = Registry::load(&folder.options());
    let error = registry.choose(Path::new("a.gguf"), None).err().unwrap();
    assert!(matches!(error, ChooseError::NoBackends { .. }));
    let message = error.to_string();
    assert!(
        message.contains("plugin.so is no Tenon plugin"),
        "{message}"
    );
}

fn new_ids<'a>(registry: &'a Registry, before: &Registry) -> Vec<&'a str> {
    let plugins = registry.new_since(before);
    plugins.map(|plugin| plugin.facts.id.as_str()).collect()
}

fn registry_ids(registry: &Registry) -> Vec<&str> {
    let plugins = registry.plugins().iter();
    plugins.map(|plugin| plugin.facts.id.as_str()).collect()
}

fn library(name: &str) -> Vec<u8> {
    fs::read(artifacts().library(name)).unwrap()
}

fn with_byte(bytes: &[u8], at: usize, value: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] = value;
    bytes
}

/// The library, changed so that it needs libggml instead of libgcc.
fn needing_ggml(library: &[u8]) -> Vec<u8> {
    let (from, to) = (b"libgcc_s.so.1", b"libggml.so.12");
    let at = library.windows(from.len()).position(|bytes| bytes == from);
    let at = at.expect("Rust libraries need libgcc_s");
    let mut library = library.to_vec();
    library[at..at + to.len()].copy_from_slice(to);
    library
}
