//! Serves the models of a catalog: loads them while the server already runs, and again when their plugins or their
//! configuration change.

use std::{sync::Arc, thread};

use anyhow::bail;
use tokio::{
    runtime::Handle,
    sync::{Mutex, SetOnce},
    task::spawn_blocking,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    Catalog, LoadedModel, ModelState, ModelWork, ServedModel,
    configure::configure,
    folders::{Contents, contents, to_watch, with_models_of_folders},
    lifecycle::{ReloadLevel, load_begun, load_with, reload_at, unload_idle},
    loading::{ConfiguredModel, Loading, registry_options},
};
use crate::{
    config::Config,
    hub::Hub,
    plugin::{Changes, ChooseError, CurrentPlugins, Registry, RegistryOptions},
    system::watched::{Waker, Watched},
};

/// Serves the models of a catalog.
pub struct Serving {
    catalog: Catalog,
    /// Loads the models of the first configuration.
    loading: Arc<Loading>,
    /// Set once the plugins are known and each model of the first configuration has its source.
    prepared: SetOnce<()>,
    /// The configuration in force. Locked while it changes.
    written: Mutex<Written>,
}

/// The configuration in force, and the contents of its directories of models.
struct Written {
    /// The configuration without the models of its directories.
    config: Config,
    /// The contents of its directories when they were last looked into.
    seen: Contents,
    /// Makes the watching thread look at the directories again. None: they are not watched.
    waker: Option<Waker>,
}

impl Serving {
    /// Prepares to serve these models. Loads are cancelled when the server drains.
    pub fn new(
        catalog: Catalog,
        plugins: &CurrentPlugins,
        hub: Arc<dyn Hub>,
        draining: &CancellationToken,
    ) -> Self {
        let config = catalog.now().config.clone();
        let loading = Loading::new(config.clone(), &catalog.metrics, draining, plugins, hub);
        Self {
            catalog,
            loading: Arc::new(loading),
            prepared: SetOnce::new(),
            written: Mutex::new(Written {
                config,
                seen: Contents::new(),
                waker: None,
            }),
        }
    }

    /// Loads every model that is to be loaded at the start, one after the other. `/health` shows those that fail. If the plugin
    /// directories are watched, a thread acts on their changes meanwhile, until the server drains. Blocks; to be called within a
    /// runtime.
    ///
    /// # Errors
    /// All models are to be loaded and failed, and not only for lack of a plugin that may still appear.
    pub fn run(self: &Arc<Self>) -> anyhow::Result<()> {
        let options = registry_options(&self.loading.config)?;
        // Begins before the first look, so that no change is missed.
        let watch = self.loading.config.plugins.watch;
        let changes = watch.then(|| changes(&options)).flatten();
        let plugins = Arc::new(Registry::load(&options));
        self.loading.plugins.set(plugins);
        self.prepare()?;
        let runtime = Handle::current();
        runtime.spawn(unload_idle(self.catalog.clone()));
        runtime.block_on(self.look_into_folders());
        let is_watched = changes.is_some();
        if let Some(changes) = changes {
            let serving = self.clone();
            let follow = move || serving.follow(changes, &options, &runtime);
            thread::Builder::new()
                .name("plugins".into())
                .spawn(follow)?;
        }
        self.begin(is_watched)
    }

    /// Serves the models of another configuration from now on. Returns which of them are left to be loaded.
    ///
    /// # Errors
    /// Metrics of a new model cannot be registered. Nothing has changed then.
    pub async fn configure(self: &Arc<Self>, config: Config) -> anyhow::Result<ModelWork> {
        self.prepared.wait().await;
        let mut written = self.written.lock().await;
        let (work, seen) = self.serve_all(config.clone()).await?;
        (written.config, written.seen) = (config, seen);
        self.watch_folders(&mut written);
        Ok(work)
    }

    /// Serves the models that a configuration names, and those of its directories. Also returns the contents of the directories.
    async fn serve_all(&self, config: Config) -> anyhow::Result<(ModelWork, Contents)> {
        let seen = contents_of(&config).await;
        let (plugins, now) = (self.loading.plugins.get(), self.catalog.now());
        let expand = move || with_models_of_folders(config, &plugins, &now.config.models);
        let config = spawn_blocking(expand).await?;
        let work = configure(&self.catalog, Arc::new(self.loading.of(config)))?;
        Ok((work, seen))
    }

    /// Serves the models that are in the directories now.
    async fn look_into_folders(self: &Arc<Self>) {
        let mut written = self.written.lock().await;
        self.look(&mut written).await;
        self.watch_folders(&mut written);
    }

    async fn look(&self, written: &mut Written) {
        if written.config.folders.is_empty() {
            return;
        }
        match self.serve_all(written.config.clone()).await {
            Ok((work, seen)) => {
                written.seen = seen;
                work.finish(&self.catalog).await;
            }
            Err(error) => error!("the directories of models are not looked into: {error:#}"),
        }
    }

    /// Watches the directories of models from now on, if there are any.
    fn watch_folders(self: &Arc<Self>, written: &mut Written) {
        if written.waker.is_none() && !written.config.folders.is_empty() {
            written.waker = self.follow_folders();
        }
        if let Some(waker) = &written.waker {
            waker.wake();
        }
    }

