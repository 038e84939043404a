//! Errors and limits of filters, functions and methods.

use minijinja::{Error, ErrorKind, State};

use super::json;

pub fn invalid(detail: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail)
}

/// Consumes the fuel for a text before it is made. A template that asks for gigabytes fails, and the server does not.
pub fn pay_for(state: &State, bytes: usize) -> Result<(), Error> {
    const BYTES_PER_FUEL: usize = 64;
    if bytes > json::MAX_BYTES {
        return Err(invalid("a text is longer than 64 MiB"));
    }
    state.consume_fuel((bytes / BYTES_PER_FUEL) as u64)
}
