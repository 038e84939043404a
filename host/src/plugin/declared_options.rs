//! The options that a plugin declares for itself and for its models.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tenon_plugin_api::{Descriptor, Error};

use super::OptionsSchema;

/// The options that a plugin declares.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DeclaredOptions {
    /// Options of the plugin as a whole.
    #[serde(rename = "options")]
    pub of_plugin: OptionsSchema,
    /// Options of a model.
    #[serde(rename = "model_options")]
    pub of_models: OptionsSchema,
}

impl DeclaredOptions {
    /// The options in a descriptor.
    ///
    /// # Errors
    /// `INVALID` for a wrong schema.
    pub(super) fn new(descriptor: &Descriptor) -> Result<Self, Error> {
        let of_plugin = OptionsSchema::parse(descriptor.options_schema(), "its options");
        let of_models = descriptor.model_options_schema();
        let of_models = OptionsSchema::parse(of_models, "the options of its models");
        Ok(Self {
            of_plugin: of_plugin.map_err(Error::invalid)?,
            of_models: of_models.map_err(Error::invalid)?,
        })
    }

    /// Checks the options of the plugin with this id.
    ///
    /// # Errors
    /// A sentence about the first wrong option, and what is allowed.
    pub fn check_plugin(&self, id: &str, options: &Value) -> Result<(), String> {
        let place = format!("[plugins.options.\"{id}\"]");
        self.of_plugin.check(options, &place)
    }

    /// Checks the options of the model that requests call `model`.
    ///
    /// # Errors
    /// The same as those of [`check_plugin`](Self::check_plugin).
    pub fn check_model(&self, model: &str, options: &Value) -> Result<(), String> {
        let place = format!("the options of the model {model}");
        self.of_models.check(options, &place)
    }
}
