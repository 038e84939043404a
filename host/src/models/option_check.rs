//! Checks the options in a configuration, before anything is loaded.

use std::mem;

use serde_json::Value;

use super::loading::registry_options;
use crate::{
    config::{Config, Model, ModelPath},
    hub::Hub,
    plugin::Registry,
};

/// The errors in the options of plugins and models, a sentence each. Tries the configured plugins out. Options whose plugin is
/// not installed are not checked, nor those of models that are on a hub and not in the cache.
///
/// # Errors
/// The program cannot find itself.
pub fn wrong_options(config: &Config, hub: &dyn Hub) -> anyhow::Result<Vec<String>> {
    let mut search = registry_options(config)?;
    // Without its options each plugin starts, and shows what it declares.
    let written = mem::take(&mut search.options);
    let plugins = Registry::load(&search);
    let of_plugins = written.into_iter().filter_map(|(id, options)| {
        let declared = &plugins.plugin(&id)?.facts.options;
        declared.check_plugin(&id, &Value::Object(options)).err()
    });
    let of_models = config.models.iter();
    let of_models = of_models.filter_map(|model| wrong_in_model(model, &plugins, hub));
    Ok(of_plugins.chain(of_models).collect())
}

fn wrong_in_model(model: &Model, plugins: &Registry, hub: &dyn Hub) -> Option<String> {
    let path = match &model.path {
        ModelPath::Local(path) => path.clone(),
        ModelPath::Hub(on_hub) => hub.cached(on_hub)?,
    };
    let chosen = plugins.plugin_for(&path, model.backend.as_deref());
    let declared = &chosen.ok()?.facts.options;
    declared.check_model(&model.id, &model.options).err()
}
