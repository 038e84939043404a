//! The limits of keys: requests beyond them are refused, and answers say how much is left, in OpenAI's headers.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{
    error::ApiError,
    keys::{Account, BucketLevel, Key},
};

/// The headers of a limit: the limit itself, the rest of it, and the time until all of it is there again.
struct LimitHeaders {
    limit: HeaderName,
    left: HeaderName,
    full_in: HeaderName,
}

const REQUESTS: LimitHeaders = LimitHeaders {
    limit: HeaderName::from_static("x-ratelimit-limit-requests"),
    left: HeaderName::from_static("x-ratelimit-remaining-requests"),
    full_in: HeaderName::from_static("x-ratelimit-reset-requests"),
};
const TOKENS: LimitHeaders = LimitHeaders {
    limit: HeaderName::from_static("x-ratelimit-limit-tokens"),
    left: HeaderName::from_static("x-ratelimit-remaining-tokens"),
    full_in: HeaderName::from_static("x-ratelimit-reset-tokens"),
};

/// Whether a request counts against the limits of its key.
pub fn are_for(request: &Request) -> bool {
    request.method() == Method::POST && !request.uri().path().starts_with("/admin/")
}

/// Answers a request if the limits of its key allow it.
pub async fn within(account: Arc<Account>, request: Request, next: Next) -> Response {
    let mut response = match account.begin() {
        Ok(()) => next.run(request).await,
        Err(exceeded) => ApiError::from(exceeded).into_response(),
    };
    if let Some(key) = account.key() {
        tell(key, response.headers_mut());
    }
    response
}

fn tell(key: &Key, headers: &mut HeaderMap) {
    for (level, names) in [(key.requests_left(), REQUESTS), (key.tokens_left(), TOKENS)] {
        if let Some(level) = level {
            tell_level(level, names, headers);
        }
    }
}

fn tell_level(level: BucketLevel, names: LimitHeaders, headers: &mut HeaderMap) {
    headers.insert(names.limit, level.limit.into());
    headers.insert(names.left, level.left.into());
    // Digits and letters are always a valid value.
    if let Ok(full_in) = HeaderValue::from_str(&written(level.full_in)) {
        headers.insert(names.full_in, full_in);
    }
}

/// A time as OpenAI writes it: `120ms`, `7s`, `1m30s`.
fn written(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        return format!("{}ms", time.as_millis());
    }
    let secs = time.as_millis().div_ceil(1000);
    match (secs / 60, secs % 60) {
        (0, secs) => format!("{secs}s"),
        (minutes, secs) => format!("{minutes}m{secs}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_openai_does() {
        for (millis, expected) in [
            (0, "0ms"),
            (120, "120ms"),
            (1000, "1s"),
            (6001, "7s"),
            (60_000, "1m0s"),
            (90_000, "1m30s"),
            (5_400_000, "90m0s"),
        ] {
            assert_eq!(written(Duration::from_millis(millis)), expected);
        }
    }
}
