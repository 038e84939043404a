//! The JSON Schema of a configuration file, for editors and for `config/schema.json`.

use schemars::{Schema, generate::SchemaSettings, transform::RecursiveTransform};
use serde_json::Value;

use super::sections::RawConfig;

/// The JSON Schema of a configuration file.
pub fn schema() -> Value {
    // The dialect that TOML editors know best.
    let mut settings = SchemaSettings::draft07();
    settings.inline_subschemas = true;
    let settings = settings.with_transform(RecursiveTransform(as_in_toml));
    settings
        .into_generator()
        .into_root_schema_for::<RawConfig>()
        .into()
}

/// The schema as the text of `config/schema.json`.
pub fn schema_text() -> String {
    format!("{:#}", schema())
}

/// Adapts a schema to TOML: it has no null, and the keys of a section have their own defaults.
fn as_in_toml(schema: &mut Schema) {
    if schema.get("default").is_some_and(Value::is_null) || schema.get("properties").is_some() {
        schema.remove("default");
    }
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".into(), only);
        }
    }
}
