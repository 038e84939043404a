//! Which requests may administer.

use std::time::Duration;

use super::*;
use crate::connections::Peer;

const MODELS: &str = "/admin/models";
const PLUGINS: &str = "/admin/plugins";
const REQUANTIZE: &str = "/re_isq";

/// A configuration with an API key `api` and an admin key `admin`.
fn config() -> config::Config {
    let mut config = config_with_keys(&[]);
    config.keys = keys_of(&["api"], &["admin"]);
    config.server.requantize_needs_admin_key = true;
    config
}

/// The answer to a request with a key, from an address.
async fn ask(config: &config::Config, path: &str, key: Option<&str>, peer: &str) -> Answer {
    let request = match path {
        REQUANTIZE => post_json(path),
        _ => Request::get(path),
    };
    let request = match key {
        Some(key) => request.header("x-api-key", key),
        None => request,
    };
    let request = request.extension(Peer::Address(peer.parse().unwrap()));
    send(router(Arc::new(app_of(config.clone()))), request, "{}").await
}

#[tokio::test]
async fn administration_needs_an_admin_key_where_there_are_any() {
    let config = config();
    for peer in ["127.0.0.1:9", "192.0.2.1:9"] {
        for path in [MODELS, PLUGINS, REQUANTIZE] {
            for key in [None, Some("wrong")] {
                let answer = ask(&config, path, key, peer).await;
                assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
                assert_eq!(answer.error()["code"], "invalid_api_key");
            }
            let answer = ask(&config, path, Some("api"), peer).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
            assert_eq!(answer.error()["code"], "admin_key_needed");
        }
        for path in [MODELS, PLUGINS] {
            let answer = ask(&config, path, Some("admin"), peer).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}");
        }
        // The body has no level.
        let answer = ask(&config, REQUANTIZE, Some("admin"), peer).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn an_admin_key_opens_everything() {
    let answer = ask(&config(), "/v1/models", Some("admin"), "192.0.2.1:9").await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn requantizing_can_stay_open_to_clients() {
    let mut config = config();
    config.server.requantize_needs_admin_key = false;
    let answer = ask(&config, REQUANTIZE, Some("api"), "192.0.2.1:9").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn without_admin_keys_only_this_machine_may_administer() {
    for (keys, key) in [(&[][..], None), (&["api"][..], Some("api"))] {
        let config = config_with_keys(keys);
        for path in [MODELS, PLUGINS] {
            let answer = ask(&config, path, key, "127.0.0.1:9").await;
            assert_eq!(answer.status, StatusCode::OK, "{path}");
            let answer = ask(&config, path, key, "192.0.2.1:9").await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
            assert_eq!(answer.error()["code"], "admin_is_local");
        }
    }
    let answer = ask(&config_with_keys(&["api"]), MODELS, None, "127.0.0.1:9").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_drain_begins_once_and_takes_work_until_its_delay_is_over() {
    let mut config = config();
    config.server.drain_delay = Duration::from_secs(7);
    config.server.drain_timeout = Duration::from_secs(9);
    let app = Arc::new(app_of(config));
    let ask = async |key: &'static str| {
        let request = Request::post("/admin/drain").header("x-api-key", key);
        send(router(app.clone()), request, "").await
    };
    assert_eq!(ask("api").await.status, StatusCode::FORBIDDEN);
    assert!(!app.stopping.is_cancelled());
    for begun in [true, false] {
        let answer = ask("admin").await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
        assert_eq!(
            answer.json(),
            json!({"object": "admin.drain", "begun": begun, "drain_delay_secs": 7, "drain_timeout_secs": 9})
        );
        assert!(app.stopping.is_cancelled() && !app.draining.is_cancelled());
    }
}
