//! The other load of the soak: requests over TLS with HTTP/2, scrapes, a key at its limits, and changes of the configuration.

use std::{fs, path::PathBuf, time::Duration};

use reqwest::StatusCode;
use serde_json::json;
use tenon_tests::{Client, TlsClient, chat, metric_in, whole};

use super::{CHAT, KEYS, LIMITED, PAUSE, Soak, add};

/// Requests over one connection of HTTP/2.
const SHARING: usize = 20;
const SCRAPE: Duration = Duration::from_secs(1);

/// The addresses beside the one for clients.
pub struct Operating {
    /// The address that speaks TLS.
    pub tls_address: String,
    pub tls: TlsClient,
    /// The client of the address for administration.
    pub admin: Client,
    pub config: PathBuf,
}

impl Soak {
    pub async fn operate(&self, operating: &Operating) {
        tokio::join!(
            self.over_tls(operating),
            self.scrapes(operating),
            self.beyond_limits(),
            self.reloads(operating),
        );
    }

    /// Asks over connections of HTTP/2, each for some requests. Every third answer is given up.
    async fn over_tls(&self, operating: &Operating) {
        while self.goes_on() {
            let connection = operating.tls.open(&operating.tls_address).await;
            let mut connection = connection.expect("a connection");
            assert!(connection.is_http2());
            for number in 0..SHARING {
                if !self.goes_on() {
                    return;
                }
                let fields = json!({"model": "chat", "max_tokens": 8, "stream": number % 2 == 0});
                let body = chat("Name a colour.", fields).to_string();
                let answer = connection.send_as(KEYS[0], CHAT, &body).await;
                let answer = answer.expect("an answer");
                let status = answer.status().as_u16();
                if number % 3 == 0 {
                    add(&self.counts.cancelled);
                    continue;
                }
                whole(answer).await.expect("a body");
                self.counts
                    .count(StatusCode::from_u16(status).expect("a status"));
            }
        }
    }

    /// Reads the metrics and the status page.
    async fn scrapes(&self, operating: &Operating) {
        while self.goes_on() {
            for path in ["/metrics", "/status"] {
                let page = operating.admin.get_text(path).await;
                assert!(page.contains("chat"), "{path}: {page}");
            }
            let page = operating.admin.get_text("/metrics").await;
            assert!(
                metric_in(&page, "tenon_worker_resident_bytes") > 0.0,
                "{page}"
            );
            tokio::time::sleep(SCRAPE).await;
        }
    }

    /// Sends requests with a key that has low limits.
    async fn beyond_limits(&self) {
        let client = self.client.with_key(LIMITED);
        while self.goes_on() {
            let body = chat("Hi", json!({"model": "chat", "max_tokens": 2}));
            let (status, answer) = client.post(CHAT, &body).await;
            match status {
                StatusCode::TOO_MANY_REQUESTS => add(&self.counts.limited),
                status => {
                    assert!(status.is_success(), "{answer}");
                    self.counts.count(status);
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Changes the configuration: adds and removes a model that is loaded on demand, and a key.
    async fn reloads(&self, operating: &Operating) {
        let before = fs::read_to_string(&operating.config).expect("the configuration");
        let more = "[[models]]\nid = 'more'\npath = 'more.gguf'\nload = 'on-demand'\n\
                    [[keys]]\nname = 'more'\nkey = 'soak-more'\n";
        for number in 0.. {
            tokio::time::sleep(PAUSE).await;
            let is_over = !self.goes_on();
            let config = match number % 2 == 0 && !is_over {
                true => format!("{before}{more}"),
                false => before.clone(),
            };
            fs::write(&operating.config, config).expect("written");
            let admin = &operating.admin;
            let (status, answer) = admin.post("/admin/config/reload", &json!({})).await;
            assert!(status.is_success(), "{answer}");
            if is_over {
                return;
            }
            add(&self.counts.reloads);
        }
    }
}
