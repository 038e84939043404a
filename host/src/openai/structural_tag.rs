use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

/// A format of xgrammar's structural tags: the form of a part of an answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum TagFormat {
    /// Exactly this text.
    ConstString { value: String },
    /// JSON that a schema validates. Keywords that grammars cannot follow are ignored.
    JsonSchema {
        json_schema: Value,
        #[serde(default)]
        style: SchemaStyle,
        /// Must be false: members come in the schema's order.
        #[serde(default)]
        any_order: bool,
        /// Must be absent.
        max_whitespace_cnt: Option<u32>,
        /// Must be empty.
        #[serde(default)]
        excludes: Vec<String>,
    },
    /// Arguments in Qwen's notation: the older name of `json_schema` with the style `qwen_xml`.
    QwenXmlParameter { json_schema: Value },
    /// Text that matches a regular expression.
    Regex { pattern: String },
    /// Text that fits a grammar in EBNF, as xgrammar and llama.cpp write it (GBNF).
    Grammar { grammar: String },
    /// Any text that contains none of the `excludes`. Within a tag it also ends before the tag's `end`.
    AnyText {
        #[serde(default)]
        excludes: Vec<String>,
        /// Most characters of the text.
        max_chars: Option<u32>,
        /// Must be absent.
        max_tokens: Option<u32>,
    },
    /// All elements, in order. Text without an end of its own must be the last one, or exclude a `const_string` that follows it.
    Sequence { elements: Vec<TagFormat> },
    /// One of the elements.
    Or { elements: Vec<TagFormat> },
    /// The content, or nothing.
    Optional { content: Box<TagFormat> },
    /// The content, once or more.
    Plus { content: Box<TagFormat> },
    /// The content, any number of times.
    Star { content: Box<TagFormat> },
    /// The content, from `min` to `max` times. A `max` of -1 is no limit.
    Repeat {
        min: u32,
        max: i64,
        content: Box<TagFormat>,
    },
    /// Content between two texts.
    Tag(TagOfFormat),
    /// Text in which a tag follows each trigger.
    TriggeredTags {
        triggers: Vec<String>,
        tags: Vec<TagOfFormat>,
        /// Whether the text begins with a tag.
        #[serde(default)]
        at_least_one: bool,
        /// Whether the text ends with the first tag.
        #[serde(default)]
        stop_after_first: bool,
        #[serde(default)]
        excludes: Vec<String>,
    },
    /// Text in which the format of a rule follows the rule's text.
    Dispatch {
        rules: Vec<(String, TagFormat)>,
        /// Whether text may follow such a format, and another one.
        #[serde(default = "yes", rename = "loop")]
        is_loop: bool,
        #[serde(default)]
        excludes: Vec<String>,
    },
    /// Tags with separators between them.
    TagsWithSeparator {
        tags: Vec<TagOfFormat>,
        separator: String,
        #[serde(default)]
        at_least_one: bool,
        #[serde(default)]
        stop_after_first: bool,
    },
}

fn yes() -> bool {
    true
}

/// The notation of a value that a schema describes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchemaStyle {
    /// As JSON.
    #[default]
    Json,
    /// As `<parameter=a>1</parameter>`.
    QwenXml,
    /// As `<parameter name="a">1</parameter>`.
    MinimaxXml,
    /// As `<arg_key>a</arg_key><arg_value>1</arg_value>`.
    GlmXml,
}

/// Content between two texts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TagOfFormat {
    /// `tag`, or absent.
    #[serde(rename = "type")]
    pub kind: Option<TagKind>,
    /// The text before the content.
    pub begin: String,
    /// The content.
    pub content: Box<TagFormat>,
    /// The text after the content, or several texts, one of which follows the content.
    pub end: TagEnd,
}

/// The `type` of a tag.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TagKind {
    /// The only `type`.
    Tag,
}

/// The text after the content of a tag.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub enum TagEnd {
    /// This text.
    One(String),
    /// One of these texts.
    Many(Vec<String>),
}

/// A tag in the older form of structural tags.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct Structure {
    /// The text before the JSON.
    pub begin: String,
    /// The schema of the JSON.
    pub schema: Value,
    /// The text after the JSON.
    pub end: String,
}
