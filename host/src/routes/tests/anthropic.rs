use super::*;

const MESSAGES: &str = "/v1/messages";
const COUNT_TOKENS: &str = "/v1/messages/count_tokens";

/// The type and the message of an error in Anthropic's form.
#[track_caller]
fn error(answer: &Answer) -> (String, String) {
    let mut envelope = answer.json();
    let keys: Vec<_> = envelope.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["type", "error", "request_id"]);
    assert_eq!(envelope["type"], "error");
    let id = answer.headers["request-id"].to_str().unwrap();
    assert_eq!(envelope["request_id"], id);
    assert_eq!(answer.headers["x-request-id"], id);
    let error = envelope["error"].take();
    assert_eq!(error.as_object().unwrap().len(), 2, "{error}");
    let text = |key: &str| error[key].as_str().unwrap().to_owned();
    (text("type"), text("message"))
}

#[tokio::test]
async fn every_error_at_anthropic_s_paths_has_its_form() {
    let app = || app_with_keys(&["k"]);
    let with_key = |request: axum::http::request::Builder| request.header("x-api-key", "k");
    let body = json!({"model": "nope", "max_tokens": 1, "messages": []}).to_string();
    for (request, body, status, kind) in [
        (post_json(MESSAGES), "{}", 401, "authentication_error"),
        (
            with_key(post_json(MESSAGES)),
            "{",
            400,
            "invalid_request_error",
        ),
        (
            with_key(Request::post(MESSAGES)),
            "{}",
            415,
            "invalid_request_error",
        ),
        (with_key(post_json(MESSAGES)), &body, 404, "not_found_error"),
        (
            with_key(post_json(COUNT_TOKENS)),
            &body,
            404,
            "not_found_error",
        ),
        (
            with_key(Request::get(MESSAGES)),
            "",
            405,
            "invalid_request_error",
        ),
        (
            with_key(Request::get("/v1/messages/nope")),
            "",
            404,
            "not_found_error",
        ),
    ] {
        let answer = send(router(app()), request, body.to_owned()).await;
        let (found, message) = error(&answer);
        assert_eq!(
            (answer.status.as_u16(), &*found),
            (status, kind),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_model_that_is_loading_is_overloaded() {
    let body = json!({"max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]});
    for path in [MESSAGES, COUNT_TOKENS] {
        let answer = post_body(path, body.to_string()).await;
        assert_eq!(answer.status.as_u16(), 529);
        assert_eq!(answer.headers["retry-after"], "5");
        assert_eq!(error(&answer).0, "overloaded_error");
    }
}

#[tokio::test]
async fn wrong_fields_are_named() {
    let block =
        |block: Value| json!([{"role": "user", "content": [{"type": "text", "text": "a"}, block]}]);
    for (key, value, message) in [
        (
            "messages",
            json!(null),
            "'messages' must be a list, not null",
        ),
        (
            "max_tokens",
            json!(null),
            "'max_tokens' must be a whole number from 0 on, not null",
        ),
        (
            "max_tokens",
            json!(-1),
            "'max_tokens' must be a whole number from 0 on",
        ),
        (
            "messages",
            json!([{"role": "user", "content": 1}]),
            "'messages[0].content' must be a string or a list of blocks",
        ),
        (
            "messages",
            block(json!({"type": "tool_use", "id": "x", "name": "f"})),
            "'messages[0].content[1].input' is missing",
        ),
        (
            "messages",
            block(json!({"text": "b"})),
            "'messages[0].content[1].type' is missing",
        ),
        (
            "system",
            json!([{"text": "b"}]),
            "'system[0].type' is missing",
        ),
        (
            "thinking",
            json!({"type": "always"}),
            "'thinking.type' must be one of `enabled`, `adaptive`, `disabled`, `between_tools`, not `always`",
        ),
        (
            "messages",
            block(json!({"type": "search_result", "source": "s", "title": "t", "content": []})),
            "'messages[0].content[1]' is of type 'search_result', which this server does not take",
        ),
        (
            "tools",
            json!([{"name": "f"}]),
            "'tools[0].input_schema' is missing",
        ),
        (
            "tools",
            json!([{"type": "bash_20250124", "name": "bash"}]),
            "'tools[0]' is of type",
        ),
        (
            "container",
            json!("x"),
            "'container' is not supported by this server",
        ),
    ] {
        let mut body = json!({"max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]});
        body[key] = value;
        let answer = post_body(MESSAGES, body.to_string()).await;
        let (_, found) = error(&answer);
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert!(found.starts_with(message), "{found}");
    }
}

/// What Claude Code sends besides its conversation.
#[tokio::test]
async fn what_agents_always_send_is_read() {
    let cached = json!({"type": "ephemeral"});
    let text = json!({"type": "text", "text": "Hi", "cache_control": cached});
    let body = json!({
        "model": "", "max_tokens": 64000, "stream": true, "temperature": 1,
        "system": [text],
        "messages": [
            {"role": "user", "content": [text]},
            {"role": "system", "content": "Be brief."},
        ],
        "tools": [{
            "name": "Read", "description": "d", "input_schema": {"type": "object"}, "cache_control": cached,
            "eager_input_streaming": true,
        }],
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "high"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "metadata": {"user_id": "me"},
        "betas": ["x"],
    });
    let request = post_json("/v1/messages?beta=true").header("anthropic-beta", "a,b");
    let answer = send(router(app()), request, body.to_string()).await;
    assert_eq!(error(&answer).0, "overloaded_error");
}
