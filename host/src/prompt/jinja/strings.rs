//! Methods of Python's str that minijinja-contrib lacks or implements differently.

use minijinja::value::{Kwargs, Tuple, from_args};
use minijinja::{Error, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::errors::{invalid, pay_for};

/// Calls a method. None if it is not implemented here.
pub fn call(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Option<Result<Value, Error>> {
    let text = value.as_str()?;
    let result = match method {
        "split" | "rsplit" => split(text, args, method == "rsplit"),
        "splitlines" => splitlines(text, args),
        "partition" | "rpartition" => partition(text, args, method == "rpartition"),
        "find" | "rfind" | "index" | "rindex" | "count" => search(text, method, args),
        "startswith" | "endswith" if args.len() > 1 => {
            let range = SearchRange::of(text, args);
            range.and_then(|range| {
                unknown_method_callback(state, &range.text.into(), method, &args[..1])
            })
        }
        "removeprefix" | "removesuffix" => remove(text, args, method == "removesuffix"),
        "center" | "ljust" | "rjust" => justify(state, text, method, args),
        "zfill" => zfill(state, text, args),
        "expandtabs" => expandtabs(state, text, args),
        "format" => format(state, value, args),
        "format_map" => format_map(state, value, args),
        "title" => changed(args, || title(text)),
        "swapcase" => changed(args, || text.chars().map(swap_case).collect()),
        "casefold" => changed(args, || text.to_lowercase().replace('ß', "ss")),
        "istitle" => asked(args, || {
            text.chars().any(char::is_uppercase) && title(text) == text
        }),
        "isdecimal" | "isdigit" => asked(args, || {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_digit())
        }),
        "isidentifier" => asked(args, || is_identifier(text)),
        "isprintable" => asked(args, || !text.chars().any(char::is_control)),
        _ => return None,
    };
    Some(result)
}

fn changed(args: &[Value], change: impl FnOnce() -> String) -> Result<Value, Error> {
    from_args::<()>(args).map(|()| change().into())
}

fn asked(args: &[Value], ask: impl FnOnce() -> bool) -> Result<Value, Error> {
    from_args::<()>(args).map(|()| ask().into())
}

fn split(text: &str, args: &[Value], from_end: bool) -> Result<Value, Error> {
    let (separator, most, kwargs): (Option<&str>, Option<i64>, Kwargs) = from_args(args)?;
    let separator = match separator {
        Some(separator) => Some(separator),
        None => kwargs.get("sep")?,
    };
    let most = match most {
        Some(most) => Some(most),
        None => kwargs.get("maxsplit")?,
    };
    kwargs.assert_all_used()?;
    let most = most
        .and_then(|most| usize::try_from(most).ok())
        .unwrap_or(usize::MAX);
    let parts: Vec<&str> = match (separator, from_end) {
        (Some(""), _) => return Err(invalid("split: the separator is empty")),
        (Some(separator), false) => text.splitn(most.saturating_add(1), separator).collect(),
        (Some(separator), true) => {
            let mut parts: Vec<_> = text.rsplitn(most.saturating_add(1), separator).collect();
            parts.reverse();
            parts
        }
        (None, false) => words(text, most),
        (None, true) => words_from_end(text, most),
    };
    Ok(parts.into_iter().map(Value::from).collect())
}

/// Splits at white space, at most `most` times. The last part has the rest.
fn words(text: &str, most: usize) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = match words.len() < most {
            true => rest.find(char::is_whitespace).unwrap_or(rest.len()),
            false => rest.len(),
        };
        words.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    words
}

fn words_from_end(text: &str, most: usize) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_end();
    while !rest.is_empty() {
        let space = rest.char_indices().rfind(|(_, c)| c.is_whitespace());
        let start = match space {
            Some((at, c)) if words.len() < most => at + c.len_utf8(),
            _ => 0,
        };
        words.push(&rest[start..]);
        rest = rest[..start].trim_end();
    }
    words.reverse();
    words
}

