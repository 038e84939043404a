//! A backend for GGUF files on candle's quantized tensors, in pure Rust.
//!
//! The backend itself is in `tenon-candle-common`. This crate says which files it opens, and with which options.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tenon_candle_common::{
    backend::{Candle, FileFormat, Wanted},
    kv::KvType,
    model::Files,
    weights::gguf::GgufFile,
};
use tenon_plugin_api::{LoadArgs, Result, Support, export_plugin};

struct GgufFormat;

/// Options of a model. Every key may be left out.
#[derive(Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Level to quantize the weights to while loading.
    quantize: Option<String>,
    /// Number format of the KV cache.
    kv_type: KvType,
}

export_plugin!(Candle<GgufFormat>);

impl FileFormat for GgufFormat {
    type Options = Options;

    const ID: &'static str = "org.tenon.candle-quantized";
    const NAME: &'static str = "candle (GGUF)";

    /// Scores above llama.cpp on the CPU if `candle-common`'s kernels serve all of the weights. Otherwise llama.cpp is
    /// faster, and the score is below its own.
    fn supports(path: &Path) -> Result<Support> {
        let file = GgufFile::open(path)?;
        file.prompting()?;
        let architecture = file.config()?.architecture;
        let score = if file.has_kernels() { 90 } else { 40 };
        Ok(Support::yes(score, format!("a GGUF file ({architecture})")))
    }

    fn wanted(args: &LoadArgs) -> Result<Wanted> {
        let options: Options = args.read_options()?;
        let path = args.path.clone();
        let open = move || Ok(Box::new(GgufFile::open(&path)?) as Box<dyn Files>);
        Wanted::new(args, Box::new(open), options.kv_type, options.quantize)
    }
}
