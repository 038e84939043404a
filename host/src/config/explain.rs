//! What a configuration means for clients, in words.

use super::{Config, listen::Listen, listen::Scope};
use crate::keys::Key;

impl Config {
    /// Where the server listens, who is let in, and what is logged and sent elsewhere, a line each.
    pub fn explained(&self) -> Vec<String> {
        let addresses = self.server.listen.iter().map(address);
        let keys = self.keys.iter().map(key);
        let open = match self.keys.are_needed {
            true => None,
            false => Some("no key is needed".to_owned()),
        };
        let administration = match self.keys.have_admin() {
            true => None,
            false => Some("administration from this machine only".to_owned()),
        };
        let access_log = self.server.access_log;
        let access_log = access_log.then(|| "a line in the log about each request".to_owned());
        let texts = self.server.log_prompts;
        let texts = texts.then(|| "the log has the texts of prompts and answers".to_owned());
        let collector = self.telemetry.otlp_endpoint.iter();
        let collector = collector.map(|url| format!("traces and metrics go to {url}"));
        let missing = self.files.iter().filter(|file| !file.exists());
        let missing = missing.map(|file| format!("not on this machine: {}", file.display()));
        addresses
            .chain(open)
            .chain(keys)
            .chain(administration)
            .chain(access_log)
            .chain(texts)
            .chain(collector)
            .chain(missing)
            .collect()
    }
}

fn address(listen: &Listen) -> String {
    let place = &listen.place;
    let scheme = match (listen.is_encrypted, place.is_port()) {
        (true, _) => "https://",
        (false, true) => "http://",
        (false, false) => "",
    };
    let purpose = match listen.scope {
        Scope::Everything => "",
        Scope::Clients => " for clients",
        Scope::Administration => " for administration and metrics",
    };
    format!("listens at {scheme}{place}{purpose}")
}

fn key(key: &Key) -> String {
    let rights = &key.rights;
    let models = rights.models.as_ref().map(|models| models.join(", "));
    let parts = [
        rights.is_admin.then(|| "administration".to_owned()),
        models.map(|models| format!("models {models}")),
        rights
            .requests_per_minute
            .map(|most| format!("{most} requests a minute")),
        rights
            .tokens_per_minute
            .map(|most| format!("{most} tokens a minute")),
        rights
            .max_concurrent
            .map(|most| format!("{most} requests at the same time")),
        rights
            .priority_max
            .map(|most| format!("priority from {most}")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    match parts.is_empty() {
        true => format!("key {}: no limits", key.name),
        false => format!("key {}: {}", key.name, parts.join("; ")),
    }
}
