//! `[server]`: the address, the limits of connections, keys and the log.

use std::{
    mem,
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    by_name::by_name,
    keys::{as_hashes, can_be_sent},
    listen::{Addresses, Listen, ListenAddress, Scope},
    origins::{Hosts, Origins},
    refusals::Refusals,
};
use crate::keys::{Key, KeyHash, Keys};

/// Address, limits and access rules of the HTTP server.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// At least one address.
    pub listen: Vec<Listen>,
    pub keep_alive_interval: Duration,
    pub drain_delay: Duration,
    pub drain_timeout: Duration,
    /// None: no bound.
    pub request_timeout: Option<Duration>,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub idle_timeout: Duration,
    pub write_timeout: Duration,
    pub max_connections: usize,
    /// None: no limit.
    pub max_connections_per_client: Option<usize>,
    pub max_body_bytes: usize,
    /// Whether `/re_isq` needs an admin key if there is one.
    pub requantize_needs_admin_key: bool,
    pub origins: Origins,
    pub hosts: Hosts,
    /// Whether the configuration is read again when its file changes.
    pub watch_config: bool,
    /// None: no limit.
    pub memory_budget_bytes: Option<u64>,
    /// Whether models with running requests make room for others too.
    pub unload_busy_models: bool,
    pub log_format: LogFormat,
    /// Whether each request gets a line in the log.
    pub access_log: bool,
    /// Whether the log has the texts of prompts and answers.
    pub log_prompts: bool,
}

/// The keys that `/re_isq` takes.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum RequantizeKeys {
    /// Only admin keys.
    #[default]
    Admin,
    /// The same as other routes.
    All,
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The address, the limits of connections, keys and the log.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawServer {
    /// Address to listen on. `0.0.0.0` is every network interface of the machine.
    host: String,
    /// TCP port. 0 takes any free one; the log says which.
    port: u16,
    /// Instead of `host` and `port`: an address with its port such as `0.0.0.0:8080` or `[::1]:8080`, a Unix socket such as
    /// `unix:/run/tenon/tenon.sock`, or a list of them. With `[tls]`, addresses speak TLS unless they begin with `http://` or `unix:`.
    listen: Option<Addresses>,
    /// Further addresses, written as those of `listen`, for `/metrics`, `/status` and administration, which the addresses of `listen`
    /// then do not serve. The further addresses also serve the health and `/re_isq`, and nothing else. Default: none.
    admin_listen: Option<Addresses>,
    /// Milliseconds of silence after which a stream gets a comment, so that no proxy on the way closes it. The environment
    /// variable `KEEP_ALIVE_INTERVAL` sets it too.
    keep_alive_interval_ms: NonZeroU32,
    /// Seconds after Ctrl-C or SIGTERM in which the server still takes requests, while `/health/ready` answers 503. As long as
    /// a load balancer needs to notice that. Default: 0, because without a load balancer it would only delay the end.
    drain_delay_secs: u32,
    /// Seconds that running requests get to finish after Ctrl-C or SIGTERM, counted from the end of `drain_delay_secs`.
    drain_timeout_secs: u32,
    /// Seconds that a request may take from the arrival of its head to its end. 0: no bound.
    request_timeout_secs: u32,
    /// Seconds that the head of a request may take to arrive, and a new connection to send something. Then the connection
    /// is closed.
    header_timeout_secs: NonZeroU32,
    /// Seconds that the body of a request may take to arrive. A request that takes longer is answered with 408.
    body_timeout_secs: NonZeroU32,
    /// Seconds that a connection is kept open between two requests.
    idle_timeout_secs: NonZeroU32,
    /// Seconds that a stream may stand still because its client does not read. Then the stream is ended; after the same
    /// time again, its connection is closed.
    write_timeout_secs: NonZeroU32,
    /// Most connections at the same time. One more closes the connection that has been idle for longest; if none is idle,
    /// the new one is answered with 503. The limit of open files bounds connections too.
    max_connections: NonZeroU32,
    /// Most connections of one client, known by its address (of IPv6 the first half), at the same time. One more closes the one that has
    /// been idle for longest; if none is idle, the new one is answered with 429. 0: no limit, because all clients of a proxy have the
    /// proxy's address.
    max_connections_per_client: u32,
    /// Largest request body in bytes. A larger one is answered with 413.
    max_body_bytes: NonZeroU32,
    /// Keys that clients may use as `Authorization: Bearer <key>` or `x-api-key: <key>`. `[[keys]]` gives a key a name, rights and
    /// limits. Without any key, every request is accepted. With keys, only the health, the documentation and the chat page (`/`,
    /// `/page`, `/health`, `/health/ready`, `/health/live`, `/docs`, `/openapi.json`) stay open to all.
    #[serde(serialize_with = "as_hashes")]
    api_keys: Vec<String>,
    /// Keys for administration: the routes under `/admin/`, and `/re_isq`. They are also accepted wherever one of `api_keys` is.
    /// Without any, the routes under `/admin/` answer only to requests from this machine that came through no proxy.
    #[serde(serialize_with = "as_hashes")]
    admin_keys: Vec<String>,
    /// Keys that `/re_isq` takes, if there is one for administration.
    #[serde(deserialize_with = "by_name")]
    requantize_keys: RequantizeKeys,
    /// Origins whose web pages may use this server from a browser, such as `https://chat.example.com`; `*` is every origin.
    /// Default: those of this machine, such as `http://localhost:3000`.
    cors_origins: Option<Vec<String>>,
    /// Names by which requests may address this server (the header Host); `*` is every name. Addresses and names that no
    /// public DNS has are always allowed. Default: every name, but no further name if the server listens at a loopback
    /// address. Otherwise a web page could reach the server by making a name of its own point here.
    allowed_hosts: Option<Vec<String>>,
    /// Whether a change of this file counts at once. Without it, the file is read again at SIGHUP and
    /// `POST /admin/config/reload`. A file with mistakes changes nothing; the log says what is wrong.
    watch_config: bool,
    /// Most memory in bytes that all models may take together: what their plugins estimate, or what their workers use. Before a model
    /// is loaded, the least recently used idle ones are unloaded. If it still does not fit, the requests for it get 503. Default: no
    /// limit.
    memory_budget_bytes: Option<NonZeroU64>,
    /// Whether models with running requests are unloaded too to make room for another one. Their requests finish first.
    unload_busy_models: bool,
    /// Format of log lines.
    #[serde(deserialize_with = "by_name")]
    log_format: LogFormat,
    /// Whether the log has a line about each request when it ends: its key's name, its model, status, tokens and duration. Requests for
    /// administration always have one (`audit`). No line has texts of requests, nor keys.
    access_log: bool,
    /// Whether the log has a line with the prompts and answers of each request. Without it, no line has texts of clients.
    log_prompts: bool,
}

