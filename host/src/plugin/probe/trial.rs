//! The child's side of a trial: loads the library, starts its backend, asks it about models, and reports the results.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    MAX_MEMORY, illegal,
    messages::{PluginFacts, Refusal, SupportsAnswer, TrialMessage, TrialRequest, TrialStep},
};
use crate::plugin::{
    Backend,
    child::{Confinement, Given, end_with_parent},
    load::Plugin,
};

/// Tries out the library that this process has as its standard input, and reports to the host at its standard output.
///
/// # Errors
/// If the other side is not a host.
pub fn run() -> io::Result<()> {
    end_with_parent()?;
    let Given {
        library,
        socket: host,
    } = Given::take()?;
    illegal::report_to(&host)?;
    TrialChild { host }.run(library)
}

/// The child that tries out a library, as seen by itself.
struct TrialChild {
    host: UnixStream,
}

impl TrialChild {
    fn run(mut self, library: File) -> io::Result<()> {
        let request = self.request()?;
        let end = match self.start(library, &request)? {
            Ok(backend) => {
                self.ask(&backend, &request.files)?;
                TrialMessage::Done {
                    pid: std::process::id(),
                }
            }
            Err(refusal) => TrialMessage::Refused(refusal),
        };
        self.say(&end)?;
        self.wait_for_the_end()
    }

    fn request(&mut self) -> io::Result<TrialRequest> {
        let mut line = String::new();
        BufReader::new(&self.host).read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }

    fn start(
        &mut self,
        library: File,
        request: &TrialRequest,
    ) -> io::Result<Result<Backend, Refusal>> {
        if let Err(error) = request.confinement().enter(&library) {
            return Ok(Err(Refusal::new(format!(
                "cannot be tried out, because {error}: set sandbox = \"off\" in [engine]"
            ))));
        }
        self.say(&TrialMessage::Begin(TrialStep::Load))?;
        let plugin = match Plugin::open(library) {
            Ok(plugin) => plugin,
            Err(error) => return Ok(Err(error.into())),
        };
        self.say(&TrialMessage::Begin(TrialStep::Init))?;
        let options = request.options_of(&plugin.descriptor().id);
        let cache = Path::new(&request.cache);
        let backend = match Backend::start(&plugin, request.threads, cache, &options) {
            Ok(backend) => backend,
            Err(error) => return Ok(Err(Refusal::new(format!("did not start: {error}")))),
        };
        self.say(&TrialMessage::Begin(TrialStep::Devices))?;
        let facts = facts(&backend);
        self.say(&TrialMessage::Started(facts.into()))?;
        Ok(Ok(backend))
    }

    /// Asks about the files, up to the first one without an answer: a backend that panicked is not asked again.
    fn ask(&mut self, backend: &Backend, files: &[String]) -> io::Result<()> {
        for file in files {
            self.say(&TrialMessage::Begin(TrialStep::Supports(file.clone())))?;
            let answer = answer(backend, file);
            let panicked = answer.is_err();
            self.say(&TrialMessage::Answer(answer))?;
            if panicked {
                break;
            }
        }
        Ok(())
    }

    fn say(&mut self, message: &TrialMessage) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.host.write_all(&line)
    }

    /// Waits until the host ends this process. If this process is still alive then, the library did not end it.
    fn wait_for_the_end(&mut self) -> io::Result<()> {
        self.host.shutdown(Shutdown::Write)?;
        self.host.read(&mut [0]).map(drop)
    }
}

fn facts(backend: &Backend) -> PluginFacts {
    let descriptor = backend.descriptor().clone();
    let devices = backend.devices().unwrap_or_default();
    let kernels = devices
        .iter()
        .filter_map(|device| Some((device.id.clone(), device.kernels()?.to_owned())));
    PluginFacts {
        kernels: kernels.collect(),
        levels: descriptor.levels().map(str::to_owned).collect(),
        options: backend.options().clone(),
        id: descriptor.id,
        name: descriptor.name,
        version: descriptor.version,
        vendor: descriptor.vendor,
        license: descriptor.license,
        build: descriptor.build,
        abi: backend.abi().to_string(),
        devices: devices.into_iter().map(|device| device.id).collect(),
    }
}

fn answer(backend: &Backend, file: &str) -> SupportsAnswer {
    let support = backend.supports(Path::new(file));
    match support {
        Ok(support) => Ok((support.score, support.reason)),
        Err(error) => Err(error.message),
    }
}

impl TrialRequest {
    /// The confinement of the library.
    fn confinement(&self) -> Confinement {
        Confinement {
            sandbox: self.sandbox,
            memory_bytes: Some(MAX_MEMORY),
            plugin: PathBuf::from(&self.plugin),
            models: self.files.iter().map(PathBuf::from).collect(),
            cache: PathBuf::from(&self.cache),
        }
    }

    /// The options of the plugin with this id, as a JSON object. `{}` if there are none.
    pub fn options_of(&self, id: &str) -> String {
        let options = self.options.get(id).cloned().unwrap_or_default();
        Value::Object(options).to_string()
    }
}
