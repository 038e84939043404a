//! Serves the configured models: loads them while the server already runs, and again when their plugins change.

use std::sync::Arc;

use anyhow::bail;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    LoadedModel, ModelState, ServedModel,
    lifecycle::{load_begun, load_with, reload_with, unload_when_idle},
    loading::{ConfiguredModel, Loading, registry_options},
};
use crate::{
    config::{Config, Load},
    metrics::Metrics,
    plugin::{Changes, ChooseError, CurrentPlugins, Registry, RegistryOptions},
};

/// Loads every model that is to be loaded at the start, one after the other. `/health` shows those that fail. If the plugin
/// directories are watched, it then acts on their changes until the server drains. Blocks.
///
/// # Errors
/// All models are to be loaded and failed, and not only for lack of a plugin that may still appear.
pub fn load_all(
    config: Config,
    models: &[Arc<ServedModel>],
    plugins: &CurrentPlugins,
    metrics: &Metrics,
    draining: &CancellationToken,
) -> anyhow::Result<()> {
    let options = registry_options(&config)?;
    // Begins before the first look, so that no change is missed.
    let changes = config.plugins.watch.then(|| changes(&options)).flatten();
    plugins.set(Arc::new(Registry::load(&options)));
    let serving = Serving {
        loading: Arc::new(Loading::new(config, metrics, draining, plugins)),
        models,
    };
    serving.prepare()?;
    serving.begin(changes.is_some())?;
    if let Some(changes) = changes {
        serving.follow(changes, &options);
    }
    Ok(())
}

/// Changes of the plugin directories. None, with a warning, if they cannot be watched.
fn changes(options: &RegistryOptions) -> Option<Changes> {
    let changes = Changes::of(&options.directories);
    let warn = |error: &_| {
        warn!(
            "the plugin directories are not watched, so changes count from the next start on ({error}): raise \
             fs.inotify.max_user_instances and max_user_watches, or set watch = false in [plugins]"
        );
    };
    changes.inspect_err(warn).ok()
}

struct Serving<'a> {
    loading: Arc<Loading>,
    models: &'a [Arc<ServedModel>],
}

impl Serving<'_> {
    /// Tells each model how it is made, and lets those end that are idle for too long.
    fn prepare(&self) -> anyhow::Result<()> {
        let Loading {
            config, metrics, ..
        } = &*self.loading;
        for (model, served) in config.models.iter().zip(self.models) {
            served.set_source(Arc::new(ConfiguredModel::new(&self.loading, model)?));
            if let Some(after) = model.engine.idle_unload {
                let unload = unload_when_idle(served.clone(), metrics.clone(), after);
                Handle::current().spawn(unload);
            }
        }
        Ok(())
    }

    /// Loads every model that is to be loaded at the start. If `plugins_may_appear`, a model may lack its plugin.
    fn begin(&self, plugins_may_appear: bool) -> anyhow::Result<()> {
        let failures = self.load_at_start();
        let waits = plugins_may_appear && failures.iter().any(|(_, why)| lacks_plugin(why));
        let none = failures.len() == self.models.len();
        if none && !waits {
            let why: Vec<_> = failures.iter().map(|(_, why)| format!("{why:#}")).collect();
            bail!("no model can be served: {}", why.join("; "));
        }
        for (model, why) in failures {
            error!(model, "model failed: {why:#}");
        }
        if none {
            warn!("no model is served until a plugin for it is put into a plugin directory");
        }
        Ok(())
    }

    /// Loads every model that is to be loaded at the start. Returns those that failed.
    fn load_at_start(&self) -> Vec<(&str, anyhow::Error)> {
        let Loading {
            config, metrics, ..
        } = &*self.loading;
        let models = config.models.iter().zip(self.models);
        let at_start = models.filter(|(model, _)| model.engine.load != Load::OnDemand);
        let failures = at_start.filter_map(|(_, served)| {
            let loaded = Handle::current().block_on(load_begun(served, metrics));
            Some((served.id.as_str(), loaded.err()?))
        });
        failures.collect()
    }

    /// Renews the registry and the models that it concerns at each change, until the server drains.
    fn follow(&self, mut changes: Changes, options: &RegistryOptions) {
        let Loading {
            plugins, draining, ..
        } = &*self.loading;
        loop {
            changes.wait();
            if draining.is_cancelled() {
                return;
            }
            let before = plugins.get();
            let now = Arc::new(before.renewed(options));
            plugins.set(now.clone());
            let new = now.new_since(&before);
            let new: Vec<&str> = new.map(|plugin| plugin.facts.id.as_str()).collect();
            for served in self.models {
                Handle::current().block_on(self.renew(served, &new));
            }
        }
    }

    /// Loads a model that failed, or reloads one that answers, if its plugin is among the new ones. Waits until nobody else
    /// changes the model. The log says why it cannot be loaded.
    async fn renew(&self, served: &Arc<ServedModel>, new: &[&str]) {
        let (right, metrics) = (served.change().await, &self.loading.metrics);
        match served.state() {
            ModelState::Failed(_) if may_load(served, new).await => {
                let _ = load_with(right, served, metrics).await;
            }
            ModelState::Ready(current) if self.is_replaced(&current, new) => {
                info!(model = served.id, "reloading: the plugin was replaced");
                let _ = reload_with(right, served, metrics).await;
            }
            _ => {}
        }
    }

    /// Whether a model is to be reloaded. One that computes in this process keeps the library that it has.
    fn is_replaced(&self, current: &LoadedModel, new: &[&str]) -> bool {
        let is_isolated = current.spec.max_restarts.is_some();
        let reloads = self.loading.config.plugins.reload_on_replace && is_isolated;
        reloads && new.contains(&current.backend())
    }
}

/// Whether a load of a failed model may succeed with the new plugins, or fails for another reason than before.
async fn may_load(served: &ServedModel, new: &[&str]) -> bool {
    let spec = served.source().await.spec();
    spec.map_or(true, |spec| new.contains(&spec.backend.as_str()))
}

/// Whether a model failed only because a plugin is missing.
fn lacks_plugin(why: &anyhow::Error) -> bool {
    let chosen = why.downcast_ref::<ChooseError>();
    chosen.is_some_and(ChooseError::is_lack_of_plugin)
}
