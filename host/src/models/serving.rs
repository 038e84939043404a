//! Serves the configured models: loads them while the server already runs, and again when their plugins change.

use std::sync::Arc;

use anyhow::bail;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    LoadedModel, ModelState, ServedModel,
    loading::{Loading, registry_options},
    restart::serve,
    weight_warnings,
};
use crate::{
    config::{self, Config},
    metrics::Metrics,
    plugin::{Changes, ChooseError, CurrentPlugins, Registry, RegistryOptions},
};

/// Loads every model, one after the other. `/health` shows those that fail. If the plugin directories are watched, it then acts
/// on their changes until the server drains. Blocks.
///
/// # Errors
/// All models failed, and not only for lack of a plugin that may still appear.
pub fn load_all(
    config: &Config,
    models: &[Arc<ServedModel>],
    plugins: &CurrentPlugins,
    metrics: &Metrics,
    draining: &CancellationToken,
) -> anyhow::Result<()> {
    let options = registry_options(config)?;
    // Begins before the first look, so that no change is missed.
    let changes = config.plugins.watch.then(|| changes(&options)).flatten();
    plugins.set(Arc::new(Registry::load(&options)));
    let serving = Serving {
        loading: Loading::new(config, metrics, draining, plugins),
        models,
    };
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
    loading: Loading<'a>,
    models: &'a [Arc<ServedModel>],
}

impl Serving<'_> {
    /// Loads every model. If `plugins_may_appear`, a model may lack its plugin.
    fn begin(&self, plugins_may_appear: bool) -> anyhow::Result<()> {
        let mut failures = Vec::new();
        for (model, served) in self.models() {
            if let Err(why) = self.load(model, served) {
                failures.push((&served.id, why));
            }
        }
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

    /// Renews the registry and the models that it concerns at each change, until the server drains.
    fn follow(&self, mut changes: Changes, options: &RegistryOptions) {
        let Loading {
            plugins, draining, ..
        } = &self.loading;
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
            for (model, served) in self.models() {
                self.renew(model, served, &new);
            }
        }
    }

    /// Loads a model that failed, or reloads one that answers, if its plugin is among the new ones.
    fn renew(&self, model: &config::Model, served: &Arc<ServedModel>, new: &[&str]) {
        match served.state() {
            ModelState::Failed(_) => self.retry(model, served, new),
            ModelState::Ready(current)
                if self.loading.config.plugins.reload_on_replace
                    && new.contains(&current.backend()) =>
            {
                self.reload(served);
            }
            _ => {}
        }
    }

    fn retry(&self, model: &config::Model, served: &Arc<ServedModel>, new: &[&str]) {
        match self.loading.spec(model) {
            Ok(spec) if new.contains(&spec.backend.as_str()) => {
                served.set_state(ModelState::Loading);
                if let Err(why) = self.load(model, served) {
                    error!(model = served.id, "model failed: {why:#}");
                }
            }
            Ok(_) => {}
            // The reason may be another one than before.
            Err(why) => served.set_state(ModelState::Failed(format!("{why:#}"))),
        }
    }

    /// Makes a second worker with the current file of the plugin. New requests go to it once it is ready; the first worker ends
    /// with its last request. A model that computes in this process keeps the library that it has.
    fn reload(&self, served: &Arc<ServedModel>) {
        let mut right = Handle::current().block_on(served.next_change());
        let ModelState::Ready(current) = served.state() else {
            return;
        };
        if current.spec.max_restarts.is_none() {
            return;
        }
        info!(model = served.id, "reloading: the plugin was replaced");
        let (spec, level) = (&current.spec, current.level.as_deref());
        match spec.load(level, spec.progress()) {
            Ok(new) => {
                let bytes = current.runner.memory_bytes(level);
                let bytes = bytes.unwrap_or(current.facts().info.weight_bytes);
                right.push(current.runner.end(), bytes);
                let former = &current.facts().info.quantization;
                if *former != new.facts().info.quantization {
                    self.loading.metrics.left_level(&served.id, former);
                }
                self.serve(served, new);
            }
            Err(why) => error!(
                model = served.id,
                "the new plugin cannot load the model, which goes on with the former one: {why}"
            ),
        }
    }

    fn load(&self, model: &config::Model, served: &Arc<ServedModel>) -> anyhow::Result<()> {
        let loaded = self.loading.load(model);
        let failed = |why: &_| served.set_state(ModelState::Failed(format!("{why:#}")));
        self.serve(served, loaded.inspect_err(failed)?);
        Ok(())
    }

    fn serve(&self, served: &Arc<ServedModel>, loaded: LoadedModel) {
        let loaded = serve(served, loaded);
        let info = &loaded.facts().info;
        self.loading.metrics.loaded(&served.id, info);
        let backend = loaded.backend();
        info!(model = served.id, backend, "model ready");
        if let Some(why) = loaded.why_no_chat() {
            warn!(model = served.id, "no chat with this model: {why}");
        }
        for warning in weight_warnings(info) {
            warn!(model = served.id, "{warning}");
        }
    }

    fn models(&self) -> impl Iterator<Item = (&config::Model, &Arc<ServedModel>)> {
        self.loading.config.models.iter().zip(self.models)
    }
}

/// Whether a model failed only because a plugin is missing.
fn lacks_plugin(why: &anyhow::Error) -> bool {
    let chosen = why.downcast_ref::<ChooseError>();
    chosen.is_some_and(ChooseError::is_lack_of_plugin)
}
