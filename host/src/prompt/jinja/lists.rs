//! Methods of Python's list and dict that minijinja-contrib lacks.

use minijinja::value::{ValueKind, from_args};
use minijinja::{Error, Value};

use super::errors::invalid;

/// Calls a method. None if it is not implemented here.
pub fn call(value: &Value, method: &str, args: &[Value]) -> Option<Result<Value, Error>> {
    match (method, value.kind()) {
        ("index", ValueKind::Seq | ValueKind::Iterable) => Some(index(value, args)),
        ("copy", _) => Some(from_args::<()>(args).map(|()| value.clone())),
        _ => None,
    }
}

fn index(list: &Value, args: &[Value]) -> Result<Value, Error> {
    let (item,): (&Value,) = from_args(args)?;
    let at = list.try_iter()?.position(|other| other == *item);
    at.map(Value::from)
        .ok_or_else(|| invalid(format!("{item} is not in the list")))
}
