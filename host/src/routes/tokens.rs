use crate::error::ApiError;

/// Checks that the model has all these tokens. `param` is where they stand in the request.
pub fn check(param: &str, tokens: &[u32], vocab_size: u32) -> Result<(), ApiError> {
    let Some(token) = tokens.iter().find(|&&token| token >= vocab_size) else {
        return Ok(());
    };
    let last = vocab_size.saturating_sub(1);
    let message = format!("'{param}' has the token {token}; the model's go from 0 to {last}");
    Err(ApiError::invalid_parameter(param, message))
}
