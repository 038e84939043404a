use std::collections::BTreeSet;

use super::*;

#[tokio::test]
async fn the_page_is_swagger_ui() {
    let page = get_path("/docs").await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    let html = String::from_utf8(page.body).unwrap();
    let links: Vec<_> = html.split("=\"docs/").skip(1).collect();
    assert_eq!(links.len(), 3, "{html}");
    for link in links {
        let name = link.split('"').next().unwrap();
        let asset = get_path(&format!("/docs/{name}")).await;
        assert_eq!(asset.status, StatusCode::OK, "{name}");
        assert!(asset.body.len() > 100, "{name}");
    }
    let script = get_path("/docs/swagger-ui-bundle.js").await;
    assert_eq!(script.headers["content-type"], "text/javascript");
}

#[tokio::test]
async fn a_missing_file_gets_the_envelope() {
    for path in ["/docs/nope.js", "/docs/", "/docs/../Cargo.toml"] {
        let answer = get_path(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(answer.error()["code"], "unknown_url");
    }
    for path in ["/docs/%FF", "/v1/models/%FF"] {
        let answer = get_path(path).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        answer.error();
    }
}

#[test]
fn every_route_is_documented_and_no_other() {
    let (routes, document) = routes().split_for_parts();
    // Only the router's debug text lists its paths.
    let routes = format!("{routes:?}");
    let routed: BTreeSet<_> = routes
        .split('"')
        .filter(|text| text.starts_with('/') && !text.contains("axum_fallback"))
        .collect();
    let documented: BTreeSet<_> = document.paths.paths.keys().map(String::as_str).collect();
    assert_eq!(routed, documented);
}

/// The operations of the document: method, path and description.
async fn operations() -> Vec<(String, String, Value)> {
    let answer = get_path("/openapi.json").await;
    let document: Value = serde_json::from_slice(&answer.body).unwrap();
    let mut all = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let path = path.replace("{name}", "alias");
            let path = path.replace("{file}", "swagger-ui.css");
            let path = path.replace("{asset}", "app.js");
            let path = path.replace("{response_id}", "resp_1");
            all.push((method.to_ascii_uppercase(), path, operation.clone()));
        }
    }
    all
}

#[tokio::test]
async fn every_operation_of_the_document_exists() {
    for (method, path, operation) in operations().await {
        let request = Request::builder().method(method.as_str()).uri(&path);
        let answer = send(router(app()), request, Body::empty()).await;
        let responses = operation["responses"].as_object().unwrap();
        assert!(
            responses.contains_key(answer.status.as_str()),
            "{method} {path}: {}",
            answer.status
        );
        // There may be no such response, but there is such a path.
        if answer.status == StatusCode::NOT_FOUND {
            assert_eq!(answer.error()["code"], "response_not_found", "{path}");
        }
    }
}

#[tokio::test]
async fn the_document_says_what_needs_a_key() {
    for (method, path, operation) in operations().await {
        let request = Request::builder().method(method.as_str()).uri(&path);
        let answer = send(router(app_with_keys(&["k"])), request, Body::empty()).await;
        let needs_key = answer.status == StatusCode::UNAUTHORIZED;
        assert_eq!(
            needs_key,
            !operation["responses"]["401"].is_null(),
            "{path}"
        );
        // An operation without its own entry has that of the whole document.
        assert_eq!(needs_key, operation["security"].is_null(), "{path}");
    }
    for path in ["/docs", "/docs/swagger-ui.css", "/openapi.json"] {
        let router = router(app_with_keys(&["k"]));
        let answer = send(router, Request::get(path), Body::empty()).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn every_example_is_a_request_that_can_be_read() {
    let mut count = 0;
    for (_, path, operation) in operations().await {
        let content = &operation["requestBody"]["content"]["application/json"];
        for (name, example) in content["examples"].as_object().into_iter().flatten() {
            let answer = post_body(&path, example["value"].to_string()).await;
            count += 1;
            // The request is valid if only the state of the test's models keeps it from being answered.
            if path.starts_with("/v1/messages") {
                assert_eq!(answer.json()["error"]["type"], "overloaded_error");
                continue;
            }
            let expected = match example["value"]["model"].as_str() {
                None | Some("") => "model_loading",
                Some(_) => "model_not_found",
            };
            assert_eq!(answer.error()["code"], expected, "{path}: {name}");
        }
    }
    assert!(count >= 4, "only {count} examples");
}
