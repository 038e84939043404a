//! The services of the host for a plugin: the other direction of the ABI.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use abi_stable::{
    sabi_trait::TD_Opaque,
    std_types::{ROption, RStr, RString},
};
use tenon_plugin_api::{
    LogLevel,
    abi::{
        Extension, HostBox, HostObject, HostObject_TO, ProgressBox, ProgressObject,
        ProgressObject_TO,
    },
};

use crate::text::shortened;

/// Most bytes of a plugin's message in the log, because a message may quote a request.
const MAX_MESSAGE: usize = 4000;

/// Reports the progress of a long call: a fraction, if it is known, and what the call does. `false` asks the call to stop.
pub type ReportProgress = Box<dyn Fn(Option<f32>, &str) -> bool + Send + Sync>;

/// The host object for one plugin.
///
/// `cache` is the directory in which each plugin has a directory for its files.
pub fn host_box(plugin_id: &str, threads: u32, cache: &Path) -> HostBox {
    let services = HostServices {
        plugin_id: plugin_id.into(),
        threads,
        cache: cache.into(),
    };
    HostObject_TO::from_value(services, TD_Opaque)
}

/// The progress object of a plugin's long call.
pub fn progress_box(report: ReportProgress) -> ProgressBox {
    ProgressObject_TO::from_value(ProgressReporter(report), TD_Opaque)
}

struct HostServices {
    plugin_id: String,
    threads: u32,
    cache: PathBuf,
}

impl HostObject for HostServices {
    fn log(&self, level: LogLevel, target: RStr<'_>, message: RStr<'_>) {
        // If the log fails, its line is lost.
        let _ = guarded(|| self.write(level, target.as_str(), message.as_str()));
    }

    fn threads(&self) -> u32 {
        self.threads
    }

    fn cache_dir(&self) -> RString {
        let directory = self.cache.join(&self.plugin_id);
        directory.to_string_lossy().into_owned().into()
    }

    fn extension(&self, _id: RStr<'_>) -> ROption<Extension> {
        ROption::RNone
    }
}

impl HostServices {
    fn write(&self, level: LogLevel, part: &str, message: &str) {
        let plugin = self.plugin_id.as_str();
        let message = shortened(message, MAX_MESSAGE);
        match level {
            LogLevel::ERROR => tracing::error!(target: "plugin", plugin, part, "{message}"),
            LogLevel::WARN => tracing::warn!(target: "plugin", plugin, part, "{message}"),
            LogLevel::INFO => tracing::info!(target: "plugin", plugin, part, "{message}"),
            LogLevel::TRACE => tracing::trace!(target: "plugin", plugin, part, "{message}"),
            _ => tracing::debug!(target: "plugin", plugin, part, "{message}"),
        }
    }
}

/// Runs a service. None: it panicked. A panic must not reach the plugin, because it would end the process there.
fn guarded<T>(service: impl FnOnce() -> T) -> Option<T> {
    let result = catch_unwind(AssertUnwindSafe(service));
    // Dropping the panic's payload may panic in turn.
    result.map_err(mem::forget).ok()
}

/// `tenon` in the user's cache directory. As the XDG base directory specification says, a relative path is ignored.
/// The crate `etcetera` finds no cache directory for a user without a home, even if `XDG_CACHE_HOME` is set.
pub fn default_cache() -> PathBuf {
    let set = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    set.filter(|path| path.is_absolute())
        .or_else(|| Some(std::env::home_dir()?.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("tenon")
}

struct ProgressReporter(ReportProgress);

impl ProgressObject for ProgressReporter {
    fn report(&self, fraction: f32, message: RStr<'_>) -> bool {
        let known = (fraction >= 0.0).then(|| fraction.min(1.0));
        // Without a host to report to, the call stops.
        guarded(|| (self.0)(known, message.as_str())).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use tracing::{Event, Metadata, Subscriber, span, subscriber::with_default};

    use super::*;

    /// A log whose calls panic.
    struct Broken;

    impl Subscriber for Broken {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn event(&self, _: &Event<'_>) {
            panic!("told to panic in the log");
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    #[test]
    fn a_line_is_lost_if_the_log_panics() {
        let host = host_box("org.tenon.test", 3, Path::new("/nowhere"));
        with_default(Broken, || {
            host.log(LogLevel::ERROR, "test".into(), "a line".into());
        });
        assert_eq!(host.threads(), 3);
    }

    #[test]
    fn a_call_stops_if_its_host_panics() {
        let progress = progress_box(Box::new(|fraction: Option<f32>, message: &str| {
            assert_eq!((fraction, message), (Some(0.5), "half-way"));
            true
        }));
        assert!(progress.report(0.5, "half-way".into()));
        assert!(!progress.report(-1.0, "half-way".into()));
    }
}
