use serde::{
    Deserialize, Deserializer,
    de::{IntoDeserializer, value::StringDeserializer},
};

/// Deserializes a variant from its name only. (figment would also accept the variant's index.)
pub fn by_name<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let name: StringDeserializer<D::Error> = String::deserialize(deserializer)?.into_deserializer();
    T::deserialize(name)
}

/// Like [`by_name`], for a value that may be left out.
pub fn if_named<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    by_name(deserializer).map(Some)
}
