//! The backend that the candle plugins have in common.

use std::{marker::PhantomData, path::Path, sync::Arc};

use schemars::JsonSchema;
use tenon_plugin_api::{
    Backend, Descriptor, Device, Estimate, Host, LoadArgs, LogLevel, Model, Progress, Result,
    SessionArgs, Support,
    options::{self, NoOptions},
};

#[cfg(feature = "cuda")]
use crate::compute::Tensors;
use crate::{
    compute::{Compute, Cpu},
    devices::{self, Place},
    kernels::memory::LargePages,
    kv::KvType,
    model::{self, DecoderModel, Open, Origin},
    pool,
    weights::quantize,
};

/// A format of model files. Only this differs from one candle plugin to another.
pub trait FileFormat: Send + Sync + 'static {
    /// The plugin's [`Descriptor::id`].
    const ID: &'static str;
    /// The plugin's [`Descriptor::name`].
    const NAME: &'static str;
    /// The options of a model.
    type Options: JsonSchema;

    /// See [`Backend::supports`].
    ///
    /// # Errors
    /// The reason why the plugin cannot load the file.
    fn supports(path: &Path) -> Result<Support>;

    /// The model to load, by its file and its options.
    ///
    /// # Errors
    /// `INVALID` for options that the plugin does not know; those of [`Wanted::new`].
    fn wanted(args: &LoadArgs) -> Result<Wanted>;
}

/// A backend for the files of a format.
pub struct Candle<F> {
    host: Host,
    format: PhantomData<F>,
}

/// A model to load, and the level to quantize it to.
pub struct Wanted {
    place: Place,
    origin: Origin,
    level: Option<String>,
}

impl<F: FileFormat> Backend for Candle<F> {
    fn descriptor() -> Descriptor {
        let mut descriptor = Descriptor::new(F::ID, F::NAME, env!("CARGO_PKG_VERSION"))
            .with_options::<NoOptions>()
            .with_model_options::<F::Options>()
            .with_levels(quantize::offered());
        descriptor.vendor = "Tenon".into();
        descriptor.license = env!("CARGO_PKG_LICENSE").into();
        descriptor
    }

    fn init(host: Host, options: &str) -> Result<Self> {
        let NoOptions {} = options::read(options)?;
        pool::start(host.threads());
        Ok(Self {
            host,
            format: PhantomData,
        })
    }

    fn devices(&self) -> Result<Vec<Device>> {
        Ok(devices::list())
    }

    fn supports(&self, path: &Path) -> Support {
        F::supports(path).unwrap_or_else(|error| Support::no(error.message))
    }

    fn estimate(&self, load: &LoadArgs, session: &SessionArgs) -> Result<Vec<Estimate>> {
        let wanted = F::wanted(load)?;
        let (device, level) = (wanted.place.id(), wanted.level.as_deref());
        model::estimate(device, &wanted.origin, level, session)
    }

    fn load(&self, args: &LoadArgs, progress: &Progress) -> Result<Box<dyn Model>> {
        let wanted = F::wanted(args)?;
        match wanted.place {
            Place::Cpu => {
                let model = wanted.load(Cpu, args, progress)?;
                self.note_threads(args.threads, &model);
                Ok(Box::new(model))
            }
            #[cfg(feature = "cuda")]
            Place::Cuda(number) => {
                let model = wanted.load(Tensors::on_gpu(number)?, args, progress)?;
                Ok(Box::new(model))
            }
        }
    }
}

impl<F> Candle<F> {
    /// Warns in the log if a part of the model cannot be computed with the number of threads that it asks for.
    fn note_threads(&self, asked: u32, model: &DecoderModel<Cpu>) {
        let threads = pool::threads();
        if asked != 0 && asked != threads && model.uses_candles_threads() {
            let message = format!(
                "{asked} threads are asked for, but candle computes some of the weights, and has one pool of {threads} for all models of a plugin, made at the start"
            );
            self.host.log(LogLevel::WARN, "pool", &message);
        }
    }
}

impl Wanted {
    /// The model that `open` reads. The host's level goes before the one in the model's options, `quantize`.
    ///
    /// # Errors
    /// As [`Place::choose`].
    pub fn new(
        args: &LoadArgs,
        open: Open,
        kv_type: KvType,
        quantize: Option<String>,
    ) -> Result<Self> {
        Ok(Self {
            place: Place::choose(&args.devices)?,
            origin: Origin {
                open,
                kv_type,
                threads: args.threads,
            },
            level: args.quantize.clone().or(quantize),
        })
    }

    fn load<C: Compute>(
        self,
        compute: C,
        args: &LoadArgs,
        progress: &Progress,
    ) -> Result<DecoderModel<C>> {
        let message = format!("loading {}", args.path.display());
        let report = |fraction| progress.report(Some(fraction), &message);
        let (origin, level) = (Arc::new(self.origin), self.level.as_deref());
        model::load(compute, origin, level, LargePages::AtOnce, &report)
    }
}
