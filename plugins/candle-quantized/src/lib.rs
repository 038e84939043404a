//! GGUF files on candle's quantized kernels, in pure Rust.
//!
//! The model, its KV pool and its tokenizers are `tenon-candle-common`'s; here is what makes a backend of them.

use std::path::Path;

use serde::Deserialize;
use tenon_candle_common::{
    backend::{self, Plugin, Wanted},
    devices,
    kv::KvType,
    model::Files,
    weights::gguf::GgufFile,
};
use tenon_plugin_api::{
    Backend, Descriptor, Device, Estimate, Host, LoadArgs, Model, Progress, Result, SessionArgs,
    Support, export_plugin,
};

const ID: &str = "org.tenon.candle-quantized";

struct CandleQuantized(Plugin);

/// Of a model. Every key may be left out.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Level to bring the weights to while loading.
    quantize: Option<String>,
    kv_type: KvType,
}

export_plugin!(CandleQuantized);

impl Backend for CandleQuantized {
    fn descriptor() -> Descriptor {
        backend::descriptor(ID, "candle (GGUF)")
    }

    fn init(host: Host, options: &str) -> Result<Self> {
        Plugin::init(host, ID, options).map(Self)
    }

    fn devices(&self) -> Result<Vec<Device>> {
        Ok(devices::list())
    }

    /// Above llama.cpp on the CPU where the own kernels serve all of the weights; else below, for then it is faster.
    fn supports(&self, path: &Path) -> Support {
        let opened = GgufFile::open(path).and_then(|file| {
            file.prompting()?;
            let architecture = file.config()?.architecture;
            Ok((architecture, file.has_kernels()))
        });
        match opened {
            Ok((architecture, has_kernels)) => {
                let score = if has_kernels { 90 } else { 40 };
                Support::yes(score, format!("a GGUF file ({architecture})"))
            }
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
    let path = args.path.clone();
    let open = move || Ok(Box::new(GgufFile::open(&path)?) as Box<dyn Files>);
    Wanted::new(args, Box::new(open), options.kv_type, options.quantize)
}
