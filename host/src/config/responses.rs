//! `[responses]`: which responses are kept.

use std::{num::NonZeroU32, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much of `/v1/responses` is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Responses {
    /// 0: nothing is kept.
    pub max_kept_bytes: usize,
    pub max_kept_time: Duration,
}

/// Which responses are kept for requests that continue or read them.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawResponses {
    /// Most bytes of the responses that are kept in memory for `previous_response_id` and `GET /v1/responses/{id}`, with
    /// their input. The ones that were not used for longest are dropped first. 0: none is kept.
    max_kept_bytes: u32,
    /// Seconds that a response is kept.
    max_kept_secs: NonZeroU32,
}

const DEFAULT_MAX_KEPT_SECS: NonZeroU32 = NonZeroU32::new(3600).unwrap();

impl Default for RawResponses {
    fn default() -> Self {
        Self {
            max_kept_bytes: 0,
            max_kept_secs: DEFAULT_MAX_KEPT_SECS,
        }
    }
}

impl RawResponses {
    pub fn resolve(self) -> Responses {
        Responses {
            max_kept_bytes: self.max_kept_bytes as usize,
            max_kept_time: Duration::from_secs(self.max_kept_secs.get().into()),
        }
    }
}
