//! What Hugging Face adds to Jinja for chat templates.

use jiff::Zoned;
use jiff::fmt::strtime::{BrokenDownTime, Config};
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value};

use super::python_json::{JsonLayout, dumps};

/// The message a template gave to `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Raised(pub String);

/// Adds `raise_exception`, `strftime_now`, `tojson` and Python's methods.
pub(super) fn add_functions(environment: &mut Environment<'static>) {
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", tojson);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
}

/// Makes `{% generation %}` blocks, which only tell a trainer who wrote what, into blocks without effect.
pub(super) fn without_generation_tags(source: &str) -> String {
    let mut parts = source.split("{%");
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (tag, rest) = part.split_at(part.find("%}").unwrap_or(part.len()));
        let word = tag.trim_matches(|c: char| c.is_whitespace() || matches!(c, '-' | '+'));
        let tag = match word {
            "generation" | "endgeneration" => tag.replace("generation", "with"),
            _ => tag.to_owned(),
        };
        result.extend(["{%", &tag, rest]);
    }
    result
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

/// Unlike minijinja's own, not escaped for HTML.
fn tojson(value: &Value, kwargs: Kwargs) -> Result<String, Error> {
    let mut layout = JsonLayout::new(kwargs.get("indent")?);
    if let Some(separators) = kwargs.get::<Option<Vec<String>>>("separators")? {
        let [item, key] = <[String; 2]>::try_from(separators)
            .map_err(|_| invalid("tojson: separators must be two strings"))?;
        (layout.item_separator, layout.key_separator) = (item, key);
    }
    if kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false) {
        return Err(invalid(
            "tojson: ensure_ascii=true is not supported; leave it out",
        ));
    }
    let mut json =
        serde_json::to_value(value).map_err(|error| invalid(format!("tojson: {error}")))?;
    if kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false) {
        json.sort_all_objects();
    }
    kwargs.assert_all_used()?;
    dumps(&json, &layout).map_err(|error| invalid(format!("tojson: {error}")))
}

fn invalid(detail: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, expected: &str) {
        let mut environment = Environment::new();
        add_functions(&mut environment);
        let context = minijinja::context! { x => minijinja::context! { b => 1, a => "<é>" } };
        assert_eq!(environment.render_str(source, context).unwrap(), expected);
    }

    #[test]
    fn tojson_takes_python_arguments() {
        check("{{ x|tojson }}", r#"{"b": 1, "a": "<é>"}"#);
        check(
            "{{ x|tojson(ensure_ascii=False, sort_keys=true) }}",
            r#"{"a": "<é>", "b": 1}"#,
        );
        check(
            "{{ x|tojson(separators=(',', ':')) }}",
            r#"{"b":1,"a":"<é>"}"#,
        );
        check("{{ [1]|tojson(indent=4) }}", "[\n    1\n]");
    }

    #[test]
    fn tojson_refuses_what_it_does_not_do() {
        let mut environment = Environment::new();
        add_functions(&mut environment);
        for source in [
            "{{ 1|tojson(ensure_ascii=true) }}",
            "{{ 1|tojson(separators=[',']) }}",
            "{{ 1|tojson(nope=1) }}",
        ] {
            assert!(environment.render_str(source, ()).is_err(), "{source}");
        }
    }

    #[test]
    fn strftime_now_writes_python_formats() {
        let mut environment = Environment::new();
        add_functions(&mut environment);
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

    #[test]
    fn generation_tags_lose_only_their_effect() {
        let source =
            "{%- generation -%}a{% endgeneration %}{% if generation %}{{ 'generation' }}{%";
        let expected = "{%- with -%}a{% endwith %}{% if generation %}{{ 'generation' }}{%";
        assert_eq!(without_generation_tags(source), expected);
    }
}