const DEFAULT_KEEP_ALIVE_INTERVAL_MS: NonZeroU32 = NonZeroU32::new(10_000).unwrap();
const DEFAULT_HEADER_TIMEOUT_SECS: NonZeroU32 = NonZeroU32::new(15).unwrap();
const DEFAULT_BODY_TIMEOUT_SECS: NonZeroU32 = NonZeroU32::new(60).unwrap();
const DEFAULT_IDLE_TIMEOUT_SECS: NonZeroU32 = NonZeroU32::new(65).unwrap();
const DEFAULT_MAX_CONNECTIONS: NonZeroU32 = NonZeroU32::new(1024).unwrap();
const DEFAULT_WRITE_TIMEOUT_SECS: NonZeroU32 = NonZeroU32::new(60).unwrap();
const DEFAULT_MAX_BODY_BYTES: NonZeroU32 = NonZeroU32::new(32 * 1024 * 1024).unwrap();

impl Default for RawServer {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 8080,
            listen: None,
            admin_listen: None,
            keep_alive_interval_ms: DEFAULT_KEEP_ALIVE_INTERVAL_MS,
            drain_delay_secs: 0,
            drain_timeout_secs: 30,
            request_timeout_secs: 0,
            header_timeout_secs: DEFAULT_HEADER_TIMEOUT_SECS,
            body_timeout_secs: DEFAULT_BODY_TIMEOUT_SECS,
            idle_timeout_secs: DEFAULT_IDLE_TIMEOUT_SECS,
            write_timeout_secs: DEFAULT_WRITE_TIMEOUT_SECS,
            max_connections: DEFAULT_MAX_CONNECTIONS,
            max_connections_per_client: 0,
            max_body_bytes: DEFAULT_MAX_BODY_BYTES,
            api_keys: Vec::new(),
            admin_keys: Vec::new(),
            requantize_keys: RequantizeKeys::default(),
            cors_origins: None,
            allowed_hosts: None,
            watch_config: true,
            memory_budget_bytes: None,
            unload_busy_models: false,
            log_format: LogFormat::default(),
            access_log: false,
            log_prompts: false,
        }
    }
}

