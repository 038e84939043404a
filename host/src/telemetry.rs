//! The log: lines for people, JSON on request, on stderr either way.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::LogFormat;

/// Starts the log. `TENON_LOG` filters it, in the syntax of `tracing`: `debug`, `tenon=debug,plugin=warn`.
pub fn start(format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .with_env_var("TENON_LOG")
        .with_default_directive(tracing::Level::INFO.into())
        .from_env()?;
    let log = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => log
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .init(),
    }
    Ok(())
}
