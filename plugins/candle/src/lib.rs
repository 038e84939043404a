//! A backend for Hugging Face directories on candle, in pure Rust.
//!
//! The backend itself is in `tenon-candle-common`. This crate says which files it opens, and with which options.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tenon_candle_common::{
    backend::{Candle, FileFormat, Wanted},
    config,
    kv::KvType,
    model::Files,
    weights::hf::{self, FloatType, HfDirectory},
};
use tenon_plugin_api::{Error, LoadArgs, Result, Support, export_plugin};

struct HfFormat;

/// Options of a model. Every key may be left out.
#[derive(Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Number format of the weights. Left out: that of the files.
    dtype: Option<FloatType>,
    /// Level to quantize the weights of linear layers to while loading.
    quantize: Option<String>,
    /// Number format of the KV cache.
    kv_type: KvType,
}

export_plugin!(Candle<HfFormat>);

impl FileFormat for HfFormat {
    type Options = Options;

    const ID: &'static str = "org.tenon.candle";
    const NAME: &'static str = "candle";

    fn supports(path: &Path) -> Result<Support> {
        if !path.is_dir() {
            let message = format!("{} is no directory", path.display());
            return Err(Error::invalid(message));
        }
        let architecture = config::hf::read(path)?.architecture;
        hf::files(path)?;
        Ok(Support::yes(
            80,
            format!("a model directory ({architecture})"),
        ))
    }

    fn wanted(args: &LoadArgs) -> Result<Wanted> {
        let options: Options = args.read_options()?;
        let (path, kind) = (args.path.clone(), options.dtype);
        let open = move || Ok(Box::new(HfDirectory::open(&path, kind)?) as Box<dyn Files>);
        Wanted::new(args, Box::new(open), options.kv_type, options.quantize)
    }
}
