//! Checks the options in a configuration, before anything is loaded.

use std::mem;

use serde_json::Value;

use super::loading::registry_options;
use crate::{
    config::{Config, Model},
    plugin::Registry,
};

/// What is wrong with the options of plugins and models, a sentence each. Tries the configured plugins out. Options whose plugin
/// is not installed are not checked.
///
/// # Errors
/// The program cannot find itself.
pub fn wrong_options(config: &Config) -> anyhow::Result<Vec<String>> {
    let mut search = registry_options(config)?;
    // Without its options each plugin starts, and shows what it declares.
    let written = mem::take(&mut search.options);
    let plugins = Registry::load(&search);
    let of_plugins = written.into_iter().filter_map(|(id, options)| {
        let declared = &plugins.plugin(&id)?.facts.options;
        declared.check_plugin(&id, &Value::Object(options)).err()
    });
    let of_models = config.models.iter();
    let of_models = of_models.filter_map(|model| wrong_in_model(model, &plugins));
    Ok(of_plugins.chain(of_models).collect())
}

fn wrong_in_model(model: &Model, plugins: &Registry) -> Option<String> {
    let chosen = plugins.plugin_for(&model.path, model.backend.as_deref());
    let declared = &chosen.ok()?.facts.options;
    declared.check_model(&model.id, &model.options).err()
}
