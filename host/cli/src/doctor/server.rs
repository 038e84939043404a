//! The reasons why a server could not start.

use tenon::{
    config::{Config, ListenAddress},
    plugin::Registry,
    system::port_owner::{self, Process},
};

/// Why no model could be served, whatever the configuration is.
pub fn errors(plugins: &Registry) -> Option<String> {
    plugins.plugins().is_empty().then(|| {
        let refused = plugins.refused().iter().map(|file| file.reason.as_str());
        let why = plugins.warnings().iter().map(String::as_str).chain(refused);
        let why: Vec<_> = why.collect();
        format!("there is no plugin that can be used: {}", why.join("; "))
    })
}

/// The models on this machine that no plugin can load, a sentence each.
pub fn unloadable_models(config: &Config, plugins: &Registry) -> Vec<String> {
    let models = config.models.iter().filter_map(|model| {
        // A model on a hub is fetched when a server starts.
        let path = model.path.local()?;
        let chosen = plugins.plugin_for(path, model.backend.as_deref());
        let why = match chosen {
            Err(error) => error.to_string(),
            // A plugin may accept a file by its name alone.
            Ok(_) if !path.exists() => {
                format!("{}: it does not exist: check its path", path.display())
            }
            Ok(_) => return None,
        };
        Some(format!("model {}: {why}", model.id))
    });
    let folders = config.folders.iter().filter(|folder| !folder.path.is_dir());
    let folders = folders.map(|folder| {
        let path = folder.path.display();
        format!("{path} is no directory: make it, or correct `directory` in [[models]]")
    });
    models.chain(folders).collect()
}

/// The addresses of the configuration at which other processes listen, a sentence each.
pub fn taken_ports(config: &Config) -> Vec<String> {
    let addresses = config.server.listen.iter().map(|listen| &listen.address);
    let taken = addresses.filter_map(|address| {
        let ListenAddress::Tcp { port, .. } = address else {
            return None;
        };
        let Process { id, command } = port_owner::of(*port)?;
        Some(format!(
            "process {id} ({command}) listens at port {port}: a server needs another one (--port)"
        ))
    });
    taken.collect()
}
