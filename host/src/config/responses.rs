//! `[responses]`: which responses are kept.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::refusals::Refusals;

/// How much of `/v1/responses` is kept, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Responses {
    /// Where responses are kept. None: in memory.
    pub file: Option<PathBuf>,
    /// 0: nothing is kept.
    pub max_kept_bytes: usize,
    pub max_kept_time: Duration,
}

impl Responses {
    /// Whether responses are kept at all.
    pub fn are_kept(&self) -> bool {
        self.max_kept_bytes > 0
    }
}

/// Which responses are kept for requests that continue or read them.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawResponses {
    /// File in which responses are kept, so that they outlive the server; a database of SQLite, with conversations as plain text.
    /// Only one server can use it. Relative to this file. Default: responses are kept in memory.
    file: Option<PathBuf>,
    /// Most bytes of the responses that are kept for `previous_response_id` and `GET /v1/responses/{id}`, with
    /// their input. The least recently used ones are dropped first. 0: none is kept.
    max_kept_bytes: u32,
    /// Seconds that a response is kept.
    max_kept_secs: NonZeroU32,
}

const DEFAULT_MAX_KEPT_SECS: NonZeroU32 = NonZeroU32::new(3600).unwrap();

impl Default for RawResponses {
    fn default() -> Self {
        Self {
            file: None,
            max_kept_bytes: 0,
            max_kept_secs: DEFAULT_MAX_KEPT_SECS,
        }
    }
}

impl RawResponses {
    pub fn resolve(self, refusals: &mut Refusals) -> Responses {
        let key = &["responses", "file"];
        if self.file.is_some() && !cfg!(feature = "responses-file") {
            refusals.refuse(
                key,
                "needs a build with the feature responses-file: use one of `make build`, or leave it out",
            );
        }
        if self.file.is_some() && self.max_kept_bytes == 0 {
            refusals.refuse(
                key,
                "has no effect while max_kept_bytes is 0: set that too, or leave it out",
            );
        }
        Responses {
            file: self.file.map(|file| refusals.whole_path(key, &file)),
            max_kept_bytes: self.max_kept_bytes as usize,
            max_kept_time: Duration::from_secs(self.max_kept_secs.get().into()),
        }
    }
}
