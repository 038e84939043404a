//! Puts mistakes into JSON files.

use std::ops::Range;

use fastrand::Rng;
use serde_json::{Map, Value, json};

/// The place of the header in a safetensors file, and the number of bytes before it.
pub fn safetensors_header(bytes: &[u8]) -> (Range<usize>, usize) {
    let (len, _) = bytes.split_first_chunk().expect("a length");
    let header = 8..8 + u64::from_le_bytes(*len) as usize;
    (header, 8)
}

/// The text with one of its values changed, and a description of the change.
pub fn change(text: &[u8], random: &mut Rng) -> (String, String) {
    let mut json: Value = serde_json::from_slice(text).expect("JSON");
    let mut path = String::new();
    change_within(&mut json, random, &mut path);
    (json.to_string(), path)
}

/// Goes down the tree at random, and changes the value that it reaches.
fn change_within(json: &mut Value, random: &mut Rng, path: &mut String) {
    match json {
        Value::Object(object) if !object.is_empty() && random.u32(0..8) > 0 => {
            change_entry(object, random, path);
        }
        Value::Array(list) if !list.is_empty() && random.u32(0..8) > 0 => {
            let at = random.usize(0..list.len());
            *path += &format!("[{at}]");
            change_within(&mut list[at], random, path);
        }
        json => {
            *json = other(random);
            let shown = json.to_string();
            *path += &format!(" is {}", shown.chars().take(40).collect::<String>());
        }
    }
}

fn change_entry(object: &mut Map<String, Value>, random: &mut Rng, path: &mut String) {
    let at = random.usize(0..object.len());
    let key = object.keys().nth(at).expect("a key").clone();
    *path += &format!(".{key}");
    if random.u32(0..10) == 0 {
        object.remove(&key);
        *path += " is gone";
    } else if let Some(value) = object.get_mut(&key) {
        change_within(value, random, path);
    }
}

fn other(random: &mut Rng) -> Value {
    let mut values = vec![
        json!(0),
        json!(1),
        json!(-1),
        json!(3),
        json!(0.5),
        json!(65_536),
        json!(i32::MAX),
        json!(1u64 << 31),
        json!(4_000_000_000u32),
        json!(1u64 << 40),
        json!(u64::MAX),
        json!(1e300),
        json!(-1e-300),
        json!(null),
        json!(true),
        json!([]),
        json!({}),
        json!([0, 4_000_000_000u32]),
        json!(""),
        json!("x"),
        json!("../../whole/model.safetensors"),
        json!("a".repeat(10_000)),
    ];
    values.swap_remove(random.usize(0..values.len()))
}
