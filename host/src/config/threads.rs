//! `threads`: a number, or `"auto"`.

use std::{borrow::Cow, fmt, num::NonZeroU32, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Unexpected, Visitor},
};

/// The number of threads that a model computes with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Threads {
    /// As many as are fastest: measured, and watched while the model runs.
    #[default]
    Auto,
    Fixed(NonZeroU32),
}

const AUTO: &str = "auto";
const EXPECTED: &str = "\"auto\" or a whole number from 1 to 4294967295";

impl FromStr for Threads {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            AUTO => Ok(Self::Auto),
            number => number
                .parse()
                .map(Self::Fixed)
                .map_err(|_| format!("must be {EXPECTED}")),
        }
    }
}

impl<'de> Deserialize<'de> for Threads {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ThreadsVisitor)
    }
}

struct ThreadsVisitor;

impl Visitor<'_> for ThreadsVisitor {
    type Value = Threads;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Threads, E> {
        let count = u32::try_from(number).ok().and_then(NonZeroU32::new);
        let count = count.ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))?;
        Ok(Threads::Fixed(count))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Threads, E> {
        let count = u32::try_from(number).ok().and_then(NonZeroU32::new);
        let count = count.ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))?;
        Ok(Threads::Fixed(count))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Threads, E> {
        match text {
            AUTO => Ok(Threads::Auto),
            _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
        }
    }
}

impl Serialize for Threads {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str(AUTO),
            Self::Fixed(count) => serializer.serialize_u32(count.get()),
        }
    }
}

impl JsonSchema for Threads {
    fn schema_name() -> Cow<'static, str> {
        "Threads".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "pattern": "^auto$",
            "minimum": 1,
            "maximum": u32::MAX,
        })
    }
}
