//! All sections of a configuration.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Flags,
    engine::RawEngine,
    grammar::{Grammar, RawGrammar},
    keys::{self, RawKey},
    models::{self, Model, ModelFolder, RawModel},
    plugins::{Plugins, RawPlugins},
    prompts::{Prompts, RawPrompts},
    refusals::Refusals,
    responses::{RawResponses, Responses},
    server::{RawServer, Server},
    telemetry::{RawTelemetry, Telemetry},
    tls::{RawTls, Tls},
};
use crate::keys::Keys;

/// The resolved configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub server: Server,
    /// The keys of `[[keys]]` and of the lists in `[server]`.
    pub keys: Keys,
    /// None: no address speaks TLS.
    pub tls: Option<Tls>,
    /// The files with keys and certificates.
    pub files: Vec<PathBuf>,
    pub plugins: Plugins,
    pub grammar: Grammar,
    pub prompts: Prompts,
    pub responses: Responses,
    pub telemetry: Telemetry,
    /// The models to serve; may be empty. `[engine]` is merged into each.
    pub models: Vec<Model>,
    /// Directories of models to serve.
    pub folders: Vec<ModelFolder>,
    /// The values of all sections but `[[models]]`, defaults included, as they are written in TOML, with hashes in place of keys.
    pub written: Value,
}

/// Configuration of a Tenon server.
#[derive(Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "tenon.toml")]
pub struct RawConfig {
    server: RawServer,
    tls: RawTls,
    plugins: RawPlugins,
    engine: RawEngine,
    grammar: RawGrammar,
    prompts: RawPrompts,
    responses: RawResponses,
    telemetry: RawTelemetry,
    /// Keys of clients, each with rights and limits of its own.
    keys: Vec<RawKey>,
    /// The models to serve. The first one answers requests that name no model.
    models: Vec<RawModel>,
}

impl RawConfig {
    pub fn resolve(mut self, flags: &Flags, refusals: &mut Refusals) -> Config {
        models::apply_flags(&mut self.models, flags, refusals);
        let mut files = keys::fetch(&mut self.keys, refusals);
        let written = self.written();
        let keys = keys::resolve(self.keys, refusals);
        let keys = self.server.keys(keys);
        let tls = self.tls.resolve(refusals);
        files.extend(tls.iter().flat_map(Tls::files).cloned());
        let server = self.server.resolve(tls.is_some(), refusals);
        let plugins = self.plugins.resolve(refusals);
        let prompts = self.prompts.resolve(refusals);
        let telemetry = self.telemetry.resolve(refusals);
        let (models, folders) = models::resolve(self.models, &self.engine, refusals);
        Config {
            written,
            keys,
            files,
            tls,
            server,
            plugins,
            grammar: self.grammar.resolve(),
            prompts,
            responses: self.responses.resolve(refusals),
            telemetry,
            models,
            folders,
        }
    }

    fn written(&self) -> Value {
        // Keys and values of these types are always JSON.
        let mut written = serde_json::to_value(self).unwrap_or_default();
        if let Some(sections) = written.as_object_mut() {
            sections.remove("models");
        }
        written
    }
}