impl RawServer {
    /// All keys: those of `admin_keys` and `api_keys`, and `named`.
    pub fn keys(&self, named: Vec<Key>) -> Keys {
        let are_needed = !named.is_empty() || !self.api_keys.is_empty();
        let all = listed("admin_keys", &self.admin_keys, true)
            .chain(named)
            .chain(listed("api_keys", &self.api_keys, false));
        Keys::new(all.collect(), are_needed)
    }

    /// `has_tls` says whether the server has a certificate.
    pub fn resolve(mut self, has_tls: bool, refusals: &mut Refusals) -> Server {
        let listen = self.listen(has_tls, refusals);
        check_keys("api_keys", &self.api_keys, refusals);
        check_keys("admin_keys", &self.admin_keys, refusals);
        Server {
            keep_alive_interval: Duration::from_millis(self.keep_alive_interval_ms.get().into()),
            drain_delay: Duration::from_secs(self.drain_delay_secs.into()),
            drain_timeout: Duration::from_secs(self.drain_timeout_secs.into()),
            request_timeout: (self.request_timeout_secs > 0)
                .then(|| Duration::from_secs(self.request_timeout_secs.into())),
            header_timeout: secs(self.header_timeout_secs),
            body_timeout: secs(self.body_timeout_secs),
            idle_timeout: secs(self.idle_timeout_secs),
            write_timeout: secs(self.write_timeout_secs),
            max_connections: self.max_connections.get() as usize,
            max_connections_per_client: match self.max_connections_per_client {
                0 => None,
                most => Some(most as usize),
            },
            max_body_bytes: self.max_body_bytes.get() as usize,
            requantize_needs_admin_key: self.requantize_keys == RequantizeKeys::Admin,
            origins: Origins::resolve(self.cors_origins, refusals),
            hosts: Hosts::resolve(self.allowed_hosts, &listen, refusals),
            watch_config: self.watch_config,
            memory_budget_bytes: self.memory_budget_bytes.map(NonZeroU64::get),
            unload_busy_models: self.unload_busy_models,
            listen,
            log_format: self.log_format,
            access_log: self.access_log,
            log_prompts: self.log_prompts,
        }
    }

    /// All addresses.
    fn listen(&mut self, has_tls: bool, refusals: &mut Refusals) -> Vec<Listen> {
        let scope = match self.admin_listen {
            Some(_) => Scope::Clients,
            None => Scope::Everything,
        };
        let mut all = match self.listen.take() {
            Some(listen) => {
                for key in ["host", "port"] {
                    refusals.check_not_beside(&["server", key], "server.listen");
                }
                let key = ["server", "listen"];
                Listen::resolve(&key, listen, (scope, has_tls), refusals)
            }
            None => {
                refusals.check_not_empty(&["server", "host"], &self.host);
                let (host, port) = (mem::take(&mut self.host), self.port);
                vec![Listen {
                    address: ListenAddress::Tcp { host, port },
                    scope,
                    is_encrypted: has_tls,
                }]
            }
        };
        let key = ["server", "admin_listen"];
        if let Some(listen) = self.admin_listen.take() {
            let scope = (Scope::Administration, has_tls);
            all.extend(Listen::resolve(&key, listen, scope, refusals));
        }
        all
    }
}

fn secs(secs: NonZeroU32) -> Duration {
    Duration::from_secs(secs.get().into())
}

fn listed(list: &str, keys: &[String], are_admin: bool) -> impl Iterator<Item = Key> {
    let keys = keys.iter().enumerate();
    keys.map(move |(index, key)| {
        Key::listed(format!("{list}[{index}]"), KeyHash::of(key), are_admin)
    })
}

fn check_keys(name: &str, keys: &[String], refusals: &mut Refusals) {
    if !keys.iter().all(|key| can_be_sent(key)) {
        refusals.refuse(
            &["server", name],
            "must hold keys of printable ASCII characters without spaces, none of them empty",
        );
    }
}
