use crate::error::ApiError;

/// Runs blocking work on a thread of its own, where it does not hold up other requests.
pub async fn blocking<T: Send + 'static, E: Into<ApiError> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Into::into),
        Err(error) => Err(ApiError::internal(format!(
            "work on a request could not be finished: {error}"
        ))),
    }
}
