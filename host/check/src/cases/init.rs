//! The start of the backend.

use serde_json::{Map, Value, json};

use crate::{
    finding::{Checked, Finding, ensure},
    measure,
    running::Running,
    subject::{Subject, THREADS},
};

/// An option that no plugin has.
const UNKNOWN: &str = "tenon_check_unknown_option";

/// The key of a descriptor's `meta` that has the schema by which the server checks options.
const SCHEMA: &str = "options_schema";

/// Threads that a plugin may have beside those that compute: for a log, or for waiting.
const OTHER_THREADS: u64 = 2;

pub fn starts(subject: &Subject) -> Checked {
    subject.backend()?;
    Ok("it starts".to_owned())
}

pub fn unknown_option_named(subject: &Subject) -> Checked {
    if let Some(schema) = schema(subject)? {
        let accepts = jsonschema::is_valid(&schema, &json!({ UNKNOWN: 1 }));
        ensure(!accepts, || {
            "the schema accepts options that do not exist: set `additionalProperties` to false"
                .to_owned()
        })?;
        return Ok("the server refuses it by the schema".to_owned());
    }
    match subject.start(&json!({ UNKNOWN: 1 }).to_string())? {
        Err(why) if why.contains(UNKNOWN) => Ok("it is refused and named".to_owned()),
        Err(why) => Err(Finding::failed(format!(
            "an unknown option is refused without its name ({why}): name it"
        ))),
        Ok(_) => Err(Finding::warning(
            "an unknown option is ignored, so that nobody notices a misspelt one: refuse it, or declare a schema",
        )),
    }
}

pub fn schema_matches(subject: &Subject) -> Checked {
    let none = || Finding::skipped("it declares no schema of its options");
    let schema = schema(subject)?.ok_or_else(none)?;
    if let Err(error) = jsonschema::meta::validate(&schema) {
        let sentence = format!("the schema of its options is no JSON Schema ({error})");
        return Err(Finding::failed(sentence));
    }
    let properties = schema["properties"].as_object();
    let defaults = properties
        .into_iter()
        .flatten()
        .filter_map(|(name, property)| {
            let value = property.get("default")?;
            (!value.is_null()).then(|| (name.clone(), value.clone()))
        });
    let defaults: Map<String, Value> = defaults.collect();
    let count = defaults.len();
    let defaults = Value::Object(defaults);
    ensure(jsonschema::is_valid(&schema, &defaults), || {
        format!("the defaults {defaults} do not fit their own schema")
    })?;
    match subject.start(&defaults.to_string())? {
        Ok(_) => Ok(format!("it starts with {count} defaults of its schema")),
        Err(why) => Err(Finding::failed(format!(
            "with the defaults of its schema, {defaults}, it {why}"
        ))),
    }
}

/// The schema of the plugin's options.
fn schema(subject: &Subject) -> Checked<Option<Value>> {
    let plugin = subject.open()?;
    let text = plugin.descriptor().meta.get(SCHEMA);
    let schema = text.map(serde_json::from_str).transpose();
    schema.map_err(|error| {
        Finding::failed(format!("the schema of its options is no JSON ({error})"))
            .of("init/schema-matches")
    })
}

pub fn threads_as_told(subject: &Subject) -> Checked {
    let before = measure::threads();
    let count = match subject.model {
        Some(_) => {
            let mut running = Running::new(subject)?;
            let tokens = running.tokens(16);
            running.alone(0, &tokens)?;
            measure::threads()
        }
        None => {
            let _backend = subject.backend()?;
            measure::threads()
        }
    };
    let own = count.saturating_sub(before);
    ensure(own <= u64::from(THREADS) + OTHER_THREADS, || {
        format!(
            "it was told to compute with {THREADS} threads and started {own}: ask `Host::threads`, not the machine"
        )
    })?;
    Ok(format!("it was told {THREADS} threads and started {own}"))
}
