//! `[server]`: the address, and what every connection gets.

use std::{num::NonZeroU32, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{by_name, refusals::Refusals};

/// How the HTTP side behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    pub host: String,
    /// 0 = any free port.
    pub port: u16,
    pub keep_alive_interval: Duration,
    pub drain_timeout: Duration,
    /// None = no bound.
    pub request_timeout: Option<Duration>,
    pub write_timeout: Duration,
    pub max_body_bytes: usize,
    /// Empty: every request is let in.
    pub api_keys: Vec<String>,
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The address, and what every connection gets.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawServer {
    /// Address to listen on. `0.0.0.0` is every network interface of the machine.
    host: String,
    /// TCP port. 0 takes any free one; the log says which.
    port: u16,
    /// Milliseconds of silence after which a stream gets a comment, so that nobody on the way closes it. The environment
    /// variable `KEEP_ALIVE_INTERVAL` sets it as well.
    keep_alive_interval_ms: NonZeroU32,
    /// Seconds that running requests get to finish after Ctrl-C or SIGTERM.
    drain_timeout_secs: u32,
    /// Seconds that a request may take from its arrival to its end. 0: no bound.
    request_timeout_secs: u32,
    /// Seconds that a stream may stand still because its client does not read. Then it is ended.
    write_timeout_secs: NonZeroU32,
    /// Largest request body in bytes. A larger one is answered with 413.
    max_body_bytes: NonZeroU32,
    /// Keys that clients may use as `Authorization: Bearer <key>`. Without any, every request is let in; with some, only
    /// the health and the documentation (`/`, `/health`, `/docs`, `/openapi.json`) stay open to all.
    api_keys: Vec<String>,
    /// How log lines look.
    #[serde(deserialize_with = "by_name")]
    log_format: LogFormat,
}

const DEFAULT_KEEP_ALIVE_INTERVAL_MS: NonZeroU32 = NonZeroU32::new(10_000).unwrap();
const DEFAULT_WRITE_TIMEOUT_SECS: NonZeroU32 = NonZeroU32::new(60).unwrap();
const DEFAULT_MAX_BODY_BYTES: NonZeroU32 = NonZeroU32::new(32 * 1024 * 1024).unwrap();

impl Default for RawServer {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 8080,
            keep_alive_interval_ms: DEFAULT_KEEP_ALIVE_INTERVAL_MS,
            drain_timeout_secs: 30,
            request_timeout_secs: 0,
            write_timeout_secs: DEFAULT_WRITE_TIMEOUT_SECS,
            max_body_bytes: DEFAULT_MAX_BODY_BYTES,
            api_keys: Vec::new(),
            log_format: LogFormat::default(),
        }
    }
}

impl RawServer {
    pub fn resolve(self, refusals: &mut Refusals) -> Server {
        refusals.check_not_empty(&["server", "host"], &self.host);
        if !self.api_keys.iter().all(|key| can_be_sent(key)) {
            refusals.refuse(
                &["server", "api_keys"],
                "must hold keys of printable ASCII characters without spaces, none of them empty",
            );
        }
        Server {
            host: self.host,
            port: self.port,
            keep_alive_interval: Duration::from_millis(self.keep_alive_interval_ms.get().into()),
            drain_timeout: Duration::from_secs(self.drain_timeout_secs.into()),
            request_timeout: (self.request_timeout_secs > 0)
                .then(|| Duration::from_secs(self.request_timeout_secs.into())),
            write_timeout: Duration::from_secs(self.write_timeout_secs.get().into()),
            max_body_bytes: self.max_body_bytes.get() as usize,
            api_keys: self.api_keys,
            log_format: self.log_format,
        }
    }
}

/// Whether a header can carry this key.
fn can_be_sent(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic())
}
