use axum::extract::Request;
use tower_http::request_id::RequestId;

/// The id of a request: the client's, or one that the server gave it. None if the id is not text.
pub fn request_id(request: &Request) -> Option<&str> {
    let id: &RequestId = request.extensions().get()?;
    id.header_value().to_str().ok()
}
