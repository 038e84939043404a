//! Hugging Face directories on candle, in pure Rust.
//!
//! The model, its KV pool and its tokenizers are `tenon-candle-common`'s; here is what makes a backend of them.

use std::path::Path;

use serde::Deserialize;
use tenon_candle_common::{
    backend::{self, Plugin, Wanted},
    config, devices,
    kv::KvType,
    model::Files,
    weights::hf::{self, FloatType, HfDirectory},
};
use tenon_plugin_api::{
    Backend, Descriptor, Device, Estimate, Host, LoadArgs, Model, Progress, Result, SessionArgs,
    Support, export_plugin,
};

const ID: &str = "org.tenon.candle";

struct Candle(Plugin);

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

export_plugin!(Candle);

impl Backend for Candle {
    fn descriptor() -> Descriptor {
        backend::descriptor(ID, "candle")
    }

    fn init(host: Host, options: &str) -> Result<Self> {
        Plugin::init(host, ID, options).map(Self)
    }

    fn devices(&self) -> Result<Vec<Device>> {
        Ok(devices::list())
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
        wanted(load)?.estimate(session)
    }

    fn load(&self, args: &LoadArgs, progress: &Progress) -> Result<Box<dyn Model>> {
        self.0.load(args, wanted(args)?, progress)
    }
}

fn wanted(args: &LoadArgs) -> Result<Wanted> {
    let options: Options = backend::parse_options(&args.options, "the model's options")?;
    let (path, kind) = (args.path.clone(), options.dtype);
    let open = move || Ok(Box::new(HfDirectory::open(&path, kind)?) as Box<dyn Files>);
    Wanted::new(args, Box::new(open), options.kv_type, options.quantize)
}
