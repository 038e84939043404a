use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// What the answer must look like, exactly.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct GrammarRequest {
    /// How `value` is written.
    #[serde(rename = "type")]
    pub kind: GrammarKind,
    /// The grammar. For `json_schema` and `llguidance` it may also be an object.
    pub value: GrammarValue,
}

/// How a grammar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrammarKind {
    /// A regular expression (Rust's syntax, without look-around) that all of the answer matches.
    Regex,
    /// A context-free grammar in llguidance's variant of Lark.
    Lark,
    /// A JSON Schema.
    JsonSchema,
    /// llguidance's own format.
    #[serde(rename = "llguidance")]
    #[schema(rename = "llguidance")]
    LlGuidance,
}

/// A grammar.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a string or an object")]
pub enum GrammarValue {
    /// As text.
    Text(String),
    /// As JSON.
    Object(Map<String, Value>),
}

/// OpenAI's way to say what the answer must look like. Not together with `grammar`.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct ResponseFormat {
    /// What kind of answer.
    #[serde(rename = "type")]
    pub kind: ResponseKind,
    /// The schema and its name; for `json_schema` only.
    pub json_schema: Option<JsonSchemaFormat>,
}

/// Kinds of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResponseKind {
    /// Any text.
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON that a schema validates.
    JsonSchema,
}

/// A JSON Schema and its name.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct JsonSchemaFormat {
    /// Not used.
    pub name: Option<String>,
    /// Not used.
    pub description: Option<String>,
    /// The schema. Without one any JSON object is an answer.
    pub schema: Option<Value>,
    /// The answer obeys the schema exactly, whether this is set or not.
    pub strict: Option<bool>,
}
