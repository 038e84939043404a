//! What the plugins do alike as backends.

use std::sync::Arc;

use serde::{Deserialize, de::DeserializeOwned};
use tenon_plugin_api::{
    Descriptor, Error, Estimate, Host, LoadArgs, LogLevel, Model, Progress, Result, SessionArgs,
};

#[cfg(feature = "cuda")]
use crate::compute::Tensors;
use crate::{
    compute::{Compute, Cpu},
    devices::Place,
    kernels::memory::LargePages,
    kv::KvType,
    model::{self, DecoderModel, Open, Origin},
    pool,
};

/// A plugin, but for how it opens files.
pub struct Plugin {
    host: Host,
}

/// What to load, and the level to bring it to.
pub struct Wanted {
    place: Place,
    origin: Origin,
    level: Option<String>,
}

/// Of a plugin as a whole, which has none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginOptions {}

/// What a plugin says about itself.
pub fn descriptor(id: &str, name: &str) -> Descriptor {
    Descriptor {
        vendor: "Tenon".into(),
        license: env!("CARGO_PKG_LICENSE").into(),
        ..Descriptor::new(id, name, env!("CARGO_PKG_VERSION"))
    }
}

impl Plugin {
    /// Takes note of the threads.
    ///
    /// # Errors
    /// `INVALID` for options, of which there are none.
    pub fn init(host: Host, id: &str, options: &str) -> Result<Self> {
        let PluginOptions {} = parse_options(options, &format!("the options of {id}"))?;
        pool::start(host.threads());
        Ok(Self { host })
    }

    /// # Errors
    /// Those of [`model::load`].
    pub fn load(
        &self,
        args: &LoadArgs,
        wanted: Wanted,
        progress: &Progress,
    ) -> Result<Box<dyn Model>> {
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

    /// Says in the log if not all of a model can be computed with the threads that it asks for.
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
    /// What `open` reads. The host's level goes before that of the model's options, `quantize`.
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

    /// # Errors
    /// Those of [`model::estimate`].
    pub fn estimate(&self, session: &SessionArgs) -> Result<Vec<Estimate>> {
        let device = self.place.id();
        model::estimate(device, &self.origin, self.level.as_deref(), session)
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

/// The options of a model or of a plugin: a JSON object, `what` in errors.
///
/// # Errors
/// `INVALID` for unknown keys and values, by name, with what is allowed.
pub fn parse_options<T: DeserializeOwned>(json: &str, what: &str) -> Result<T> {
    let json = if json.is_empty() { "{}" } else { json };
    serde_json::from_str(json).map_err(|error| Error::invalid(format!("{what}: {error}")))
}