fn splitlines(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (keepends, kwargs): (Option<bool>, Kwargs) = from_args(args)?;
    let keepends = keepends.or(kwargs.get("keepends")?).unwrap_or(false);
    kwargs.assert_all_used()?;
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.find(is_line_end) {
        let is_pair = rest[end..].starts_with("\r\n");
        let width = rest[end..].chars().next().map_or(0, char::len_utf8) + usize::from(is_pair);
        lines.push(&rest[..if keepends { end + width } else { end }]);
        rest = &rest[end + width..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    Ok(lines.into_iter().map(Value::from).collect())
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\n'..='\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn partition(text: &str, args: &[Value], from_end: bool) -> Result<Value, Error> {
    let (separator,): (&str,) = from_args(args)?;
    let found = match from_end {
        true => text.rsplit_once(separator),
        false => text.split_once(separator),
    };
    let parts = match found {
        Some((head, tail)) => [head, separator, tail],
        None if from_end => ["", "", text],
        None => [text, "", ""],
    };
    Ok(Value::from(Tuple::from(parts.map(Value::from))))
}

/// The part of a text that a search covers.
struct SearchRange<'a> {
    text: &'a str,
    /// Number of characters before the range.
    start: usize,
}

impl<'a> SearchRange<'a> {
    /// The second and third argument are the range's begin and end in characters. Negative ones count from the end.
    fn of(text: &'a str, args: &[Value]) -> Result<Self, Error> {
        let (_, start, end): (&Value, Option<i64>, Option<i64>) = from_args(args)?;
        let count = text.chars().count();
        let place = |at: i64| match at {
            0.. => (at as usize).min(count),
            _ => count.saturating_sub(at.unsigned_abs() as usize),
        };
        let (start, end) = (start.map_or(0, place), end.map_or(count, place));
        let byte = |at: usize| {
            text.char_indices()
                .nth(at)
                .map_or(text.len(), |(byte, _)| byte)
        };
        Ok(Self {
            text: &text[byte(start)..byte(end.max(start))],
            start,
        })
    }
}

fn search(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let range = SearchRange::of(text, args)?;
    let what = args[0]
        .as_str()
        .ok_or_else(|| invalid(format!("{method}: the argument is no text")))?;
    if method == "count" {
        return Ok(range.text.matches(what).count().into());
    }
    let found = match method.starts_with('r') {
        true => range.text.rfind(what),
        false => range.text.find(what),
    };
    match found {
        Some(at) => Ok((range.start + range.text[..at].chars().count()).into()),
        None if method.ends_with("find") => Ok((-1).into()),
        None => Err(invalid(format!("{method}: the text has no {what:?}"))),
    }
}

fn remove(text: &str, args: &[Value], from_end: bool) -> Result<Value, Error> {
    let (part,): (&str,) = from_args(args)?;
    let rest = match from_end {
        true => text.strip_suffix(part),
        false => text.strip_prefix(part),
    };
    Ok(rest.unwrap_or(text).into())
}

fn justify(state: &State, text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (width, fill): (usize, Option<char>) = from_args(args)?;
    let fill = fill.unwrap_or(' ');
    pay_for(state, width)?;
    let missing = width.saturating_sub(text.chars().count());
    Ok(match method {
        "center" => center(text, width, fill),
        "ljust" => padded(text, 0, missing, fill),
        _ => padded(text, missing, 0, fill),
    }
    .into())
}

/// Centers a text in `width` characters. If padding and width are odd, Python puts one more before the text.
pub fn center(text: &str, width: usize, fill: char) -> String {
    let missing = width.saturating_sub(text.chars().count());
    let before = missing / 2 + (missing & width & 1);
    padded(text, before, missing - before, fill)
}

fn padded(text: &str, before: usize, after: usize, fill: char) -> String {
    let fill = |count| std::iter::repeat_n(fill, count);
    fill(before)
        .chain(text.chars())
        .chain(fill(after))
        .collect()
}

fn zfill(state: &State, text: &str, args: &[Value]) -> Result<Value, Error> {
    let (width,): (usize,) = from_args(args)?;
    pay_for(state, width)?;
    let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
    let missing = width.saturating_sub(text.chars().count());
    Ok(format!("{sign}{}", padded(digits, missing, 0, '0')).into())
}

fn expandtabs(state: &State, text: &str, args: &[Value]) -> Result<Value, Error> {
    let (size,): (Option<usize>,) = from_args(args)?;
    let size = size.unwrap_or(8);
    pay_for(state, text.matches('\t').count().saturating_mul(size))?;
    let (mut expanded, mut column) = (String::new(), 0);
    for c in text.chars() {
        match c {
            '\t' => {
                let width = size.saturating_sub(column % size.max(1));
                expanded.extend(std::iter::repeat_n(' ', width));
                column += width;
            }
            _ => {
                expanded.push(c);
                column = if matches!(c, '\n' | '\r') {
                    0
                } else {
                    column + 1
                };
            }
        }
    }
    Ok(expanded.into())
}

/// Python's `format`. Fields wider than any template needs are refused before they take memory.
fn format(state: &mut State, value: &Value, args: &[Value]) -> Result<Value, Error> {
    const MOST_DIGITS: usize = 4;
    let digits = value
        .as_str()
        .unwrap_or_default()
        .split(|c: char| !c.is_ascii_digit());
    if digits.map(str::len).max() > Some(MOST_DIGITS) {
        return Err(invalid("format: a field is wider than 9999 characters"));
    }
    unknown_method_callback(state, value, "format", args)
}

fn format_map(state: &mut State, value: &Value, args: &[Value]) -> Result<Value, Error> {
    let (map,): (&Value,) = from_args(args)?;
    let keys: Vec<Value> = map.try_iter()?.collect();
    let pairs = keys
        .iter()
        .map(|key| Ok((key.to_string(), map.get_item(key)?)));
    let kwargs: Kwargs = pairs
        .collect::<Result<Vec<_>, Error>>()?
        .into_iter()
        .collect();
    format(state, value, &[kwargs.into()])
}

/// Capitalizes the first letter of each run of letters.
fn title(text: &str) -> String {
    let mut follows_letter = false;
    let mut titled = String::with_capacity(text.len());
    for c in text.chars() {
        match follows_letter {
            true => titled.extend(c.to_lowercase()),
            false => titled.extend(c.to_uppercase()),
        }
        follows_letter = c.is_alphabetic();
    }
    titled
}

/// Swaps a letter's case. A letter that would become several stays.
fn swap_case(c: char) -> char {
    let only = |mut changed: Box<dyn Iterator<Item = char>>| match (changed.next(), changed.next())
    {
        (Some(one), None) => one,
        _ => c,
    };
    match c.is_uppercase() {
        true => only(Box::new(c.to_lowercase())),
        false => only(Box::new(c.to_uppercase())),
    }
}

fn is_identifier(text: &str) -> bool {
    let is_start = |c: char| c.is_alphabetic() || c == '_';
    text.starts_with(is_start) && text.chars().all(|c| is_start(c) || c.is_numeric())
}
