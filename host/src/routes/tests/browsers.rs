//! Tests of what web pages may do.

use super::*;

const PAGE: &str = "https://chat.example.com";

async fn preflight(app: Arc<App>, origin: &str) -> Answer {
    let request = Request::builder()
        .method(Method::OPTIONS)
        .uri(CHAT)
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "authorization,content-type,x-stainless-os",
        );
    send(router(app), request, Body::empty()).await
}

#[tokio::test]
async fn a_page_that_is_allowed_learns_so_without_a_key() {
    let answer = preflight(app_with_keys(&["one"]), PAGE).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert_eq!(answer.headers["access-control-allow-origin"], PAGE);
    assert_eq!(answer.headers["vary"], "origin");
    let methods = answer.headers["access-control-allow-methods"]
        .to_str()
        .unwrap();
    assert!(methods.contains("POST"), "{methods}");
    assert_eq!(
        answer.headers["access-control-allow-headers"],
        "authorization,content-type,x-stainless-os"
    );
}

#[tokio::test]
async fn its_answers_say_so_too_errors_included() {
    for (path, keys) in [
        ("/v1/models", &[][..]),
        ("/v1/models", &["one"]),
        ("/nope", &[]),
    ] {
        let request = Request::get(path).header("origin", PAGE);
        let answer = send(router(app_with_keys(keys)), request, Body::empty()).await;
        assert_eq!(answer.headers["access-control-allow-origin"], PAGE);
        let exposed = answer.headers["access-control-expose-headers"].to_str();
        let exposed: Vec<_> = exposed.unwrap().split(", ").collect();
        for name in ["x-request-id", "retry-after", "x-ratelimit-reset-tokens"] {
            assert!(exposed.contains(&name), "{exposed:?}");
        }
    }
}

#[tokio::test]
async fn other_pages_get_no_such_headers() {
    for origin in ["https://evil.example", "http://chat.example.com", "null"] {
        let answer = preflight(app(), origin).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
        let request = Request::get("/v1/models").header("origin", origin);
        let answer = send(router(app()), request, Body::empty()).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
}

#[tokio::test]
async fn a_foreign_name_is_refused_with_what_to_do() {
    for (host, expected) in [
        ("evil.example:8080", StatusCode::FORBIDDEN),
        ("llm.example.com", StatusCode::OK),
        ("127.0.0.1:8080", StatusCode::OK),
    ] {
        let request = Request::get("/v1/models").header("host", host);
        let answer = send(router(app()), request, Body::empty()).await;
        assert_eq!(answer.status, expected, "{host}");
        if expected == StatusCode::FORBIDDEN {
            assert_eq!(answer.error()["code"], "unknown_host");
            let message = answer.error()["message"].to_string();
            assert!(message.contains("allowed_hosts"), "{message}");
        }
    }
    let request = Request::get("/v1/models").header("host", "x".repeat(5000) + ".example");
    let answer = send(router(app()), request, Body::empty()).await;
    assert!(answer.body.len() < 1000);
}
