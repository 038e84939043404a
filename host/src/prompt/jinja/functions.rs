//! Functions that Jinja2 and Hugging Face transformers give to chat templates, and the filter `tojson`.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use jiff::Zoned;
use jiff::fmt::strtime::{BrokenDownTime, Config};
use minijinja::value::{Kwargs, Object, ObjectRepr, Rest, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::globals::joiner;

use super::errors::{invalid, pay_for};
use super::json::{JsonLayout, dumps};

/// The message that a template passed to `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Raised(pub String);

/// Adds the functions.
pub fn add(environment: &mut Environment<'static>) {
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_function("dict", dict);
    environment.add_function("joiner", joiner);
    environment.add_function("cycler", cycler);
}

fn raise_exception(message: String) -> Result<Value, Error> {
    let error = Error::new(ErrorKind::InvalidOperation, "raise_exception was called");
    Err(error.with_source(Raised(message)))
}

fn strftime_now(format: &str) -> Result<String, Error> {
    BrokenDownTime::from(&Zoned::now())
        .to_string_with_config(&Config::new().lenient(true), format)
        .map_err(|error| invalid(format!("strftime_now cannot write {format:?}: {error}")))
}

/// Makes a dict. Unlike minijinja's function, it also takes a list of pairs.
fn dict(from: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let from = from.unwrap_or_else(|| Value::from(Vec::<Value>::new()));
    let pair = |item: Value| match from.kind() {
        ValueKind::Map => from.get_item(&item).map(|value| (item, value)),
        _ => Ok((item.get_item_by_index(0)?, item.get_item_by_index(1)?)),
    };
    let named = kwargs
        .args()
        .map(|name| Ok((name.into(), kwargs.get(name)?)));
    from.try_iter()?
        .map(pair)
        .chain(named)
        .collect::<Result<Vec<_>, _>>()
        .map(Value::from_pairs)
}

/// Values that repeat in turn. `next()` goes on to the next value, `current` reads it, and `reset()` starts again.
#[derive(Debug)]
struct Cycler {
    items: Vec<Value>,
    place: AtomicUsize,
}

fn cycler(Rest(items): Rest<Value>) -> Result<Value, Error> {
    match items.is_empty() {
        true => Err(invalid("cycler: at least one item has to be given")),
        false => Ok(Value::from_object(Cycler {
            items,
            place: AtomicUsize::new(0),
        })),
    }
}

impl Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let place = self.place.load(Relaxed) % self.items.len();
        (key.as_str() == Some("current")).then(|| self.items[place].clone())
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        let () = from_args(args)?;
        match method {
            "next" => {
                let place = self.place.fetch_add(1, Relaxed) % self.items.len();
                Ok(self.items[place].clone())
            }
            "reset" => {
                self.place.store(0, Relaxed);
                Ok(().into())
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// `json.dumps` with the arguments of Hugging Face's `tojson`. Unlike minijinja's filter, it does not escape for HTML.
pub fn tojson(
    state: &State,
    value: &Value,
    ensure_ascii: Option<bool>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let mut layout = JsonLayout::new(indentation(state, &kwargs)?);
    if let Some(separators) = kwargs.get::<Option<Vec<String>>>("separators")? {
        let [item, key] = <[String; 2]>::try_from(separators)
            .map_err(|_| invalid("tojson: separators must be two strings"))?;
        (layout.item_separator, layout.key_separator) = (item, key);
    }
    let named = kwargs.get::<Option<bool>>("ensure_ascii")?;
    layout.ensure_ascii = ensure_ascii.or(named).unwrap_or(false);
    let mut json =
        serde_json::to_value(value).map_err(|error| invalid(format!("tojson: {error}")))?;
    if kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false) {
        json.sort_all_objects();
    }
    kwargs.assert_all_used()?;
    dumps(&json, &layout).map_err(|error| invalid(format!("tojson: {error}")))
}

/// The indentation: a text, or a number of spaces.
fn indentation(state: &State, kwargs: &Kwargs) -> Result<Option<String>, Error> {
    let indent: Option<Value> = kwargs.get("indent")?;
    let Some(indent) = indent.filter(|indent| !indent.is_none()) else {
        return Ok(None);
    };
    if let Some(text) = indent.as_str() {
        return Ok(Some(text.to_owned()));
    }
    let spaces = usize::try_from(indent)?;
    pay_for(state, spaces)?;
    Ok(Some(" ".repeat(spaces)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tojson_refuses_what_it_does_not_do() {
        let mut environment = Environment::new();
        crate::prompt::jinja::extend(&mut environment);
        for source in [
            "{{ [1]|tojson(indent=2000000000) }}",
            "{{ [1]|tojson(indent=100000000) }}",
            "{{ 1|tojson(separators=[',']) }}",
            "{{ 1|tojson(nope=1) }}",
        ] {
            assert!(environment.render_str(source, ()).is_err(), "{source}");
        }
    }

    #[test]
    fn strftime_now_writes_python_formats() {
        let mut environment = Environment::new();
        crate::prompt::jinja::extend(&mut environment);
        let text = environment
            .render_str(
                "{{ strftime_now('%d %b %Y|%-d %B|%A %H:%M:%S|%j %%') }}",
                (),
            )
            .unwrap();
        let read = BrokenDownTime::parse("%d %b %Y|%d %B|%A %H:%M:%S|%j %%", &text).unwrap();
        let age = Zoned::now()
            .datetime()
            .date()
            .since(read.to_date().unwrap())
            .unwrap();
        assert!(age.get_days().abs() <= 1 && age.get_months() == 0, "{text}");
    }
}
