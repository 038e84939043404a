//! Jinja2 filters that minijinja lacks or implements differently.

use minijinja::value::{ArgType, Kwargs, Rest};
use minijinja::{Environment, Error, State, Value, filters};
use minijinja_contrib::filters::{filesizeformat, striptags};

use super::errors::{invalid, pay_for};
use super::{functions::tojson, strings};

/// Name of the filter that implements the operator `%`.
pub const PERCENT: &str = "python_percent";

pub fn add(environment: &mut Environment<'static>) {
    environment.add_filter(PERCENT, percent);
    environment.add_filter("tojson", tojson);
    environment.add_filter("wordcount", wordcount);
    environment.add_filter("truncate", truncate);
    environment.add_filter("center", center);
    environment.add_filter("indent", indent);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("escape", escape);
    environment.add_filter("e", escape);
    environment.add_filter("filesizeformat", filesizeformat);
    environment.add_filter("striptags", striptags);
}

/// Python's `%`. For a text it formats; for numbers it is the remainder with the sign of the divisor.
fn percent(state: &mut State, left: Value, right: Value) -> Result<Value, Error> {
    if left.as_str().is_some() {
        let right = match right.is_tuple() {
            true => right.try_iter()?.collect(),
            false => vec![right],
        };
        let args: Vec<Value> = [left].into_iter().chain(right).collect();
        return state.apply_filter("format", &args);
    }
    match (left.as_i64(), right.as_i64()) {
        (Some(a), Some(b)) if b != 0 && left.is_integer() && right.is_integer() => {
            let remainder = a.wrapping_rem(b);
            let differs = remainder != 0 && (remainder < 0) != (b < 0);
            Ok((if differs { remainder + b } else { remainder }).into())
        }
        _ => {
            let (a, b) = (f64::try_from(left)?, f64::try_from(right)?);
            let remainder = a % b;
            let differs = remainder != 0.0 && (remainder < 0.0) != (b < 0.0);
            match b {
                0.0 => Err(invalid("% by zero")),
                _ => Ok((if differs { remainder + b } else { remainder }).into()),
            }
        }
    }
}

/// Escapes for HTML. minijinja's filter also escapes `/`.
fn escape(value: &Value) -> Value {
    let text = value.to_string();
    if value.is_safe() {
        return value.clone();
    }
    let escaped = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    Value::from_safe_string(escaped.replace('\'', "&#39;").replace('"', "&#34;"))
}

/// Counts runs of letters, digits and `_`.
fn wordcount(text: &str) -> usize {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.split(|c| !is_word(c))
        .filter(|word| !word.is_empty())
        .count()
}

fn truncate(text: &str, args: Rest<Value>, kwargs: Kwargs) -> Result<String, Error> {
    let args = FilterArguments {
        args: &args,
        kwargs,
    };
    let length = args.get::<usize>(0, "length")?.unwrap_or(255);
    let killwords = args.get::<bool>(1, "killwords")?.unwrap_or(false);
    let end = args.get::<String>(2, "end")?.unwrap_or("...".to_owned());
    let leeway = args.get::<usize>(3, "leeway")?.unwrap_or(5);
    args.kwargs.assert_all_used()?;
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text.to_owned());
    }
    let kept = length.checked_sub(end.chars().count());
    let kept = kept.ok_or_else(|| invalid("truncate: the length is below that of the end"))?;
    let kept: String = text.chars().take(kept).collect();
    let kept = match kept.rsplit_once(' ') {
        Some((words, _)) if !killwords => words,
        _ => &kept,
    };
    Ok(format!("{kept}{end}"))
}

fn center(state: &State, text: &str, width: Option<usize>) -> Result<String, Error> {
    let width = width.unwrap_or(80);
    pay_for(state, width)?;
    Ok(strings::center(text, width, ' '))
}

/// Indents lines. minijinja's filter takes only a number of spaces.
fn indent(state: &State, text: &str, args: Rest<Value>, kwargs: Kwargs) -> Result<String, Error> {
    let args = FilterArguments {
        args: &args,
        kwargs,
    };
    let width = args.get::<Value>(0, "width")?;
    let first = args.get::<bool>(1, "first")?.unwrap_or(false);
    let blank = args.get::<bool>(2, "blank")?.unwrap_or(false);
    args.kwargs.assert_all_used()?;
    let width = match width {
        None => " ".repeat(4),
        Some(width) => match width.as_str() {
            Some(text) => text.to_owned(),
            None => spaces(state, usize::try_from(width)?)?,
        },
    };
    let lines = text.split('\n').count();
    pay_for(state, width.len().saturating_mul(lines))?;
    let indented = text.split('\n').enumerate().map(|(index, line)| {
        let is_indented = if index == 0 {
            first
        } else {
            blank || !line.is_empty()
        };
        format!("{}{line}", if is_indented { &width } else { "" })
    });
    Ok(indented.collect::<Vec<_>>().join("\n"))
}

fn spaces(state: &State, count: usize) -> Result<String, Error> {
    pay_for(state, count)?;
    Ok(" ".repeat(count))
}

/// Converts to an integer. minijinja's filter fails without a default; Jinja2's default is 0.
fn int(
    state: &State,
    value: &Value,
    default: Option<Value>,
    base: Option<u32>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let default = match default {
        None if !kwargs.has("default") => Some(0.into()),
        default => default,
    };
    filters::int(state, value, default, base, kwargs)
}

fn float(
    state: &State,
    value: &Value,
    default: Option<Value>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let default = match default {
        None if !kwargs.has("default") => Some(0.0.into()),
        default => default,
    };
    filters::float(state, value, default, kwargs)
}

/// Arguments that may be given by position or by name.
struct FilterArguments<'a> {
    args: &'a [Value],
    kwargs: Kwargs,
}

impl FilterArguments<'_> {
    fn get<T>(&self, place: usize, name: &str) -> Result<Option<T>, Error>
    where
        T: for<'a> ArgType<'a, Output = T>,
    {
        let value = match self.args.get(place) {
            Some(value) => Some(value.clone()),
            None => self.kwargs.get::<Option<Value>>(name)?,
        };
        value.map(|value| T::from_value(Some(&value))).transpose()
    }
}
