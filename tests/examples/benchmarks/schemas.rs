//! Five schemas, from one with many fixed bytes to one with none.

use serde_json::{Value, json};

/// The schemas and their names.
pub fn schemas() -> [(&'static str, Value); 5] {
    [
        ("customer_record", customer_record()),
        ("sensor_reading", sensor_reading()),
        ("invoice", invoice()),
        ("contact", contact()),
        ("free_text", free_text()),
    ]
}

/// The prompt for a document of this schema, or for the same document without a grammar. The prompt for a long text has an
/// example, so that the answer is a text in both cases: lists of numbers have other tokens.
pub fn prompt(name: &str) -> String {
    let asked = format!("A JSON document ({name}) of a small company in Leipzig:\n\n");
    match name {
        "free_text" => format!(
            "A JSON document (free_text) of a small company in Hamburg:\n\n{EXAMPLE}\n\n{asked}"
        ),
        _ => asked,
    }
}

const EXAMPLE: &str = "{\"text\":\"We have repaired bicycles in the old port since 1987. My father began with a single bench and \
two boxes of tools, and today nine of us work here. In winter we build wheels, in summer we hardly find the time to eat. Whoever \
brings a bicycle in the morning gets it back in the evening, and if we cannot mend it, we say so. On Saturdays children come to \
learn how to patch a tube.\"}";

fn word() -> Value {
    json!({"type": "string", "pattern": "^[A-Z][a-z]{2,11}$"})
}

fn integer(maximum: u32) -> Value {
    json!({"type": "integer", "minimum": 0, "maximum": maximum})
}

/// An object with all of these properties and no others.
fn record(properties: Value) -> Value {
    let names = properties
        .as_object()
        .map(|map| map.keys().cloned().collect::<Vec<_>>());
    json!({
        "type": "object", "properties": properties, "required": names, "additionalProperties": false,
    })
}

/// A record with long keys and short values.
fn customer_record() -> Value {
    record(json!({
        "customer_identification_number": integer(99999),
        "customer_family_name": word(),
        "customer_given_name": word(),
        "date_of_first_registration": {"type": "string", "format": "date"},
        "preferred_language_of_correspondence": {"enum": ["German", "English", "French"]},
        "has_accepted_terms_and_conditions": {"type": "boolean"},
        "delivery_address": record(json!({
            "name_of_street_or_square": word(),
            "number_of_house_or_building": integer(999),
            "postal_code_of_municipality": {"type": "string", "pattern": "^[0-9]{5}$"},
            "name_of_municipality": word(),
        })),
        "total_of_outstanding_invoices_in_cents": integer(999999),
    }))
}

/// A record with known keys and numbers.
fn sensor_reading() -> Value {
    record(json!({
        "sensor_id": {"type": "string", "pattern": "^S-[0-9]{4}$"},
        "measured_at": {"type": "string", "format": "date"},
        "temperature_celsius": integer(50),
        "relative_humidity_percent": integer(100),
        "battery_voltage_millivolts": integer(5000),
        "status": {"enum": ["operational", "needs maintenance", "out of service"]},
    }))
}

/// A record with a list of records.
fn invoice() -> Value {
    let item = record(
        json!({"description": word(), "quantity": integer(99), "unit_price": integer(9999)}),
    );
    record(json!({
        "invoice_number": integer(99999),
        "customer": word(),
        "items": {"type": "array", "items": item, "minItems": 3, "maxItems": 3},
        "currency": {"enum": ["EUR", "USD", "CHF"]},
    }))
}

/// A record with short keys and longer values.
fn contact() -> Value {
    let line = json!({"type": "string", "minLength": 10, "maxLength": 40});
    record(json!({"name": line, "mail": line, "city": line, "note": line}))
}

/// A record with one text, which ends where the model ends it. A model that is kept from ending a text chooses other words.
fn free_text() -> Value {
    record(json!({"text": {"type": "string", "maxLength": 1000}}))
}

/// A schema of about 100 KB: a catalogue of 250 kinds of things, each with keys of its own. Each `version` is a schema that
/// no server has seen.
pub fn catalogue(version: u32) -> Value {
    let kinds = (0..250).map(|kind| {
        let (kind, variant) = (format!("kind_{version}_{kind:03}"), kind % 7);
        let record = record(json!({
            "kind": {"const": kind},
            format!("number_of_{kind}"): integer(100 + variant),
            "label": word(),
            "tags": {"type": "array", "items": {"enum": ["new", "used", "broken"]}, "maxItems": 2 + variant},
        }));
        (kind, record)
    });
    let kinds: Vec<(String, Value)> = kinds.collect();
    let things: Vec<_> = kinds
        .iter()
        .map(|(kind, _)| json!({"$ref": format!("#/$defs/{kind}")}))
        .collect();
    let mut schema = record(json!({"thing": {"anyOf": things}}));
    schema["$defs"] = kinds.into_iter().collect();
    schema
}
