//! Tests of the changes that a running server takes over from a new configuration.

use super::{Config, load_toml};
use crate::config::ConfigChange;

/// Checks which keys change at once, and which need a restart.
#[track_caller]
fn check(running: &str, new: &str, changed: &[&str], needs_restart: &[&str]) -> Config {
    let running = load_toml(running);
    let change = ConfigChange::new(&running, load_toml(new));
    assert_eq!(change.changed, changed);
    assert_eq!(change.needs_restart, needs_restart);
    // Reading the same configuration again reports the keys that need a restart, and no other change.
    let again = ConfigChange::new(&change.config, load_toml(new));
    assert!(again.changed.is_empty(), "{:?}", again.changed);
    assert_eq!(again.needs_restart, needs_restart);
    change.config
}

#[test]
fn keys_change_at_once_but_for_those_that_need_a_restart() {
    check("", "", &[], &[]);
    let new =
        "[server]\nport = 1\nmax_connections = 7\nhost = '127.0.0.2'\n[engine]\nmax_queue = 3";
    let changed = ["server.max_connections", "engine.max_queue"];
    let config = check("", new, &changed, &["server.host", "server.port"]);
    assert_eq!(config.server.max_connections, 7);
    assert_eq!(
        config.server.listen[0].address.to_string(),
        "127.0.0.1:8080"
    );

    let new = "[plugins]\nwatch = false\nreload_on_replace = true";
    let changed = ["plugins.reload_on_replace"];
    let config = check("", new, &changed, &["plugins.watch"]);
    assert!(config.plugins.watch && config.plugins.reload_on_replace);
}

#[test]
fn traces_go_elsewhere_after_a_restart_only() {
    let new = "[telemetry]\notlp_endpoint = 'http://a:4318'";
    let config = check("", new, &[], &["telemetry.otlp_endpoint"]);
    assert_eq!(config.telemetry.otlp_endpoint, None);
}

#[test]
fn a_key_that_is_taken_out_has_its_default_again() {
    let running = "[server]\napi_keys = ['a']\nlog_format = 'json'";
    let config = check(running, "", &["server.api_keys"], &["server.log_format"]);
    assert!(config.keys.is_empty());
}

#[test]
fn tls_begins_and_ends_with_a_restart_only() {
    let tls = |certificate| format!("[tls]\ncertificate_file = '{certificate}'\nkey_file = 'b'");
    let keys = ["tls.certificate_file", "tls.key_file"];
    let config = check("", &tls("a"), &[], &keys);
    assert_eq!(config.tls, None);
    let config = check(&tls("a"), "", &[], &keys);
    assert!(config.tls.is_some());
    let config = check(&tls("a"), &tls("c"), &keys[..1], &[]);
    assert!(config.tls.unwrap().certificate_file.ends_with("c"));
}

#[test]
fn the_names_that_are_allowed_by_default_stay_with_the_address() {
    let config = check("", "[server]\nhost = '0.0.0.0'", &[], &["server.host"]);
    assert_eq!(config.server.hosts, load_toml("").server.hosts);
}

#[test]
fn only_settings_of_the_load_make_another_model() {
    let model = |keys: &str| {
        let config = load_toml(&format!("[[models]]\npath = 'a'\n{keys}\n"));
        config.models.into_iter().next().unwrap()
    };
    for keys in [
        "aliases = ['b']",
        "load = 'on-demand'",
        "idle_unload_secs = 3",
        "max_answers = 3",
        "max_output_tokens = 3",
    ] {
        assert!(model("").loads_like(&model(keys)), "{keys}");
        assert_ne!(model(""), model(keys), "{keys}");
    }
    for keys in ["max_sequences = 3", "min_priority = 3", "quantize = 'Q8_0'"] {
        assert!(!model("").loads_like(&model(keys)), "{keys}");
    }
}
