//! A backend for Tenon that imitates a text.

mod model;
mod options;
mod session;
#[cfg(test)]
mod tests;

use std::{fs::File, io::Read, path::Path};

use tenon_plugin_api::{
    Backend, Descriptor, Device, Error, Host, LoadArgs, LogLevel, Model, Progress, Result, Support,
    export_plugin,
    options::{NoOptions, read},
};

use crate::{model::Imitator, options::Options};

/// The ending of a model's file.
const ENDING: &str = "imitate";
/// Bytes of a file that are read at a time.
const CHUNK: usize = 1 << 20;
/// Most bytes of a model: files come from strangers.
const MAX_BYTES: u64 = 1 << 30;

struct Plugin {
    host: Host,
}

export_plugin!(Plugin);

impl Backend for Plugin {
    fn descriptor() -> Descriptor {
        let (id, version) = ("org.example.my-backend", env!("CARGO_PKG_VERSION"));
        let mut descriptor = Descriptor::new(id, "my-backend", version)
            .with_options::<NoOptions>()
            .with_model_options::<Options>();
        descriptor.license = env!("CARGO_PKG_LICENSE").into();
        descriptor
    }

    fn init(host: Host, options: &str) -> Result<Self> {
        let NoOptions {} = read(options)?;
        Ok(Self { host })
    }

    fn devices(&self) -> Result<Vec<Device>> {
        Ok(vec![Device::new("cpu", "CPU")])
    }

    fn supports(&self, path: &Path) -> Support {
        match path.extension() {
            Some(ending) if ending == ENDING && path.is_file() => {
                Support::yes(100, "a text to imitate")
            }
            _ => Support::no(format!("not a .{ENDING} file")),
        }
    }

    fn load(&self, args: &LoadArgs, progress: &Progress) -> Result<Box<dyn Model>> {
        check_device(&args.devices)?;
        let options: Options = args.read_options()?;
        let text = read_text(&args.path, progress)?;
        let message = format!("{} bytes to imitate", text.len());
        self.host.log(LogLevel::INFO, "load", &message);
        Ok(Box::new(Imitator::new(text, options)))
    }
}

/// Checks the devices that the configuration names. None: the backend decides.
fn check_device(ids: &[String]) -> Result<()> {
    match ids.iter().find(|id| *id != "cpu") {
        Some(id) => Err(Error::no_device(id, &["cpu".into()])),
        None => Ok(()),
    }
}

/// Reads a file of whole lines. A file that ends within a line was cut off, and is refused. The host may cancel the load at each
/// report: the error of `report` is then the error of the load.
fn read_text(path: &Path, progress: &Progress) -> Result<Vec<u8>> {
    let io = |error| Error::io(path, &error);
    let mut file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    if size == 0 || size > MAX_BYTES {
        let message = format!("{} must have 1 to {MAX_BYTES} bytes", path.display());
        return Err(Error::invalid(message));
    }
    let mut text = Vec::with_capacity(size as usize);
    while (text.len() as u64) < size {
        progress.report(Some(text.len() as f32 / size as f32), "reading")?;
        let piece = (&mut file).take(CHUNK as u64).read_to_end(&mut text);
        if piece.map_err(io)? == 0 {
            break;
        }
    }
    if !text.ends_with(b"\n") {
        let message = format!("{} ends within a line: copy it again", path.display());
        return Err(Error::invalid(message));
    }
    Ok(text)
}
