use serde_json::Value;

use super::{
    super::blocking::blocking,
    grammar::{AnswerGrammar, LooseSchema},
};
use crate::{
    engine::FinishReason,
    error::ApiError,
    reply::{AnswerPiece, End},
};

/// Warnings to the client about its request and the answers.
#[derive(Default)]
pub struct Warnings {
    /// Warnings about the request.
    request: Vec<String>,
    judge: Option<Judge>,
}

/// Checks answers against a schema that the grammar follows only in part.
struct Judge {
    /// Keywords that the grammar lacks.
    keywords: Vec<String>,
    /// The schema's validator, or why there is none.
    validator: Result<jsonschema::Validator, String>,
}

impl Warnings {
    /// Warnings about this request, and about answers that follow this grammar.
    pub async fn new(
        request: Vec<String>,
        grammar: Option<&AnswerGrammar>,
    ) -> Result<Self, ApiError> {
        let judge = match grammar {
            Some(grammar) => Judge::of(grammar).await?,
            None => None,
        };
        Ok(Self { request, judge })
    }

    /// Whether the warnings depend on the text of answers.
    pub fn want_text(&self) -> bool {
        self.judge.is_some()
    }

    /// The warnings about the answer with this index. The first answer also has those about the request.
    pub fn of(&self, index: u32, answer: &AnswerPiece, end: &End) -> Vec<String> {
        let request = self.request.iter().filter(|_| index == 0).cloned();
        // An answer with tool calls is not checked.
        let judge = self.judge.as_ref().filter(|_| answer.calls.is_empty());
        let judged = judge.map(|judge| format!("answer {index}: {}", judge.judge(answer, end)));
        request.chain(judged).collect()
    }
}

impl Judge {
    /// None if the grammar follows the whole schema, or has none.
    async fn of(grammar: &AnswerGrammar) -> Result<Option<Self>, ApiError> {
        let Some(LooseSchema { schema, dropped }) = &grammar.schema else {
            return Ok(None);
        };
        let mut keywords = [&dropped[..], &grammar.compiled.unenforced].concat();
        keywords.sort_unstable();
        keywords.dedup();
        if keywords.is_empty() {
            return Ok(None);
        }
        let schema = schema.clone();
        let validator = blocking(move || Ok::<_, ApiError>(validator(&schema))).await?;
        Ok(Some(Self {
            keywords,
            validator,
        }))
    }

    fn judge(&self, answer: &AnswerPiece, end: &End) -> String {
        let keywords = self.keywords.join("', '");
        let begin = format!("'{keywords}' of the schema could not be enforced");
        let validator = match &self.validator {
            Ok(validator) => validator,
            Err(error) => return format!("{begin}, and the answer could not be checked: {error}"),
        };
        if end.reason == FinishReason::Length {
            return format!("{begin}, and the answer was cut off before it could be checked");
        }
        let value: Value = match serde_json::from_str(&answer.text) {
            Ok(value) => value,
            Err(error) => return format!("{begin}, and the answer could not be checked: {error}"),
        };
        match validator.validate(&value) {
            Ok(()) => format!("{begin}, but the answer obeys it all the same"),
            Err(error) => {
                let place = error.instance_path();
                format!("{begin}, and the answer does not obey it: {error} at '{place}'")
            }
        }
    }
}

/// A validator that does not check formats: they are annotations, and the grammar enforces the known ones.
fn validator(schema: &Value) -> Result<jsonschema::Validator, String> {
    let options = jsonschema::options().should_validate_formats(false);
    options.build(schema).map_err(|error| error.to_string())
}
