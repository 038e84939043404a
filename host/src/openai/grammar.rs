use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, value::MapAccessDeserializer},
};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{Structure, TagFormat};

/// A grammar that the answer follows exactly.
#[derive(Clone, Debug, ToSchema)]
#[serde(untagged)]
pub enum GrammarRequest {
    /// A grammar in GBNF, as in llama-server. An empty text is no grammar.
    Gbnf(String),
    /// A grammar with its format.
    Tagged(TaggedGrammar),
}

/// A grammar with its format.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct TaggedGrammar {
    /// The format of `value`.
    #[serde(rename = "type")]
    pub kind: GrammarKind,
    /// The grammar. For `json_schema` and `llguidance` it may also be an object.
    pub value: GrammarValue,
    /// For `json_schema`: whether to refuse a schema that cannot be followed exactly. Default: false. Then it is followed
    /// as far as possible, and `warnings` in the answer says what is not certain.
    pub strict: Option<bool>,
}

/// The format of a grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrammarKind {
    /// A regular expression (Rust's syntax, without look-around) that matches the whole answer.
    Regex,
    /// A context-free grammar in llguidance's variant of Lark.
    Lark,
    /// A JSON Schema.
    JsonSchema,
    /// A context-free grammar in llama.cpp's format.
    Gbnf,
    /// llguidance's own format.
    #[serde(rename = "llguidance")]
    #[schema(rename = "llguidance")]
    LlGuidance,
}

/// The text or object of a grammar.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a string or an object")]
pub enum GrammarValue {
    /// As text.
    Text(String),
    /// As JSON.
    Object(Map<String, Value>),
}

/// The form of the answer, as in OpenAI's API. Not together with `grammar`.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct ResponseFormat {
    /// The kind of answer.
    #[serde(rename = "type")]
    pub kind: ResponseKind,
    /// The schema and its name. Only for `json_schema`.
    pub json_schema: Option<JsonSchemaFormat>,
    /// The schema alone, as in llama-server. Only for `json_object` and `json_schema`.
    pub schema: Option<Value>,
    /// The form of the answer, one of xgrammar's formats. Only for `structural_tag`.
    #[schema(value_type = Option<Object>)]
    pub format: Option<TagFormat>,
    /// Instead of `format`: JSON between texts, as in older versions of vLLM. Only for `structural_tag`.
    pub structures: Option<Vec<Structure>>,
    /// The texts that begin `structures`. Only for `structural_tag`.
    pub triggers: Option<Vec<String>>,
}

impl ResponseFormat {
    /// A format with nothing but its kind.
    pub fn of_kind(kind: ResponseKind) -> Self {
        Self {
            kind,
            json_schema: None,
            schema: None,
            format: None,
            structures: None,
            triggers: None,
        }
    }
}

/// Kinds of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResponseKind {
    /// Any text.
    Text,
    /// Any JSON object. With `schema`: JSON that the schema validates.
    JsonObject,
    /// JSON that a schema validates.
    JsonSchema,
    /// Text with parts of a certain form.
    StructuralTag,
}

/// A JSON Schema and its name.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct JsonSchemaFormat {
    /// Not used.
    pub name: Option<String>,
    /// Not used.
    pub description: Option<String>,
    /// The schema. Without one, any JSON object is a valid answer.
    pub schema: Option<Value>,
    /// Whether to refuse a schema that cannot be followed exactly. Default: false. Then it is followed as far as possible,
    /// and `warnings` in the answer says what is not certain.
    pub strict: Option<bool>,
}

impl<'de> Deserialize<'de> for GrammarRequest {
    // A derived untagged enum would lose the name of the wrong field.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = GrammarRequest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an object")
            }

            fn visit_str<E>(self, text: &str) -> Result<GrammarRequest, E> {
                Ok(GrammarRequest::Gbnf(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<GrammarRequest, A::Error> {
                let tagged = TaggedGrammar::deserialize(MapAccessDeserializer::new(map))?;
                Ok(GrammarRequest::Tagged(tagged))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
