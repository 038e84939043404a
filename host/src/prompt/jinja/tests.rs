//! Tests that expressions give the same results as in Jinja2.

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Value};
use serde_json::Value as Json;

use super::{extend, prepare, syntax};

fn render(source: &str, context: &Json) -> Option<String> {
    let mut environment = Environment::new();
    environment.set_syntax(syntax().unwrap());
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    extend(&mut environment);
    let context = Value::from(Serde(context.clone()));
    environment.render_str(&prepare(source), context).ok()
}

/// `expressions.py` generates the table.
#[test]
fn expressions_give_what_jinja2_gives() {
    let table: Json = serde_json::from_str(include_str!("expressions.json")).unwrap();
    let mut wrong = Vec::new();
    for line in table["expressions"].as_array().unwrap() {
        let (expression, expected) = (line[0].as_str().unwrap(), line[1].as_str());
        let is_template = expression.contains("{{") || expression.contains("{%");
        let source = match is_template {
            true => expression.to_owned(),
            false => format!("{{{{ {expression} }}}}"),
        };
        let written = render(&source, &table["context"]);
        if written.as_deref() != expected {
            wrong.push(format!("{source}: {written:?} instead of {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
