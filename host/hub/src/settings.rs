//! The hub and the cache, from the environment.

use std::{
    env, fs,
    path::{Path, PathBuf, absolute},
};

use reqwest::RequestBuilder;
use tenon::hub::TOKEN_VARIABLES;

/// The hub, and the cache of its files.
pub struct HubSettings {
    /// The URL of the hub, without a slash at its end.
    pub endpoint: String,
    /// The directory of the cache.
    pub cache: PathBuf,
    /// The user's token for the hub.
    pub token: Option<String>,
    /// Whether no requests may be sent.
    pub offline: bool,
}

const ENDPOINT: &str = "https://huggingface.co";

impl HubSettings {
    /// The settings from this process's environment. No value is refused. An empty variable counts as one that is not set.
    pub fn of_process() -> Self {
        Self::of(
            |name| env::var(name).ok(),
            &env::home_dir().unwrap_or_default(),
        )
    }

    /// A request with the token, if there is one.
    pub(crate) fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    fn of(variable: impl Fn(&str) -> Option<String>, home: &Path) -> Self {
        let value = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let first = |names: &[&str]| names.iter().find_map(|name| value(name));
        let path = |name: &str| Some(expanded(&value(name)?, home));
        let caches = path("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache"));
        let of_hub = path("HF_HOME").unwrap_or_else(|| caches.join("huggingface"));
        let token_file = path("HF_TOKEN_PATH").unwrap_or_else(|| of_hub.join("token"));
        let token = first(&TOKEN_VARIABLES);
        let token = token.or_else(|| fs::read_to_string(token_file).ok());
        let token = token.map(|token| token.trim().to_owned());
        let endpoint = value("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache: path("HF_HUB_CACHE")
                .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
                .unwrap_or_else(|| of_hub.join("hub")),
            token: token.filter(|token| !token.is_empty()),
            offline: first(&["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]).is_some_and(is_true),
        }
    }
}

/// A whole path. `~` is the home directory.
fn expanded(path: &str, home: &Path) -> PathBuf {
    match Path::new(path).strip_prefix("~") {
        Ok(rest) => home.join(rest),
        Err(_) => absolute(path).unwrap_or_else(|_| path.into()),
    }
}

fn is_true(value: String) -> bool {
    ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> HubSettings {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.to_string())
        };
        HubSettings::of(variable, Path::new("/home/me"))
    }

    #[test]
    fn the_cache_is_where_other_programs_look_for_it() {
        for (variables, expected) in [
            (&[][..], "/home/me/.cache/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (
                &[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "~/hf")],
                "/home/me/hf/hub",
            ),
            (&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/c")], "/c"),
            (&[("HF_HOME", "")], "/home/me/.cache/huggingface/hub"),
        ] {
            assert_eq!(settings(variables).cache, Path::new(expected));
        }
    }

    #[test]
    fn the_hub_the_token_and_the_network_are_settings() {
        let default = settings(&[]);
        assert_eq!(
            (default.endpoint.as_str(), default.offline),
            (ENDPOINT, false)
        );
        assert_eq!(default.token, None);
        let other = settings(&[
            ("HF_ENDPOINT", "https://mirror.example/"),
            ("HF_TOKEN", "hf_secret\n"),
            ("HF_HUB_OFFLINE", "yes"),
        ]);
        assert_eq!(
            (other.endpoint.as_str(), other.offline),
            ("https://mirror.example", true)
        );
        assert_eq!(other.token.as_deref(), Some("hf_secret"));
        assert!(!settings(&[("HF_HUB_OFFLINE", "0")]).offline);
    }

    #[test]
    fn the_token_may_be_in_a_file() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("token"), "of_file\n").unwrap();
        let folder = home.path().to_str().unwrap();
        assert_eq!(
            settings(&[("HF_HOME", folder)]).token.as_deref(),
            Some("of_file")
        );
        let both = settings(&[("HF_HOME", folder), ("HF_TOKEN", "of_variable")]);
        assert_eq!(both.token.as_deref(), Some("of_variable"));
    }
}
