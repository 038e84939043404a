//! Environment variables that set single values of `[server]`, `[engine]`, `[grammar]` and `[telemetry]`:
//! `TENON__SERVER__PORT=9000` is `port` of `[server]`. Some keys also have variables with other names, such as OpenTelemetry's.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use figment::value::Value;

use super::{layer::Layer, schema, sentences::instead_of};

const PREFIX: &str = "TENON__";
const SECTIONS: [&str; 4] = ["server", "engine", "grammar", "telemetry"];
/// Variables without the prefix: name, key, and whether the value is a number.
const SHORT: [(&str, &str, bool); 3] = [
    ("KEEP_ALIVE_INTERVAL", "server.keep_alive_interval_ms", true),
    (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "telemetry.otlp_endpoint",
        false,
    ),
    ("OTEL_SERVICE_NAME", "telemetry.service_name", false),
];

/// Environment variables, by name.
pub struct Environment {
    variables: BTreeMap<String, String>,
    has_secrets: bool,
}

impl Environment {
    pub fn of_process() -> Self {
        let variables = env::vars_os().map(|(name, value)| {
            let text = |text: OsString| text.to_string_lossy().into_owned();
            (text(name), text(value))
        });
        Self::new(variables)
    }

    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self {
            variables: variables.into_iter().collect(),
            has_secrets: true,
        }
    }

    /// Keeps only `HOME`. Secrets are then read neither from variables nor from files.
    pub fn home_only(mut self) -> Self {
        self.variables.retain(|name, _| name == "HOME");
        self.has_secrets = false;
        self
    }

    /// All variables, if secrets may be read.
    pub fn secrets(&self) -> Option<&BTreeMap<String, String>> {
        self.has_secrets.then_some(&self.variables)
    }

    pub fn home(&self) -> Option<&Path> {
        self.directory("HOME")
    }

    /// Finds the configuration file to use when none is named.
    pub fn find_file(&self, working_directory: &Path) -> Option<PathBuf> {
        let user = self.directory("XDG_CONFIG_HOME").map(Path::to_path_buf);
        let user = user.or_else(|| Some(self.home()?.join(".config")));
        [
            Some(working_directory.join("tenon.toml")),
            user.map(|directory| directory.join("tenon/tenon.toml")),
        ]
        .into_iter()
        .flatten()
        .find(|file| file.is_file())
    }

    /// A layer for each variable that sets something. Later layers override earlier ones.
    pub fn layers(&self) -> impl Iterator<Item = Result<Layer, String>> {
        let settings = settings();
        let short = SHORT.into_iter().filter_map(|(name, key, is_number)| {
            // OpenTelemetry treats an empty variable as absent.
            let text = self.variables.get(name)?;
            let is_absent = text.is_empty() && name.starts_with("OTEL_");
            (!is_absent).then(|| Ok(Setting::short(key, is_number).layer(name, text)))
        });
        let prefixed = self
            .variables
            .iter()
            .filter(|(name, _)| name.starts_with(PREFIX));
        let prefixed = prefixed.map(move |(name, text)| match settings.get(name) {
            Some(setting) => Ok(setting.layer(name, text)),
            None => Err(unknown(name, &settings)),
        });
        short.chain(prefixed)
    }

    /// An absolute directory. An empty or relative one counts as absent, as in the XDG specification. The crate
    /// `etcetera` is not used, because it reads only the variables of the process, and tests pass others.
    fn directory(&self, name: &str) -> Option<&Path> {
        self.variables
            .get(name)
            .map(Path::new)
            .filter(|path| path.is_absolute())
    }
}

/// The setting of a variable.
struct Setting {
    /// Section and name, with a dot between them.
    key: String,
    is_number: bool,
    is_switch: bool,
}

impl Setting {
    fn short(key: &str, is_number: bool) -> Self {
        Self {
            key: key.into(),
            is_number,
            is_switch: false,
        }
    }

    /// Makes the layer. Text in the place of a number or boolean stays text, and its section refuses it.
    fn layer(&self, variable: &str, text: &str) -> Layer {
        let number: Option<i64> = text.parse().ok().filter(|_| self.is_number);
        let switch: Option<bool> = text.parse().ok().filter(|_| self.is_switch);
        let value = number.map(Value::from).or(switch.map(Value::from));
        let value = value.unwrap_or_else(|| Value::from(text));
        Layer::of_value(
            format!("the environment variable {variable}"),
            &self.key,
            value,
        )
    }
}

/// All variables with the prefix that exist, by name.
fn settings() -> BTreeMap<String, Setting> {
    let schema = schema();
    let of_section = |section: &str| -> Vec<(String, Setting)> {
        let keys = schema["properties"][section]["properties"].as_object();
        let single = keys
            .into_iter()
            .flatten()
            .filter(|(_, kind)| kind["type"] != "array");
        let setting = |(key, kind): (&String, &serde_json::Value)| {
            let setting = Setting {
                key: format!("{section}.{key}"),
                is_number: is_number(&kind["type"]),
                is_switch: kind["type"] == "boolean",
            };
            (format!("{PREFIX}{section}__{key}").to_uppercase(), setting)
        };
        single.map(setting).collect()
    };
    SECTIONS.into_iter().flat_map(of_section).collect()
}

/// Whether a value of these JSON Schema types may be a number.
fn is_number(types: &serde_json::Value) -> bool {
    let list = types
        .as_array()
        .map_or(std::slice::from_ref(types), Vec::as_slice);
    list.iter().any(|kind| kind == "integer")
}

fn unknown(variable: &str, settings: &BTreeMap<String, Setting>) -> String {
    let allowed: Vec<&String> = settings.keys().collect();
    format!(
        "the environment variable {variable} sets nothing{}; lists, plugins and models are set in the file",
        instead_of(variable, &allowed)
    )
}
