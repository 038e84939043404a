//! Options as ordinary structs: what users may set for a plugin and for each of its models.
//!
//! A struct that derives [`JsonSchema`] and serde's `Deserialize` is all that is needed. The doc comments of its fields are
//! what `tenon plugins show` prints. The derives need the crates `schemars` (1.x) and `serde` among the plugin's
//! dependencies.
//!
//! ```
//! use schemars::JsonSchema;
//! use serde::{Deserialize, Serialize};
//! use tenon_plugin_api::{Descriptor, LoadArgs, Result};
//!
//! /// Options of a model.
//! #[derive(Deserialize, JsonSchema, Serialize)]
//! #[serde(default, deny_unknown_fields)]
//! struct Options {
//!     /// Map the file into memory instead of reading it.
//!     mmap: bool,
//! }
//!
//! impl Default for Options {
//!     fn default() -> Self {
//!         Self { mmap: true }
//!     }
//! }
//!
//! // In `Backend::descriptor`:
//! let descriptor = Descriptor::new("org.example.mine", "Mine", "0.1.0").with_model_options::<Options>();
//! assert!(descriptor.model_options_schema().unwrap().contains("Map the file into memory"));
//!
//! // In `Backend::load`:
//! let args = LoadArgs { options: r#"{"mmap": false}"#.into(), ..LoadArgs::default() };
//! let options: Options = args.read_options()?;
//! assert!(!options.mmap);
//! # Ok::<(), tenon_plugin_api::Error>(())
//! ```
//!
//! `deny_unknown_fields` makes the host refuse misspelt keys. `Serialize` with `#[serde(default)]` puts the defaults into the schema.

use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Descriptor, Error, LoadArgs, Result};

/// The options of a plugin or of models that have none. With it the host refuses every option.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NoOptions {}

impl Descriptor {
    /// Declares the options of the plugin as a whole: the table `[plugins.options."ID"]`, the second argument of
    /// [`Backend::init`](crate::Backend::init).
    pub fn with_options<T: JsonSchema>(self) -> Self {
        self.with_options_schema(schema_for!(T).as_value().to_string())
    }

    /// Declares the options of a model: the table `options` in `[[models]]`, which is [`LoadArgs::options`].
    pub fn with_model_options<T: JsonSchema>(self) -> Self {
        self.with_model_options_schema(schema_for!(T).as_value().to_string())
    }
}

impl LoadArgs {
    /// The model's options as a struct.
    ///
    /// # Errors
    /// `INVALID` for unknown keys and values; the message names them and lists what is allowed. The host has checked them already
    /// if the plugin declares its options; tests and other programs have not.
    pub fn read_options<T: DeserializeOwned>(&self) -> Result<T> {
        parse(&self.options, "the model's options")
    }
}

/// The options of the plugin as a struct, from the second argument of [`Backend::init`](crate::Backend::init).
///
/// # Errors
/// As [`LoadArgs::read_options`].
pub fn read<T: DeserializeOwned>(json: &str) -> Result<T> {
    parse(json, "the plugin's options")
}

fn parse<T: DeserializeOwned>(json: &str, what: &str) -> Result<T> {
    let json = if json.is_empty() { "{}" } else { json };
    serde_json::from_str(json).map_err(|error| Error::invalid(format!("{what}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_options_are_no_options() {
        assert_eq!(read(""), Ok(NoOptions {}));
        assert_eq!(LoadArgs::default().read_options(), Ok(NoOptions {}));
        let refused = read::<NoOptions>(r#"{"speed": 9}"#).unwrap_err();
        assert!(
            refused
                .message
                .starts_with("the plugin's options: unknown field `speed`"),
            "{refused}"
        );
        let declared = Descriptor::new("org.example.a", "A", "1.0.0").with_options::<NoOptions>();
        let schema = declared.options_schema().unwrap();
        assert!(
            schema.contains(r#""additionalProperties":false"#),
            "{schema}"
        );
    }
}
