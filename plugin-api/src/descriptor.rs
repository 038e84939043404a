//! A plugin's identity, and the options that its users may set.

use crate::Meta;

/// Who a plugin is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Descriptor {
    /// A reverse URI that never changes, for example `org.tenon.echo`: ASCII letters, digits, `-` and `_`, with at least one
    /// dot. The configuration names the backend by this id. A process has only one plugin of the same id.
    pub id: String,
    /// The name for people.
    pub name: String,
    /// Version of the plugin.
    pub version: String,
    /// Who makes it.
    pub vendor: String,
    /// SPDX expression.
    pub license: String,
    /// What the plugin was built from and for, for bug reports. May be empty.
    pub build: String,
    /// More facts. This version knows `options_schema`, `model_options_schema` and `levels`, which the methods below set.
    pub meta: Meta,
}

/// Keys of [`Descriptor::meta`].
const OPTIONS: &str = "options_schema";
const MODEL_OPTIONS: &str = "model_options_schema";
const LEVELS: &str = "levels";

impl Descriptor {
    /// A descriptor with the fields that every plugin has.
    pub fn new(id: impl Into<String>, name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
            version: version.into(),
            ..Self::default()
        }
    }

    /// Declares the options of the plugin as a whole by a JSON Schema (2020-12) of an object. The host refuses options that do not
    /// fit it, and shows it to users. Without a schema every option is passed on. `with_options` makes it from a struct.
    pub fn with_options_schema(mut self, schema: impl Into<String>) -> Self {
        self.meta.set(OPTIONS, schema);
        self
    }

    /// Declares the options of a model, [`LoadArgs::options`](crate::LoadArgs::options), like
    /// [`with_options_schema`](Self::with_options_schema).
    pub fn with_model_options_schema(mut self, schema: impl Into<String>) -> Self {
        self.meta.set(MODEL_OPTIONS, schema);
        self
    }

    /// Names the levels that the plugin can quantize weights to, named as in [`levels`](crate::levels), from the most to the
    /// least faithful. Which of them a model can have is in [`ModelInfo::requantize_levels`](crate::ModelInfo::requantize_levels).
    pub fn with_levels<S: AsRef<str>>(mut self, levels: impl IntoIterator<Item = S>) -> Self {
        let mut names = String::new();
        for level in levels {
            if !names.is_empty() {
                names.push(' ');
            }
            names.push_str(level.as_ref());
        }
        self.meta.set(LEVELS, names);
        self
    }

    /// The JSON Schema of the plugin's options. None if it declares none.
    pub fn options_schema(&self) -> Option<&str> {
        self.meta.get(OPTIONS)
    }

    /// The JSON Schema of a model's options. None if the plugin declares none.
    pub fn model_options_schema(&self) -> Option<&str> {
        self.meta.get(MODEL_OPTIONS)
    }

    /// The levels that the plugin can quantize weights to.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.meta.get(LEVELS).unwrap_or_default().split_whitespace()
    }
}

#[cfg(test)]
mod tests {
    use super::Descriptor;

    #[test]
    fn what_is_declared_is_found_again() {
        let plain = Descriptor::new("org.example.a", "A", "1.0.0");
        assert_eq!((plain.options_schema(), plain.levels().count()), (None, 0));
        let declared = plain
            .with_options_schema("{}")
            .with_model_options_schema("true")
            .with_levels(["Q8_0", "Q4_K"]);
        assert_eq!(declared.options_schema(), Some("{}"));
        assert_eq!(declared.model_options_schema(), Some("true"));
        assert!(declared.levels().eq(["Q8_0", "Q4_K"]));
    }
}
