//! Walks through all schemas within a schema.

use serde_json::{Map, Value};

/// Keywords whose value is data, even if it looks like a schema.
const DATA: [&str; 4] = ["const", "default", "enum", "examples"];

/// Keywords whose value is an object of schemas by name.
const SCHEMAS_BY_NAME: [&str; 6] = [
    "$defs",
    "definitions",
    "dependencies",
    "dependentSchemas",
    "patternProperties",
    "properties",
];

/// Calls `change` for each schema in a schema or a list of schemas, inner ones first. It enters all keywords except
/// data, because references may lead to any keyword. The depth is bounded, because JSON's parser bounds it.
pub fn for_each(schema: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    match schema {
        Value::Array(schemas) => schemas
            .iter_mut()
            .for_each(|schema| for_each(schema, change)),
        Value::Object(fields) => {
            for (keyword, value) in fields.iter_mut() {
                match value {
                    Value::Object(schemas) if SCHEMAS_BY_NAME.contains(&keyword.as_str()) => {
                        schemas
                            .values_mut()
                            .for_each(|schema| for_each(schema, change));
                    }
                    _ if DATA.contains(&keyword.as_str()) => {}
                    _ => for_each(value, change),
                }
            }
            change(fields);
        }
        _ => {}
    }
}
