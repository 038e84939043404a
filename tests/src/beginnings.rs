//! Checks whether a text is the beginning of an answer, with llguidance alone.

use llguidance::{Matcher, ParserFactory, api::TopLevelGrammar, toktrie::ApproximateTokEnv};
use serde_json::Value;

/// Whether JSON that this schema validates may begin with `text`, with whitespace anywhere. Every byte is a token here,
/// whatever tokens the model used.
pub fn accepts_beginning(schema: &Value, text: &str) -> bool {
    let environment = ApproximateTokEnv::single_byte_env();
    let factory = ParserFactory::new_simple(&environment).expect("a factory");
    let grammar = TopLevelGrammar::from_json_schema(schema.clone());
    let mut matcher = Matcher::new(factory.create_parser(grammar));
    let bytes: Vec<u32> = text.bytes().map(u32::from).collect();
    matcher.try_consume_tokens(&bytes).ok() == Some(bytes.len())
}
