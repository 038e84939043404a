//! Named facts beyond the fields of a struct.

use std::collections::{BTreeMap, btree_map};

use crate::{
    Code, Error, Result,
    abi::{KeyValue, RVec},
};

/// Named facts beyond the fields of a struct: facts that a later version adds, and facts that a plugin and a host agree on.
/// Names that Tenon does not define are reverse URIs.
///
/// A reader ignores facts whose names it does not know. Only a name that begins with `!` must be understood.
///
/// ```
/// use tenon_plugin_api::Device;
///
/// let mut device = Device::new("npu:0", "NPU");
/// device.meta.set("org.example.driver", "4.2");
/// assert_eq!(device.meta.get("org.example.driver"), Some("4.2"));
/// assert_eq!(device.meta.get("org.example.firmware"), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Meta(BTreeMap<String, String>);

impl Meta {
    /// The value of a name. None if there is no such fact.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Sets the value of a name.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// All names with their values, ordered by name.
    pub fn iter(&self) -> Iter<'_> {
        self.0.iter()
    }

    /// Whether there are no facts.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks that this version knows all facts that must be understood. None is defined yet.
    ///
    /// # Errors
    /// `UNSUPPORTED`, with the name of the fact.
    pub fn check(&self) -> Result<()> {
        match self.0.keys().find(|name| name.starts_with('!')) {
            Some(name) => Err(Error::new(
                Code::UNSUPPORTED,
                format!(
                    "{name:?} is required, and this side does not know it: update Tenon or the plugin"
                ),
            )),
            None => Ok(()),
        }
    }
}

/// Names and values of a [`Meta`].
pub type Iter<'a> = btree_map::Iter<'a, String, String>;

impl<'a> IntoIterator for &'a Meta {
    type Item = (&'a String, &'a String);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl From<Meta> for RVec<KeyValue> {
    fn from(plain: Meta) -> Self {
        let facts = plain.0.into_iter();
        let fact = |(key, value): (String, String)| KeyValue {
            key: key.into(),
            value: value.into(),
        };
        facts.map(fact).collect()
    }
}

impl From<RVec<KeyValue>> for Meta {
    fn from(record: RVec<KeyValue>) -> Self {
        let facts = record.into_iter();
        Self(
            facts
                .map(|fact| (fact.key.into(), fact.value.into()))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_must_be_understood_are_refused() {
        let mut meta = Meta::default();
        meta.set("org.example.colour", "red");
        assert_eq!(meta.check(), Ok(()));
        meta.set("!lora", "7");
        let refused = meta.check().unwrap_err();
        assert_eq!(refused.code, Code::UNSUPPORTED);
        assert!(refused.message.contains("\"!lora\""), "{refused}");
    }
}
