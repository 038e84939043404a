//! Checks of single parameters.

use std::{fmt::Display, ops::RangeInclusive};

use serde_json::Value;

use crate::error::ApiError;

/// A known parameter that this server does not implement: its name, its harmless values as compact JSON, and what to do
/// instead. null is always harmless.
pub type Unsupported = (&'static str, &'static [&'static str], &'static str);

/// Refuses the parameters of a table that this server does not implement.
pub fn supported(fields: &Value, table: &[Unsupported]) -> Result<(), ApiError> {
    for (name, harmless, instead) in table {
        let value = &fields[name];
        if !value.is_null() && !harmless.contains(&value.to_string().as_str()) {
            let message = format!("'{name}' is not supported by this server: {instead}");
            return Err(ApiError::unsupported(*name, message));
        }
    }
    Ok(())
}

/// Checks that all tokens are in the model's vocabulary. `param` is the place of the tokens in the request.
pub fn tokens(param: &str, tokens: &[u32], vocab_size: u32) -> Result<(), ApiError> {
    let Some(token) = tokens.iter().find(|&&token| token >= vocab_size) else {
        return Ok(());
    };
    let last = vocab_size.saturating_sub(1);
    let message = format!("'{param}' has the token {token}; the model's go from 0 to {last}");
    Err(ApiError::invalid_parameter(param, message))
}

/// Checks that no string is empty.
pub fn no_empty(param: &str, strings: &[String]) -> Result<(), ApiError> {
    match strings.iter().any(String::is_empty) {
        true => {
            let message = format!("'{param}' has an empty string: leave it out");
            Err(ApiError::invalid_parameter(param, message))
        }
        false => Ok(()),
    }
}

/// Checks the length of a list that must not be empty.
pub fn count(name: &str, count: usize, most: usize) -> Result<(), ApiError> {
    match count {
        0 => {
            let message = format!("'{name}' is empty: send at least one");
            Err(ApiError::invalid_parameter(name, message))
        }
        count if count > most => {
            let message = format!("'{name}' may have up to {most} texts, not {count}");
            Err(ApiError::invalid_parameter(name, message))
        }
        _ => Ok(()),
    }
}

/// Checks that a value is in a range.
pub fn within<T: PartialOrd + Display>(
    name: &str,
    value: Option<T>,
    range: RangeInclusive<T>,
) -> Result<Option<T>, ApiError> {
    match value {
        Some(value) if !range.contains(&value) => {
            let (min, max) = range.into_inner();
            let message = format!("'{name}' must be from {min} to {max}, not {value}");
            Err(ApiError::invalid_parameter(name, message))
        }
        value => Ok(value),
    }
}
