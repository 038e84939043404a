//! The configuration, from four layers: defaults ← TOML ← environment ← flags.
//!
//! A section has two types. The raw type is what may be written: its doc comments become the JSON Schema, its types are the
//! ranges, and serde refuses everything else. The resolved type is what the program uses: defaults merged, paths made
//! whole. [`load`] turns one into the other, or reports everything that is wrong.
//!
//! `layers` merges values and knows where each came from. `environment` knows which variables set what. `sentences` puts
//! what serde refuses into words. `refusals` collects what sections refuse while they resolve themselves.

mod bounded;
mod engine;
mod environment;
mod flags;
mod grammar;
mod layers;
mod models;
mod origins;
mod plugins;
mod prompts;
mod refusals;
mod sampling;
mod schema;
mod sentences;
mod server;
#[cfg(test)]
mod tests;
mod threads;

use std::path::Path;

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IntoDeserializer, value::StringDeserializer},
};

use self::{environment::Environment, layers::Layers, refusals::Refusals};

pub use self::{
    engine::{Engine, MAX_BATCH_TOKENS, MAX_KV_TOKENS, MAX_SEQUENCES, RequestBounds},
    flags::Flags,
    grammar::{Grammar, JsonWhitespace},
    models::{Model, Requantize},
    origins::{Hosts, Origins},
    plugins::{DEFAULT_TRY_TIMEOUT_SECS, Plugins},
    prompts::Prompts,
    schema::{schema, schema_text},
    server::{LogFormat, Server},
    threads::Threads,
};

/// The resolved configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub server: Server,
    pub plugins: Plugins,
    pub grammar: Grammar,
    pub prompts: Prompts,
    /// The models to serve; may be empty. `[engine]` is merged into each.
    pub models: Vec<Model>,
}

/// Everything that is wrong with a configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("\n"))]
pub struct ConfigError {
    /// At least one problem, a sentence each.
    pub problems: Vec<String>,
}

impl ConfigError {
    fn unless_empty(problems: Vec<String>) -> Result<(), Self> {
        match problems.is_empty() {
            true => Ok(()),
            false => Err(Self { problems }),
        }
    }
}

/// Loads the configuration to serve. Without `file` it is `./tenon.toml`, else `$XDG_CONFIG_HOME/tenon/tenon.toml`, else
/// none.
pub fn load(file: Option<&Path>, flags: Flags) -> Result<Config, ConfigError> {
    let environment = Environment::of_process();
    let found = environment.find_file(Path::new("."));
    load_from(file.or(found.as_deref()), &environment, &flags)
}

/// Loads `file` by itself, without environment and flags.
pub fn check(file: &Path) -> Result<Config, ConfigError> {
    let environment = Environment::of_process().home_only();
    load_from(Some(file), &environment, &Flags::default())
}

fn load_from(
    file: Option<&Path>,
    environment: &Environment,
    flags: &Flags,
) -> Result<Config, ConfigError> {
    let layers = Layers::new(file, environment, flags)?;
    let mut raw: RawConfig = layers.extract()?;
    let mut refusals = Refusals::new(&layers, environment.home());
    models::apply_flags(&mut raw.models, flags, &mut refusals);
    let config = raw.resolve(&mut refusals);
    ConfigError::unless_empty(refusals.problems)?;
    Ok(config)
}

/// Configuration of a Tenon server.
#[derive(Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "tenon.toml")]
struct RawConfig {
    server: server::RawServer,
    plugins: plugins::RawPlugins,
    engine: engine::RawEngine,
    grammar: grammar::RawGrammar,
    prompts: prompts::RawPrompts,
    /// The models to serve. The first one answers requests that name no model.
    models: Vec<models::RawModel>,
}

impl RawConfig {
    fn resolve(self, refusals: &mut Refusals) -> Config {
        Config {
            server: self.server.resolve(refusals),
            plugins: self.plugins.resolve(refusals),
            grammar: self.grammar.resolve(),
            prompts: self.prompts.resolve(refusals),
            models: models::resolve(self.models, &self.engine, refusals),
        }
    }
}

/// Deserializes a variant from its name only. (figment would also take its number.)
fn by_name<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let name: StringDeserializer<D::Error> = String::deserialize(deserializer)?.into_deserializer();
    T::deserialize(name)
}
