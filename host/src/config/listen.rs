//! Addresses to listen at.

use std::{borrow::Cow, fmt, path::PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{SeqAccess, Visitor, value::SeqAccessDeserializer},
};

use super::refusals::Refusals;

/// An address to listen at, and the routes that are served there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    pub address: ListenAddress,
    pub scope: Scope,
    /// Whether TLS is spoken there.
    pub is_encrypted: bool,
}

/// Where connections come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A port of an address or name. Port 0: any free port.
    Tcp { host: String, port: u16 },
    /// A Unix socket.
    Unix(PathBuf),
}

/// The routes that are served at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Everything,
    /// Everything but administration and metrics.
    Clients,
    /// Administration, metrics and the health.
    Administration,
}

/// An address, or a list of them, as they are written.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Addresses(Vec<String>);

const UNIX: &str = "unix:";

impl Listen {
    /// Resolves the addresses of `key`. Without a scheme, they speak TLS if the server `has_tls`.
    pub fn resolve(
        key: &[&str],
        written: Addresses,
        (scope, has_tls): (Scope, bool),
        refusals: &mut Refusals,
    ) -> Vec<Self> {
        if written.0.is_empty() {
            refusals.refuse(key, "must have an address");
        }
        let all = written.0.iter().filter_map(|address| {
            let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
            let is_unix = address.starts_with(UNIX);
            let is_encrypted = match scheme {
                "" => has_tls && !is_unix,
                scheme => scheme == "https",
            };
            if is_encrypted && !has_tls {
                let why = format!("has {address:?}, which needs a certificate: set it in [tls]");
                refusals.refuse(key, &why);
            }
            let address = match scheme {
                "" | "http" | "https" => ListenAddress::resolve(key, rest, refusals),
                _ => ListenAddress::resolve(key, address, refusals),
            };
            Some(Self {
                address: address?,
                scope,
                is_encrypted,
            })
        });
        all.collect()
    }
}

impl ListenAddress {
    fn resolve(key: &[&str], written: &str, refusals: &mut Refusals) -> Option<Self> {
        if let Some(path) = written.strip_prefix(UNIX) {
            return Some(Self::Unix(refusals.whole_path(key, path.as_ref())));
        }
        let address = tcp(written);
        if address.is_none() {
            let why = format!(
                "has {written:?}, but must hold addresses such as \"0.0.0.0:8080\", \"[::1]:8080\" or \"unix:/run/tenon/tenon.sock\""
            );
            refusals.refuse(key, &why);
        }
        address
    }

    /// Whether it is a port, and not a Unix socket.
    pub fn is_port(&self) -> bool {
        matches!(self, Self::Tcp { .. })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

fn tcp(written: &str) -> Option<ListenAddress> {
    let (host, port) = written.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_name = |host: &&str| !host.is_empty() && !host.contains([':', '/', '[', ']']);
    let host = bracketed
        .filter(|host| host.parse::<std::net::Ipv6Addr>().is_ok())
        .or(Some(host).filter(is_name))?;
    Some(ListenAddress::Tcp {
        host: host.to_owned(),
        port,
    })
}

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AddressesVisitor)
    }
}

struct AddressesVisitor;

impl<'de> Visitor<'de> for AddressesVisitor {
    type Value = Addresses;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address in quotes or a list of addresses")
    }

    fn visit_str<E>(self, address: &str) -> Result<Addresses, E> {
        Ok(Addresses(vec![address.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Addresses, A::Error> {
        Deserialize::deserialize(SeqAccessDeserializer::new(list)).map(Addresses)
    }
}

impl JsonSchema for Addresses {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Addresses".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "array"], "items": {"type": "string"}})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_with_their_port() {
        for (written, host, port) in [
            ("0.0.0.0:8080", "0.0.0.0", 8080),
            ("localhost:0", "localhost", 0),
            ("[::1]:443", "::1", 443),
        ] {
            let address = tcp(written).unwrap();
            assert_eq!(address.to_string(), written);
            let host = host.to_owned();
            assert_eq!(address, ListenAddress::Tcp { host, port });
        }
        for wrong in [
            "",
            "8080",
            ":8080",
            "::1:8080",
            "[::1]",
            "[a]:1",
            "a:65536",
            "a:-1",
            "http://a:1",
            "a/b:1",
        ] {
            assert_eq!(tcp(wrong), None, "{wrong:?}");
        }
    }
}
