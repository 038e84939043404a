//! The host's side of a backend under test.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    Host, LogLevel, Progress,
    abi::{
        Extension, HostObject, HostObject_TO, ProgressObject, ProgressObject_TO, ROption, RStr,
        RString, TD_Opaque,
    },
};

/// A host for tests. It keeps what is logged, and has no extensions.
#[derive(Clone, Debug)]
pub struct TestHost {
    /// The answer of [`Host::threads`].
    pub threads: u32,
    /// The answer of [`Host::cache_dir`].
    pub cache_dir: PathBuf,
    log: Arc<Mutex<Vec<String>>>,
}

impl Default for TestHost {
    /// A host that grants one thread, with a cache in the system's directory for temporary files.
    fn default() -> Self {
        Self {
            threads: 1,
            cache_dir: std::env::temp_dir().join("tenon-plugin-test"),
            log: Arc::default(),
        }
    }
}

impl TestHost {
    /// The services that [`Backend::init`](crate::Backend::init) gets.
    pub fn host(&self) -> Host {
        Host::new(HostObject_TO::from_value(self.clone(), TD_Opaque))
    }

    /// The lines that were logged, each as `target: message`.
    pub fn log(&self) -> Vec<String> {
        let log = self.log.lock();
        log.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl HostObject for TestHost {
    fn log(&self, _level: LogLevel, target: RStr<'_>, message: RStr<'_>) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(format!("{target}: {message}"));
    }

    fn threads(&self) -> u32 {
        self.threads
    }

    fn cache_dir(&self) -> RString {
        self.cache_dir.to_string_lossy().into_owned().into()
    }

    fn extension(&self, _id: RStr<'_>) -> ROption<Extension> {
        ROption::RNone
    }
}

/// The progress of a long call. `report` gets the fraction, if it is known, and the message; `false` cancels the call.
pub fn progress(report: impl Fn(Option<f32>, &str) -> bool + Send + Sync + 'static) -> Progress {
    Progress::new(ProgressObject_TO::from_value(Reporter(report), TD_Opaque))
}

struct Reporter<F>(F);

impl<F: Fn(Option<f32>, &str) -> bool + Send + Sync> ProgressObject for Reporter<F> {
    fn report(&self, fraction: f32, message: RStr<'_>) -> bool {
        (self.0)((fraction >= 0.0).then_some(fraction), message.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    #[test]
    fn a_test_host_keeps_the_log_and_progress_cancels() {
        let test = TestHost::default();
        let host = test.host();
        host.log(LogLevel::INFO, "loader", "half of it");
        assert_eq!(host.threads(), 1);
        assert_eq!(test.log(), ["loader: half of it"]);

        let progress = progress(|fraction, _| fraction != Some(0.5));
        assert!(progress.report(None, "begins").is_ok());
        let cancelled = progress.report(Some(0.5), "goes on").unwrap_err();
        assert_eq!(cancelled.code, Code::CANCELLED);
    }
}
