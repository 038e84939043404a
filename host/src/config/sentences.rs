//! Sentences for serde's errors. Each names the key, where it was written, and what is allowed there.

use figment::error::{Actual, Kind};

/// The sentence for a deserialization error at `key`, whose author wrote it as `name`.
pub fn sentence(error: &Kind, key: &[&str], name: &str) -> String {
    match error {
        Kind::UnknownField(field, allowed) => {
            format!("{name} is no known key{}", instead_of(field, allowed))
        }
        Kind::UnknownVariant(variant, allowed) => {
            format!(
                "{name} cannot be \"{variant}\"{}",
                instead_of(variant, allowed)
            )
        }
        // Secrets stay out of terminals and logs.
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) if is_secret(key) => {
            format!("{name} must be {}", in_words(expected))
        }
        Kind::InvalidType(actual, expected) | Kind::InvalidValue(actual, expected) => {
            format!(
                "{name} must be {}, not {}",
                in_words(expected),
                shown(actual)
            )
        }
        Kind::MissingField(field) => format!("{name} needs a {field}"),
        other => format!("{name} is refused: {other}"),
    }
}

/// The end of a sentence, with the nearest allowed name: `; did you mean "port"? Allowed: host, port`.
pub fn instead_of<S: AsRef<str>>(written: &str, allowed: &[S]) -> String {
    let allowed: Vec<&str> = allowed.iter().map(AsRef::as_ref).collect();
    let nearest = allowed
        .iter()
        .map(|candidate| (strsim::jaro(written, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    let list = allowed.join(", ");
    match nearest {
        Some((_, nearest)) => format!("; did you mean \"{nearest}\"? Allowed: {list}"),
        None => format!("; allowed: {list}"),
    }
}

fn is_secret(key: &[&str]) -> bool {
    matches!(
        key,
        ["server", "api_keys" | "admin_keys", ..] | ["keys", _, "key", ..]
    )
}

/// The words for a type that serde expects.
fn in_words(expected: &str) -> String {
    let words = match expected {
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "a nonzero u32" => "a whole number from 1 to 4294967295",
        "a string" | "path string" => "text in quotes",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        section if section.starts_with("struct ") => "a table",
        other => other,
    };
    words.into()
}

fn shown(actual: &Actual) -> String {
    match actual {
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => value.to_string(),
        Actual::Signed(value) => value.to_string(),
        Actual::Float(value) => value.to_string(),
        Actual::Str(value) => format!("\"{value}\""),
        Actual::Seq => "a list".into(),
        Actual::Map => "a table".into(),
        other => other.to_string(),
    }
}
