//! The body of a request.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// How to answer.
#[derive(Args, Default)]
pub struct SamplingArgs {
    /// Most tokens of an answer [default: to the end of the context].
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,
    /// How freely tokens are chosen; 0 takes the most likely ones [default: what the model's makers recommend].
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// The same seed gives the same answer.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// The form that an answer must have.
#[derive(Args, Default)]
pub struct FormArgs {
    /// A JSON Schema that the answer must obey.
    #[arg(long, value_name = "FILE", conflicts_with = "grammar")]
    json_schema: Option<PathBuf>,
    /// A grammar that the answer must obey: a file that ends in .lark, .gbnf or .regex.
    #[arg(long, value_name = "FILE")]
    grammar: Option<PathBuf>,
}

/// A message of a conversation.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Message {
    pub role: String,
    pub content: String,
}

impl Message {
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        Self {
            role: role.to_owned(),
            content: content.into(),
        }
    }
}

impl SamplingArgs {
    /// The body of a request for a streamed answer to these messages.
    pub fn body(&self, model: &str, messages: &[Message]) -> Map<String, Value> {
        let body = json!({
            "model": model,
            "messages": messages,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        match body {
            Value::Object(body) => body,
            _ => Map::new(),
        }
    }
}

impl FormArgs {
    /// Adds the form to a request.
    pub fn add_to(&self, body: &mut Map<String, Value>) -> anyhow::Result<()> {
        if let Some(path) = &self.json_schema {
            let schema: Value = serde_json::from_str(&read(path)?)
                .with_context(|| format!("{} is no JSON", path.display()))?;
            let format = json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": true}});
            body.insert("response_format".to_owned(), format);
        }
        if let Some(path) = &self.grammar {
            let kind = grammar_type(path)?;
            let grammar = json!({"type": kind, "value": read(path)?.trim_end()});
            body.insert("grammar".to_owned(), grammar);
        }
        Ok(())
    }
}

fn grammar_type(path: &Path) -> anyhow::Result<&str> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    match extension {
        Some(kind @ ("lark" | "gbnf" | "regex")) => Ok(kind),
        _ => bail!(
            "{} must end in .lark, .gbnf or .regex, which says how the grammar is written",
            path.display()
        ),
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_name_says_how_a_grammar_is_written() {
        assert_eq!(grammar_type(Path::new("a.b.lark")).unwrap(), "lark");
        for path in ["lark", "a.txt", "a."] {
            let error = grammar_type(Path::new(path)).unwrap_err().to_string();
            assert!(error.contains(".lark, .gbnf or .regex"), "{error}");
        }
    }
}
