//! The change of a running configuration when it is read again.

use serde_json::Value;

use super::{Config, Plugins, Responses, Server, layers::toml_key};

/// A change of the running configuration.
#[derive(Debug)]
pub struct ConfigChange {
    /// The configuration from now on: the new one, except for keys that need a restart.
    pub config: Config,
    /// Keys outside of `[[models]]` whose new values count from now on.
    pub changed: Vec<String>,
    /// Keys outside of `[[models]]` whose new values count from the next start on.
    pub needs_restart: Vec<String>,
}

impl ConfigChange {
    /// Compares the running configuration with `new`.
    pub fn new(running: &Config, mut new: Config) -> Self {
        let written = new.written.clone();
        let keys = different_keys(&running.written, &written).into_iter();
        // An address that listens already cannot change between TLS and plain text.
        let tls_stays = new.tls.is_some() == running.tls.is_some();
        let stays = |key: &[&str]| needs_a_restart(key) || key[0] == "tls" && !tls_stays;
        let (kept, changed): (Vec<_>, Vec<_>) = keys.partition(|key| stays(key));
        for key in &kept {
            if let [section, name] = key.as_slice() {
                new.written[*section][*name] = running.written[*section][*name].clone();
            }
        }
        new.keys.go_on_from(&running.keys);
        let names = |keys: &[Vec<&str>]| keys.iter().map(|key| toml_key(key)).collect();
        Self {
            config: keep(running, new),
            changed: names(&changed),
            needs_restart: names(&kept),
        }
    }
}

impl Config {
    /// Whether the settings that all models share are the same as in another configuration.
    pub fn loads_models_like(&self, other: &Self) -> bool {
        self.grammar == other.grammar
            && self.prompts == other.prompts
            && self.server.write_timeout == other.server.write_timeout
    }
}

/// Whether a change of the key needs a restart: addresses, log, traces and the file of responses are in use already, and plugins
/// were tried out with their settings.
fn needs_a_restart(key: &[&str]) -> bool {
    match key {
        ["server", name] => matches!(
            *name,
            "host" | "port" | "listen" | "admin_listen" | "log_format" | "watch_config"
        ),
        ["telemetry", _] => true,
        ["plugins", name] => *name != "reload_on_replace",
        ["responses", name] => *name == "file",
        _ => false,
    }
}

/// The new configuration with the running values of keys that need a restart.
fn keep(running: &Config, new: Config) -> Config {
    let (old, server) = (&running.server, new.server);
    let tls = match new.tls.is_some() == running.tls.is_some() {
        true => new.tls,
        false => running.tls.clone(),
    };
    // The default of the allowed names depends on the address.
    let hosts = match server.listen == old.listen {
        true => server.hosts,
        false => old.hosts.clone(),
    };
    Config {
        server: Server {
            hosts,
            listen: old.listen.clone(),
            log_format: old.log_format,
            watch_config: old.watch_config,
            ..server
        },
        plugins: Plugins {
            reload_on_replace: new.plugins.reload_on_replace,
            ..running.plugins.clone()
        },
        tls,
        responses: Responses {
            file: running.responses.file.clone(),
            ..new.responses
        },
        telemetry: running.telemetry.clone(),
        ..new
    }
}

/// The keys that are written differently, in the order of the schema: section and name, or the name of a list of tables.
fn different_keys<'a>(old: &'a Value, new: &'a Value) -> Vec<Vec<&'a str>> {
    let sections = new.as_object().into_iter().flatten();
    let keys = sections.flat_map(|(section, values)| match values {
        Value::Object(values) => {
            let different =
                |(name, value): &(&String, &Value)| old[section].get(name) != Some(value);
            let different = values.iter().filter(different);
            different
                .map(|(name, _)| vec![section.as_str(), name.as_str()])
                .collect()
        }
        list if old[section] != *list => vec![vec![section.as_str()]],
        _ => Vec::new(),
    });
    keys.collect()
}
