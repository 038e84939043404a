//! The web pages that may use the server, and the names that requests may address it by.

use std::net::IpAddr;

use super::{
    listen::{Listen, ListenAddress},
    refusals::Refusals,
};

/// The origins of web pages that may use the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    Any,
    /// The origins that this machine itself serves.
    Local,
    /// These origins, as browsers write them.
    These(Vec<String>),
}

/// The names that requests may address the server by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hosts {
    Any,
    /// These names, in lower case. Addresses and names of private networks are allowed too, because no web page can get them
    /// from public DNS.
    These(Vec<String>),
}

const ORIGINS: [&str; 2] = ["server", "cors_origins"];
const HOSTS: [&str; 2] = ["server", "allowed_hosts"];
const ANY: &str = "*";

impl Origins {
    pub fn resolve(written: Option<Vec<String>>, refusals: &mut Refusals) -> Self {
        let Some(written) = written else {
            return Self::Local;
        };
        if written.iter().any(|origin| origin == ANY) {
            return Self::Any;
        }
        for origin in &written {
            if !is_origin(origin) {
                let why = format!(
                    "has {origin:?}, but must hold origins such as \"https://chat.example.com\" or \"http://localhost:3000\", without a path, or \"*\""
                );
                refusals.refuse(&ORIGINS, &why);
            }
        }
        let written = written.iter().map(|origin| as_browsers_write(origin));
        Self::These(written.collect())
    }

    /// Whether web pages of this origin may use the server.
    pub fn allow(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Local => split(origin).is_some_and(|(_, host)| is_loopback(without_port(host))),
            Self::These(these) => these.iter().any(|one| one.eq_ignore_ascii_case(origin)),
        }
    }
}

impl Hosts {
    /// Resolves the names of a server that listens at these addresses.
    pub fn resolve(
        written: Option<Vec<String>>,
        listen: &[Listen],
        refusals: &mut Refusals,
    ) -> Self {
        let Some(written) = written else {
            return match listen.iter().all(|listen| is_here(&listen.address)) {
                true => Self::These(Vec::new()),
                false => Self::Any,
            };
        };
        if written.iter().any(|host| host == ANY) {
            return Self::Any;
        }
        for host in &written {
            if host.is_empty() || !is_name(host) {
                let why = format!(
                    "has {host:?}, but must hold names such as \"llm.example.com\", without a port, or \"*\""
                );
                refusals.refuse(&HOSTS, &why);
            }
        }
        let written = written.iter().map(|host| host.to_ascii_lowercase());
        Self::These(written.collect())
    }

    /// Whether a request may address the server by this name or address, which may have a port.
    pub fn allow(&self, host: &str) -> bool {
        let Self::These(these) = self else {
            return true;
        };
        let host = without_port(host)
            .trim_end_matches('.')
            .to_ascii_lowercase();
        is_address(&host) || is_private_name(&host) || these.contains(&host)
    }
}

fn is_origin(text: &str) -> bool {
    let plain = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"/?#@*".contains(&byte))
    };
    // Pages from files have this origin.
    text == "null"
        || split(text)
            .is_some_and(|(scheme, host)| plain(scheme) && plain(host) && !host.is_empty())
}

/// An origin in lower case, without the default port of its scheme.
fn as_browsers_write(origin: &str) -> String {
    let origin = origin.to_ascii_lowercase();
    let without = match split(&origin) {
        Some((scheme @ "http", host)) => host.strip_suffix(":80").map(|host| (scheme, host)),
        Some((scheme @ "https", host)) => host.strip_suffix(":443").map(|host| (scheme, host)),
        _ => None,
    };
    let without = without.map(|(scheme, host)| format!("{scheme}://{host}"));
    without.unwrap_or(origin)
}

fn split(origin: &str) -> Option<(&str, &str)> {
    origin.split_once("://")
}

/// Removes the port. An IPv6 address that may have a port stands in brackets.
fn without_port(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

/// Whether only this machine reaches a place.
fn is_here(address: &ListenAddress) -> bool {
    match address {
        ListenAddress::Tcp { host, .. } => is_loopback(host),
        ListenAddress::Unix(_) => true,
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    address.is_some_and(|address| address.is_loopback())
        || host == "localhost"
        || host.ends_with(".localhost")
}

fn is_address(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok()
}

/// Whether a name is reserved for machines and private networks, or has no dot.
fn is_private_name(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    is_name(host) && (!host.contains('.') || matches!(last, "localhost" | "local" | "internal"))
}

/// Whether all characters may be in a name.
fn is_name(host: &str) -> bool {
    host.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_this_machine_are_local() {
        for (origin, expected) in [
            ("http://localhost:3000", true),
            ("https://LOCALHOST", true),
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:3000", true),
            ("http://app.localhost", true),
            ("http://localhost.evil.example", false),
            ("http://evil.example", false),
            ("http://192.168.1.2", false),
            ("null", false),
            ("", false),
        ] {
            assert_eq!(Origins::Local.allow(origin), expected, "{origin}");
        }
    }

    #[test]
    fn origins_are_compared_as_browsers_write_them() {
        for (written, origin) in [
            ("https://Chat.example.com:443", "https://chat.example.com"),
            ("http://a.example:80", "http://a.example"),
            ("http://a.example:8000", "http://a.example:8000"),
            ("null", "null"),
        ] {
            assert!(is_origin(written), "{written}");
            assert_eq!(as_browsers_write(written), origin);
        }
        for wrong in [
            "",
            "a.example",
            "https://",
            "https://a.example/",
            "https://*.a.example",
            "http://a b",
        ] {
            assert!(!is_origin(wrong), "{wrong}");
        }
    }

    #[test]
    fn names_of_public_dns_have_to_be_allowed() {
        let hosts = Hosts::These(vec!["llm.example.com".to_owned()]);
        for (host, expected) in [
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("localhost", true),
            ("tenon:8080", true),
            ("host.docker.internal:8080", true),
            ("LLM.example.com.:443", true),
            ("llm.example.com.evil.example", false),
            ("evil.example:8080", false),
            ("127.0.0.1.nip.example", false),
            ("?", false),
            ("", true),
        ] {
            assert_eq!(hosts.allow(host), expected, "{host}");
        }
        assert!(Hosts::Any.allow("evil.example"));
    }
}
