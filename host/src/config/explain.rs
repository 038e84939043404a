//! What a configuration means for clients, in words.

use std::{collections::BTreeSet, time::Duration};

use super::{Config, Server, listen::Listen, listen::Scope};
use crate::keys::Key;

impl Config {
    /// Where the server listens, who is let in, its limits, how it ends, and what is logged and sent elsewhere, a line each.
    pub fn explained(&self) -> Vec<String> {
        let addresses = self.server.listen.iter().map(address);
        let authorities = self.tls.as_ref();
        let authorities = authorities.and_then(|tls| tls.client_ca_file.as_ref());
        let certificates = authorities.map(|file| {
            let file = file.display();
            format!("over https only clients with a certificate of an authority in {file}")
        });
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
            .chain(certificates)
            .chain(open)
            .chain(keys)
            .chain(administration)
            .chain([connections(&self.server), requests(&self.server)])
            .chain([self.queues(), drain(&self.server)])
            .chain(access_log)
            .chain(texts)
            .chain(collector)
            .chain(missing)
            .collect()
    }

    /// How many requests may wait. The models of one server usually have the same limit.
    fn queues(&self) -> String {
        let of_folders = self.folders.iter().map(|folder| &folder.model);
        let models = self.models.iter().chain(of_folders);
        let lengths: BTreeSet<_> = models.map(|model| model.engine.max_queue).collect();
        let lengths: Vec<_> = lengths.iter().map(usize::to_string).collect();
        format!("waiting requests of a model: {}", lengths.join(" or "))
    }
}

fn connections(server: &Server) -> String {
    let of_client = match server.max_connections_per_client {
        Some(most) => format!("{most} of one client"),
        None => "also of one client".to_owned(),
    };
    format!("connections: {}, {of_client}", server.max_connections)
}

fn requests(server: &Server) -> String {
    let whole = match server.request_timeout {
        Some(time) => format!("{} for the whole request", secs(time)),
        None => "no limit for the whole request".to_owned(),
    };
    format!(
        "requests: bodies of {} bytes; {} for the head, {} for the body, {whole}",
        server.max_body_bytes,
        secs(server.header_timeout),
        secs(server.body_timeout)
    )
}

fn drain(server: &Server) -> String {
    let (delay, timeout) = (server.drain_delay, server.drain_timeout);
    format!(
        "at SIGTERM: {} in which requests are still taken, then {} for running ones, so whatever starts the server must wait longer than {}",
        secs(delay),
        secs(timeout),
        secs(delay + timeout)
    )
}

fn secs(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

fn address(listen: &Listen) -> String {
    let address = &listen.address;
    let scheme = match (listen.is_encrypted, address.is_port()) {
        (true, _) => "https://",
        (false, true) => "http://",
        (false, false) => "",
    };
    let purpose = match listen.scope {
        Scope::Everything => "",
        Scope::Clients => " for clients",
        Scope::Administration => " for administration and metrics",
    };
    format!("listens at {scheme}{address}{purpose}")
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
