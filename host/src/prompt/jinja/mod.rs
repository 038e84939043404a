//! Jinja2 on minijinja, because chat templates are written for Jinja2.
//!
//! [`prepare`] rewrites a template's source so that minijinja reads it as Jinja2 does. [`extend`] adds what Jinja2, Python
//! and Hugging Face transformers have beyond minijinja. `expressions.json` lists the result of each expression.

mod errors;
mod filters;
mod functions;
pub(super) mod json;
mod lists;
mod source;
mod strings;
mod tests_of_values;

#[cfg(test)]
mod tests;

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, Output, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

pub(super) use functions::Raised;
pub(super) use source::{prepare, syntax};

/// Adds functions, filters, tests and methods to an environment.
pub(super) fn extend(environment: &mut Environment<'static>) {
    functions::add(environment);
    filters::add(environment);
    tests_of_values::add(environment);
    environment.set_unknown_method_callback(call_method);
    environment.set_formatter(write_value);
}

fn call_method(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let own = match value.kind() {
        ValueKind::String => strings::call(state, value, method, args),
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => lists::call(value, method, args),
        _ => None,
    };
    own.unwrap_or_else(|| unknown_method_callback(state, value, method, args))
}

/// Writes a value. Floats are written like Python's `repr`.
fn write_value(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    match f64::try_from(value.clone()) {
        Ok(number) if value.is_number() && !value.is_integer() => {
            Ok(out.write_str(&json::float(number))?)
        }
        _ => minijinja::escape_formatter(out, state, value),
    }
}
