//! Serves the models of another configuration.

use std::sync::Arc;

use tokio::spawn;
use tracing::{error, info};

use super::{
    Catalog, ModelState, ServedModel, Snapshot,
    lifecycle::{ReloadLevel, load_begun, load_with, reload_at, retire},
    loading::{ConfiguredModel, Loading},
};
use crate::config::{Isolation, Load, Model};

/// The effects of a change of the configuration on the models, by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelChanges {
    /// Models that are served now and were not before.
    pub added: Vec<String>,
    /// Models that are no longer served. Their running requests finish.
    pub removed: Vec<String>,
    /// Models that were loaded again by their new settings.
    pub reloaded: Vec<String>,
    /// Models whose new settings count at once, or at their next load.
    pub changed: Vec<String>,
    /// Models whose new settings count from the next start on, because they compute in this process.
    pub needs_restart: Vec<String>,
    /// Models that could not be loaded, and why. One that was loaded before goes on as before.
    pub failed: Vec<(String, String)>,
}

/// The work that is left once a new configuration is in force.
#[derive(Default)]
pub struct ModelWork {
    changes: ModelChanges,
    added: Vec<Arc<ServedModel>>,
    reloads: Vec<(Arc<ServedModel>, ReloadLevel)>,
}

/// Serves the models of `loading`'s configuration from now on. Returns which of them are left to be loaded. Only one call may run
/// at a time.
///
/// # Errors
/// Metrics of a new model cannot be registered. Nothing has changed then.
pub fn configure(catalog: &Catalog, loading: Arc<Loading>) -> anyhow::Result<ModelWork> {
    let before = catalog.now();
    let mut work = ModelWork::default();
    let mut config = loading.config.clone();
    let mut models = Vec::new();
    for model in &mut config.models {
        models.push(work.serve(&before, model, &loading)?);
    }
    let is_left = |model: &&Arc<ServedModel>| config.models.iter().all(|new| new.id != model.id);
    let removed: Vec<_> = before.models.iter().filter(is_left).cloned().collect();
    catalog.set(Snapshot { config, models });
    for model in &work.changes.added {
        info!(model, "model added");
    }
    for served in removed {
        info!(model = served.id, "model removed");
        work.changes.removed.push(served.id.clone());
        // A load that is under way has to end first.
        let catalog = catalog.clone();
        spawn(async move { retire(&served, &catalog).await });
    }
    Ok(work)
}

impl ModelWork {
    /// Decides how a model is served from now on: by its new settings, or by its former ones if the new ones need a restart.
    /// `model` is then set to the former ones.
    fn serve(
        &mut self,
        before: &Snapshot,
        model: &mut Model,
        loading: &Arc<Loading>,
    ) -> anyhow::Result<Arc<ServedModel>> {
        let served = before.with_id(&model.id);
        let old = before.config.models.iter().find(|old| old.id == model.id);
        let Some((served, old)) = served.zip(old) else {
            return self.add(model, loading);
        };
        let is_alike = old.loads_like(model) && before.config.loads_models_like(&loading.config);
        if !is_alike && [old, &*model].into_iter().any(computes_here) {
            self.changes.needs_restart.push(model.id.clone());
            *model = old.clone();
            return Ok(served.clone());
        }
        if old == model && is_alike {
            return Ok(served.clone());
        }
        let served = Arc::new(served.with_settings_of(model));
        if is_alike {
            self.changes.changed.push(model.id.clone());
        } else {
            served.set_source(Arc::new(ConfiguredModel::new(loading, model)));
            self.reloads.push((served.clone(), level(old, model)));
        }
        Ok(served)
    }

    fn add(&mut self, model: &Model, loading: &Arc<Loading>) -> anyhow::Result<Arc<ServedModel>> {
        let served = Arc::new(ServedModel::of(model));
        loading.announce(model)?;
        served.set_source(Arc::new(ConfiguredModel::new(loading, model)));
        self.changes.added.push(served.id.clone());
        if model.engine.load != Load::OnDemand {
            self.added.push(served.clone());
        }
        Ok(served)
    }

    /// Loads the models that are to be loaded, one after the other.
    pub async fn finish(self, catalog: &Catalog) -> ModelChanges {
        let mut changes = self.changes;
        for served in self.added {
            if let Err(why) = load_begun(&served, catalog).await {
                error!(model = served.id, "model failed: {why:#}");
                changes.failed.push((served.id.clone(), format!("{why:#}")));
            }
        }
        for (served, level) in self.reloads {
            let id = served.id.clone();
            match renew(&served, catalog, level).await {
                Ok(true) => changes.reloaded.push(id),
                Ok(false) => changes.changed.push(id),
                Err(why) => changes.failed.push((id, why)),
            }
        }
        changes
    }
}

/// Loads a model by its new settings if it was loaded, or failed, by its former ones. Returns whether it did.
async fn renew(
    served: &Arc<ServedModel>,
    catalog: &Catalog,
    level: ReloadLevel,
) -> Result<bool, String> {
    let right = served.change().await;
    let made = match served.state() {
        ModelState::Ready(_) => {
            info!(
                model = served.id,
                "reloading: its configuration has changed"
            );
            reload_at(level, right, served, catalog).await
        }
        ModelState::Failed(_) => load_with(right, served, catalog).await,
        _ => return Ok(false),
    };
    made.map(|_| true).map_err(|error| error.to_string())
}

/// The level at which a changed model is loaded again: the configured one only if the new entry names another file or level.
fn level(old: &Model, new: &Model) -> ReloadLevel {
    match (&old.path, &old.quantize) == (&new.path, &new.quantize) {
        true => ReloadLevel::AsBefore,
        false => ReloadLevel::Configured,
    }
}

fn computes_here(model: &Model) -> bool {
    model.engine.isolation == Isolation::None
}
