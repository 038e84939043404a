//! Recognizes requests from the server's own machine, for routes that are open to them alone.

use axum::{
    extract::Request,
    http::{HeaderMap, header::ORIGIN},
};

use crate::{config::Origins, connections::Peer};

/// Headers of requests that came through a proxy. Its address says nothing about the client's.
const OF_PROXIES: [&str; 5] = [
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-real-ip",
];

/// Whether a request was sent on this machine, and not by a proxy for someone else or for a web page of another machine.
pub fn is_local(request: &Request) -> bool {
    let is_here = match request.extensions().get() {
        Some(Peer::Address(address)) => address.ip().to_canonical().is_loopback(),
        Some(Peer::Unix) => true,
        None => false,
    };
    let headers = request.headers();
    let is_forwarded = OF_PROXIES.iter().any(|name| headers.contains_key(*name));
    is_here && !is_forwarded && has_local_origin(headers)
}

/// Whether a request comes from no web page, or from a page that this machine serves. A browser sends some requests for any page.
fn has_local_origin(headers: &HeaderMap) -> bool {
    let origin = headers.get(ORIGIN);
    origin.is_none_or(|origin| {
        origin
            .to_str()
            .is_ok_and(|origin| Origins::Local.allow(origin))
    })
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn check(peer: &str, header: Option<(&str, &str)>, expected: bool) {
        let mut request = Request::post("/admin/models/m/unload");
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let mut request = request.body(Body::empty()).unwrap();
        let peer = match peer {
            "unix" => Peer::Unix,
            address => Peer::Address(address.parse().unwrap()),
        };
        request.extensions_mut().insert(peer);
        assert_eq!(is_local(&request), expected, "{peer:?} {header:?}");
    }

    #[test]
    fn only_direct_requests_of_this_machine_are_local() {
        check("127.0.0.1:9", None, true);
        check("127.8.0.1:9", None, true);
        check("[::1]:9", None, true);
        check("[::ffff:127.0.0.1]:9", None, true);
        check("unix", None, true);
        check("192.0.2.1:9", None, false);
        check("[2001:db8::1]:9", None, false);
        for name in OF_PROXIES {
            check("127.0.0.1:9", Some((name, "192.0.2.1")), false);
            check("unix", Some((name, "192.0.2.1")), false);
        }
        assert!(!is_local(&Request::new(Body::empty())));
    }

    #[test]
    fn web_pages_of_other_machines_are_not_local() {
        let check = |origin, expected| check("127.0.0.1:9", Some(("origin", origin)), expected);
        check("http://localhost:8080", true);
        check("https://evil.example", false);
        check("null", false);
    }
}
