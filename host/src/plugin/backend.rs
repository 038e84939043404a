//! A started plugin, wrapped as ordinary Rust.

use std::path::Path;

use tenon_plugin_api::{
    Descriptor, Device, Error, Estimate, LoadArgs, Meta, ModelInfo, Result, SessionArgs, Support,
    abi::{AbiVersion, BackendBox},
};

use super::{
    DeclaredOptions, Model,
    host_services::{ReportProgress, host_box, progress_box},
    load::Plugin,
};

/// A backend. It finds out what it can load, and loads it. Every call may be made on any thread.
pub struct Backend {
    object: BackendBox,
    descriptor: Descriptor,
    abi: AbiVersion,
    options: DeclaredOptions,
}

impl Backend {
    /// Starts the plugin. Call it once per process. Options that it does not declare are refused.
    pub(super) fn start(
        plugin: &Plugin,
        threads: u32,
        cache: &Path,
        options: &str,
    ) -> Result<Self> {
        let descriptor = plugin.descriptor().clone();
        let declared = DeclaredOptions::new(&descriptor)?;
        let written = serde_json::from_str(options).map_err(|e| Error::invalid(e.to_string()))?;
        let checked = declared.check_plugin(&descriptor.id, &written);
        checked.map_err(Error::invalid)?;
        let object = plugin.init(host_box(&descriptor.id, threads, cache), options)?;
        Ok(Self {
            object,
            descriptor,
            abi: plugin.abi(),
            options: declared,
        })
    }

    /// The plugin's id, name, version and other facts.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The ABI that the plugin was built against.
    pub fn abi(&self) -> AbiVersion {
        self.abi
    }

    /// The options that the plugin declares.
    pub fn options(&self) -> &DeclaredOptions {
        &self.options
    }

    /// Devices that models can be loaded to.
    pub fn devices(&self) -> Result<Vec<Device>> {
        let devices = self.object.devices().into_result()?;
        understood(devices, |device: &Device| &device.meta)
    }

    /// How well the backend fits a file or directory, 0 to 100.
    pub fn supports(&self, path: &Path) -> Result<Support> {
        let support = self.object.supports(utf8(path)?.into()).into_result()?;
        let mut support = Support::from(support);
        support.meta.check()?;
        support.score = support.score.min(100);
        Ok(support)
    }

    /// Memory that loading and serving would take, per device.
    pub fn estimate(&self, load: &LoadArgs, session: &SessionArgs) -> Result<Vec<Estimate>> {
        utf8(&load.path)?;
        let (load, session) = (load.clone().into(), session.clone().into());
        let estimates = self.object.estimate(&load, &session).into_result()?;
        understood(estimates, |estimate: &Estimate| &estimate.meta)
    }

    /// Loads a model. May take minutes.
    pub fn load(&self, args: &LoadArgs, progress: ReportProgress) -> Result<Model> {
        utf8(&args.path)?;
        let model = self
            .object
            .load(&args.clone().into(), progress_box(progress));
        Model::new(model.into_result()?)
    }

    /// Writes the model of `args` at its level to `output`. May take minutes.
    pub fn quantize(
        &self,
        args: &LoadArgs,
        output: &Path,
        progress: ReportProgress,
    ) -> Result<ModelInfo> {
        utf8(&args.path)?;
        let (args, output) = (args.clone().into(), utf8(output)?.into());
        let written = self.object.quantize(&args, output, progress_box(progress));
        let info = ModelInfo::from(written.into_result()?);
        info.meta.check()?;
        Ok(info)
    }
}

/// The items that the plugin lists. An error if an item has a fact that must be understood and that this host does not know.
fn understood<T: From<R>, R>(
    listed: impl IntoIterator<Item = R>,
    meta: impl Fn(&T) -> &Meta,
) -> Result<Vec<T>> {
    let plain = listed.into_iter().map(T::from);
    plain
        .map(|plain| meta(&plain).check().map(|()| plain))
        .collect()
}

/// A path as text, because only UTF-8 crosses the ABI.
fn utf8(path: &Path) -> Result<&str> {
    let refuse = || {
        Error::invalid(format!(
            "the path {} is not UTF-8: rename it",
            path.display()
        ))
    };
    path.to_str().ok_or_else(refuse)
}