    /// Looks into the directories of models at each change of what they contain, in a thread. The log says if they cannot be
    /// watched. To be called within a runtime.
    fn follow_folders(self: &Arc<Self>) -> Option<Waker> {
        let [of_watched, of_look] = [(); 2].map(|()| self.catalog.clone());
        let look = move || contents(&of_look.now().config.folders);
        let (serving, runtime) = (self.clone(), Handle::current());
        let act = move |now| runtime.block_on(serving.look_if_changed(&now));
        let folders = move || {
            let now = of_watched.now();
            let folders = now.config.folders.iter();
            folders.flat_map(|folder| to_watch(&folder.path)).collect()
        };
        let followed = Watched::new(folders).and_then(|watched| {
            let waker = watched.waker();
            watched.follow("model directories", look, act)?;
            Ok(waker)
        });
        let warn = |error: &_| {
            warn!(
                "the directories of models are not watched ({error}): send SIGHUP after a change, or raise \
                 fs.inotify.max_user_instances and max_user_watches"
            );
        };
        followed.inspect_err(warn).ok()
    }

    async fn look_if_changed(&self, now: &Contents) {
        let mut written = self.written.lock().await;
        if written.seen != *now {
            self.look(&mut written).await;
        }
    }

    /// Tells each model of the first configuration how it is made.
    fn prepare(&self) -> anyhow::Result<()> {
        let now = self.catalog.now();
        for (model, served) in now.config.models.iter().zip(&now.models) {
            self.loading.announce(model)?;
            served.set_source(Arc::new(ConfiguredModel::new(&self.loading, model)));
        }
        // Nobody else sets it.
        let _ = self.prepared.set(());
        Ok(())
    }

    /// Loads every model that is to be loaded at the start. If `plugins_may_appear`, a model may lack its plugin.
    fn begin(&self, plugins_may_appear: bool) -> anyhow::Result<()> {
        let models = &self.catalog.now().models;
        let failures = self.load_at_start(models);
        let waits = plugins_may_appear && failures.iter().any(|(_, why)| lacks_plugin(why));
        let none = !models.is_empty() && failures.len() == models.len();
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

    /// Loads the models that are to be loaded at the start: those that count as loading. Returns those that failed.
    fn load_at_start<'a>(&self, models: &'a [Arc<ServedModel>]) -> Vec<(&'a str, anyhow::Error)> {
        let runtime = Handle::current();
        // Downloads take long, and the other models need not wait for them.
        let mut models: Vec<_> = models.iter().collect();
        models.sort_by_key(|served| served.path().is_none());
        let begin = |served: &'a Arc<ServedModel>| {
            let (begun, catalog) = (served.clone(), self.catalog.clone());
            let load = runtime.spawn(async move { load_begun(&begun, &catalog).await });
            // If its worker dies during the load, the load is repeated while the next models are loaded.
            runtime.block_on(served.tried());
            (served.id.as_str(), load)
        };
        let loads: Vec<_> = models.into_iter().map(begin).collect();
        let failures = loads.into_iter().filter_map(|(model, load)| {
            let loaded = runtime.block_on(load);
            let why = loaded.map_or_else(|panic| Some(panic.into()), Result::err)?;
            Some((model, why))
        });
        failures.collect()
    }

    /// Renews the registry and the models that it concerns at each change, until the server drains.
    fn follow(self: &Arc<Self>, mut changes: Changes, options: &RegistryOptions, runtime: &Handle) {
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
            runtime.block_on(self.look_into_folders());
            let new = now.new_since(&before);
            let new: Arc<[String]> = new.map(|plugin| plugin.facts.id.clone()).collect();
            for served in &self.catalog.now().models {
                // A model that is being loaded is renewed later. The others need not wait for it.
                let (serving, served, new) = (self.clone(), served.clone(), new.clone());
                runtime.spawn(async move { serving.renew(&served, &new).await });
            }
        }
    }

    /// Loads a model that failed, or reloads one that answers, if its plugin is among the new ones. Waits until nobody else
    /// changes the model. The log says why it cannot be loaded.
    async fn renew(&self, served: &Arc<ServedModel>, new: &[String]) {
        let (right, catalog) = (served.change().await, &self.catalog);
        match served.state() {
            ModelState::Failed(_) if may_load(served, new).await => {
                let _ = load_with(right, served, catalog).await;
            }
            ModelState::Ready(current) if self.is_replaced(&current, new) => {
                info!(model = served.id, "reloading: the plugin was replaced");
                let _ = reload_at(ReloadLevel::AsBefore, right, served, catalog).await;
            }
            _ => {}
        }
    }

    /// Whether a model is to be reloaded. One that computes in this process keeps the library that it has.
    fn is_replaced(&self, current: &LoadedModel, new: &[String]) -> bool {
        let is_isolated = current.spec.max_restarts.is_some();
        let reloads = self.catalog.now().config.plugins.reload_on_replace;
        reloads && is_isolated && new.iter().any(|id| id == current.backend())
    }
}

/// The contents of a configuration's directories now.
async fn contents_of(config: &Config) -> Contents {
    let folders = config.folders.clone();
    let looked = spawn_blocking(move || contents(&folders)).await;
    // After a panic, the directories count as empty.
    looked.unwrap_or_default()
}

/// Whether a load of a failed model may succeed with the new plugins, or fails for another reason than before.
async fn may_load(served: &ServedModel, new: &[String]) -> bool {
    let spec = served.source().await.spec();
    spec.map_or(true, |spec| new.contains(&spec.backend))
}

/// Whether a model failed only because a plugin is missing.
fn lacks_plugin(why: &anyhow::Error) -> bool {
    let chosen = why.downcast_ref::<ChooseError>();
    chosen.is_some_and(ChooseError::is_lack_of_plugin)
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
