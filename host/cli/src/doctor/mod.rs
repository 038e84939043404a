//! `tenon doctor`

mod cpu;
mod gpus;
mod isolation;
mod memory;
mod read;
mod server;
mod slow;
mod text;
mod threads;

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use tenon::{
    config::{Config, Flags, Source},
    models::registry_options,
    plugin::{Registry, RegistryOptions},
};

use self::{
    cpu::CpuReport, gpus::Gpu, isolation::IsolationReport, memory::MemoryReport, read::read,
    threads::ThreadReport,
};

/// Report what this machine offers a server, what makes it slow, and whether a server could start. The exit code is 0 if it could,
/// else 1.
#[derive(Args)]
pub struct Doctor {
    /// The configuration file [default: ./tenon.toml, then $XDG_CONFIG_HOME/tenon/tenon.toml, else none].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A directory with plugins; may be given more than once [default: `plugins` beside this program].
    #[arg(long, value_name = "DIR")]
    plugins: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Enter the sandbox of workers, and print what the kernel does not restrict. The command starts itself with this flag.
    #[arg(long, hide = true)]
    enter_sandbox: bool,
}

/// Everything that is printed.
#[derive(Serialize)]
struct DoctorReport {
    version: &'static str,
    kernel: String,
    /// The version of glibc. Empty for other C libraries.
    glibc: String,
    cpu: CpuReport,
    threads: ThreadReport,
    memory: MemoryReport,
    isolation: IsolationReport,
    gpus: Vec<Gpu>,
    plugins: Registry,
    /// None if there is none.
    configuration: Option<PathBuf>,
    /// What makes answers slow, and what to do, a sentence each.
    slow: Vec<String>,
    /// What may be wrong, a sentence each.
    warnings: Vec<String>,
    /// Why a server could not start, a sentence each.
    errors: Vec<String>,
}

impl Doctor {
    /// Prints the report. Returns whether a server could start.
    pub fn run(self) -> anyhow::Result<bool> {
        if self.enter_sandbox {
            isolation::print_missing()?;
            return Ok(true);
        }
        let report = DoctorReport::new(self.config, self.plugins)?;
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(&report)?),
            false => print!("{}", text::of(&report)),
        }
        Ok(report.errors.is_empty())
    }
}

impl DoctorReport {
    fn new(file: Option<PathBuf>, plugins: Vec<PathBuf>) -> anyhow::Result<Self> {
        let flags = Flags {
            plugin_directories: plugins.clone(),
            ..Flags::default()
        };
        let source = Source::new(file, flags);
        let (config, wrong) = match source.load_even_without_models() {
            Ok(config) => (Some(config), Vec::new()),
            Err(error) => (None, error.problems),
        };
        let mut report = Self {
            version: env!("CARGO_PKG_VERSION"),
            kernel: read("/proc/sys/kernel/osrelease"),
            glibc: glibc(),
            cpu: CpuReport::of_machine(),
            threads: ThreadReport::of_machine(),
            memory: MemoryReport::of_machine(),
            isolation: IsolationReport::of_machine(),
            gpus: gpus::all(),
            plugins: Registry::load(&search(config.as_ref(), plugins)?),
            configuration: source.file().map(Into::into),
            slow: Vec::new(),
            warnings: Vec::new(),
            errors: wrong,
        };
        report.slow = slow::findings(&report, config.as_ref());
        report.warnings.extend(report.plugins.warnings().to_vec());
        report.errors.extend(server::errors(&report.plugins));
        if let Some(config) = config {
            report.check(&config);
        }
        Ok(report)
    }

    fn check(&mut self, config: &Config) {
        self.warnings.extend(server::taken_ports(config));
        let unloadable = server::unloadable_models(config, &self.plugins);
        let all = config.models.len() + config.folders.len();
        match all > 0 && unloadable.len() == all {
            true => self.errors.extend(unloadable),
            false => self.warnings.extend(unloadable),
        }
    }
}

fn search(config: Option<&Config>, plugins: Vec<PathBuf>) -> anyhow::Result<RegistryOptions> {
    match config {
        Some(config) => registry_options(config),
        None => Ok(RegistryOptions::new(plugins)?),
    }
}

#[cfg(target_env = "gnu")]
fn glibc() -> String {
    // SAFETY: it returns a constant text that ends with a zero.
    let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
    version.to_string_lossy().into_owned()
}

#[cfg(not(target_env = "gnu"))]
fn glibc() -> String {
    String::new()
}
