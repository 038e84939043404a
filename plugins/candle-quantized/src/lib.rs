//! GGUF files on candle's quantized kernels, in pure Rust.
//!
//! The model, its KV pool and its tokenizers are `tenon-candle-common`'s; here is what makes a backend of them.

use std::{path::Path, sync::Arc};

use serde::Deserialize;
use tenon_candle_common::{
    model::{self, Files, KvType, Origin},
    pool,
    weights::gguf::GgufFile,
};
use tenon_plugin_api::{
    Backend, Descriptor, Estimate, Host, LoadArgs, Model, Progress, Result, SessionArgs, Support,
    export_plugin,
};

struct CandleQuantized {
    host: Host,
}

/// Of a model. Every key may be left out.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Level to bring the weights to while loading.
    quantize: Option<String>,
    kv_type: KvType,
}

/// Of the plugin as a whole, which has none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginOptions {}

export_plugin!(CandleQuantized);

impl Backend for CandleQuantized {
    fn descriptor() -> Descriptor {
        Descriptor {
            vendor: "Tenon".into(),
            license: env!("CARGO_PKG_LICENSE").into(),
            ..Descriptor::new(
                "org.tenon.candle-quantized",
                "candle (GGUF)",
                env!("CARGO_PKG_VERSION"),
            )
        }
    }

    fn init(host: Host, options: &str) -> Result<Self> {
        let PluginOptions {} =
            model::parse_options(options, "the options of org.tenon.candle-quantized")?;
        pool::start(host.threads());
        Ok(Self { host })
    }

    /// Below llama.cpp, which reads the same files and more of them.
    fn supports(&self, path: &Path) -> Support {
        let config = GgufFile::open(path).and_then(|file| file.config());
        match config {
            Ok(config) => Support::yes(40, format!("a GGUF file ({})", config.architecture)),
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
    let path = args.path.clone();
    let origin = Origin {
        open: Box::new(move || Ok(Box::new(GgufFile::open(&path)?) as Box<dyn Files>)),
        kv_type: options.kv_type,
    };
    Ok((origin, args.quantize.clone().or(options.quantize)))
}
