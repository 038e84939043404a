//! Hugging Face directories on candle, in pure Rust.
//!
//! The model, its KV pool and its tokenizers are `tenon-candle-common`'s; here is what makes a backend of them.

use std::{path::Path, sync::Arc};

use serde::Deserialize;
use tenon_candle_common::{
    config,
    model::{self, Files, KvType, Origin},
    pool,
    weights::hf::{self, FloatType, HfDirectory},
};
use tenon_plugin_api::{
    Backend, Descriptor, Estimate, Host, LoadArgs, Model, Progress, Result, SessionArgs, Support,
    export_plugin,
};

struct Candle {
    host: Host,
}

/// Of a model. Every key may be left out.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Number format of weights. Left out: as in the files.
    dtype: Option<FloatType>,
    /// Level to bring the weights of linear layers to while loading.
    quantize: Option<String>,
    kv_type: KvType,
}

/// Of the plugin as a whole, which has none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginOptions {}

export_plugin!(Candle);

impl Backend for Candle {
    fn descriptor() -> Descriptor {
        Descriptor {
            vendor: "Tenon".into(),
            license: env!("CARGO_PKG_LICENSE").into(),
            ..Descriptor::new("org.tenon.candle", "candle", env!("CARGO_PKG_VERSION"))
        }
    }

    fn init(host: Host, options: &str) -> Result<Self> {
        let PluginOptions {} = model::parse_options(options, "the options of org.tenon.candle")?;
        pool::start(host.threads());
        Ok(Self { host })
    }

    fn supports(&self, path: &Path) -> Support {
        if !path.is_dir() {
            return Support::no(format!("{} is no directory", path.display()));
        }
        match config::hf::read(path).and_then(|config| hf::files(path).map(|_| config)) {
            Ok(config) => Support::yes(80, format!("a model directory ({})", config.architecture)),
            Err(error) => Support::no(error.message),
        }
    }

    fn estimate(&self, load: &LoadArgs, session: &SessionArgs) -> Result<Vec<Estimate>> {
        let (origin, level) = origin(load)?;
        model::estimate(&origin, level.as_deref(), session)
    }

    fn load(&self, args: &LoadArgs, progress: &Progress) -> Result<Box<dyn Model>> {
        pool::note_threads(&self.host, args.threads);
        let (origin, level) = origin(args)?;
        let message = format!("loading {}", args.path.display());
        let report = |fraction| progress.report(Some(fraction), &message);
        Ok(Box::new(model::load(
            Arc::new(origin),
            level.as_deref(),
            &report,
        )?))
    }
}

/// What to load, and the level to bring it to.
fn origin(args: &LoadArgs) -> Result<(Origin, Option<String>)> {
    let options: Options = model::parse_options(&args.options, "the model's options")?;
    model::check_devices(args)?;
    let (path, kind) = (args.path.clone(), options.dtype);
    let origin = Origin {
        open: Box::new(move || Ok(Box::new(HfDirectory::open(&path, kind)?) as Box<dyn Files>)),
        kv_type: options.kv_type,
    };
    Ok((origin, args.quantize.clone().or(options.quantize)))
}
