//! The configuration, from four layers: defaults ← TOML ← environment ← flags.
//!
//! A section has two types. The raw type is what the user may write: its doc comments become the JSON Schema, its types are the
//! ranges, and serde refuses everything else. The resolved type is what the program uses: defaults merged, paths made
//! absolute. A [`Source`] turns the raw types into the resolved ones, or reports everything that is wrong. A [`ConfigChange`] is
//! the part of a new configuration that a running server takes over.
//!
//! `layers` merges values and knows where each came from. `environment` maps variables to keys. `sentences` turns serde's errors
//! into sentences. `refusals` collects the problems that sections find while they are resolved.

mod bounded;
mod by_name;
mod change;
mod engine;
mod environment;
mod error;
mod explain;
mod flags;
mod grammar;
mod keys;
mod layer;
mod layers;
mod listen;
mod models;
mod origins;
mod plugins;
mod prompts;
mod refusals;
mod responses;
mod sampling;
mod schema;
mod sections;
mod sentences;
mod server;
mod source;
mod telemetry;
#[cfg(test)]
pub mod tests;
mod threads;
mod tls;

use std::path::Path;

use self::{
    environment::Environment, layer::Layer, layers::Layers, refusals::Refusals, sections::RawConfig,
};

pub use self::{
    change::ConfigChange,
    engine::{
        Engine, Isolation, Load, MAX_BATCH_TOKENS, MAX_KV_TOKENS, MAX_SEQUENCES, RequestBounds,
        Sandbox,
    },
    error::ConfigError,
    flags::Flags,
    grammar::{Grammar, JsonWhitespace},
    listen::{Listen, ListenAddress, Scope},
    models::{Model, ModelFolder, ModelPath, Requantize},
    origins::{Hosts, Origins},
    plugins::{DEFAULT_TRY_TIMEOUT_SECS, Plugins},
    prompts::Prompts,
    responses::Responses,
    schema::{schema, schema_text},
    sections::Config,
    sentences::instead_of,
    server::{LogFormat, Server},
    source::Source,
    telemetry::Telemetry,
    threads::Threads,
    tls::Tls,
};

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
    let of_file = file.map(Layer::of_file).into_iter();
    let layers = of_file.chain(environment.layers()).chain(flags.layers());
    let directory = file.and_then(Path::parent).unwrap_or(Path::new(""));
    let layers = Layers::merge(layers, directory)?;
    let raw: RawConfig = layers.extract()?;
    let mut refusals = Refusals::new(&layers, environment.home(), environment.secrets());
    let config = raw.resolve(flags, &mut refusals);
    ConfigError::unless_empty(refusals.problems)?;
    Ok(config)
}
