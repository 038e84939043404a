use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use jsonschema::{PatternOptions, error::ValidationErrorKind};
use serde_json::Value;
use tokio::{sync::Semaphore, task::block_in_place};

use super::{
    super::blocking::blocking,
    grammar::{AnswerGrammar, LooseSchema},
};
use crate::{
    engine::FinishReason,
    error::ApiError,
    reply::{AnswerPiece, End},
    system::niceness::give_way,
};

/// Most answers that are checked at the same time.
const MAX_CHECKS: usize = 8;
/// Longest time that an answer waits for its check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// Most steps back of a pattern with look-around in one text.
const MAX_BACKTRACKS: usize = 10_000;

/// Warnings to the client about its request and the answers.
#[derive(Default)]
pub struct Warnings {
    /// Warnings about the request.
    request: Vec<String>,
    check: Option<AnswerCheck>,
}

/// Checks answers against a schema that the grammar follows only in part.
struct AnswerCheck {
    /// Keywords that the grammar lacks.
    keywords: Vec<String>,
    /// The schema's validator, or why there is none.
    validator: Result<Arc<jsonschema::Validator>, String>,
}

impl Warnings {
    /// Warnings about this request, and about answers that follow this grammar.
    pub async fn new(
        request: Vec<String>,
        grammar: Option<&AnswerGrammar>,
    ) -> Result<Self, ApiError> {
        let check = match grammar {
            Some(grammar) => AnswerCheck::of(grammar).await?,
            None => None,
        };
        Ok(Self { request, check })
    }

    /// Whether the warnings depend on the text of answers.
    pub fn want_text(&self) -> bool {
        self.check.is_some()
    }

    /// The warnings about the answer with this index. The first answer also has those about the request.
    pub fn of(&self, index: u32, answer: &AnswerPiece, end: &End) -> Vec<String> {
        let request = self.request.iter().filter(|_| index == 0).cloned();
        // An answer with tool calls is not checked.
        let check = self.check.as_ref().filter(|_| answer.calls.is_empty());
        let warning = check.map(|check| format!("answer {index}: {}", check.warning(answer, end)));
        request.chain(warning).collect()
    }
}

impl AnswerCheck {
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

    fn warning(&self, answer: &AnswerPiece, end: &End) -> String {
        let keywords = self.keywords.join("', '");
        let begin = format!("'{keywords}' of the schema could not be enforced");
        let validator = match &self.validator {
            Ok(validator) => validator,
            Err(error) => return format!("{begin}, and the answer could not be checked: {error}"),
        };
        if end.reason == FinishReason::Length {
            return format!("{begin}, and the answer was cut off before it could be checked");
        }
        let checked = serde_json::from_str(&answer.text).map_err(|error| error.to_string());
        match checked.and_then(|value| check(validator, value)) {
            Ok(Ok(())) => format!("{begin}, but the answer obeys it all the same"),
            Ok(Err(why)) => format!("{begin}, and the answer does not obey it: {why}"),
            Err(error) => format!("{begin}, and the answer could not be checked: {error}"),
        }
    }
}

/// Whether a value obeys a schema, and why not. A schema may make this check very slow, so it runs on a thread of its own with low
/// priority, and the caller's other work moves to another thread meanwhile.
///
/// # Errors
/// Why the check has no result.
fn check(
    validator: &Arc<jsonschema::Validator>,
    value: Value,
) -> Result<Result<(), String>, String> {
    static CHECKS: Semaphore = Semaphore::const_new(MAX_CHECKS);
    let busy = "too many answers are being checked";
    let permit = CHECKS.try_acquire().map_err(|_| busy)?;
    let (validator, (sender, checked)) = (validator.clone(), mpsc::channel());
    let work = move || {
        give_way();
        let checked = validate(&validator, &value);
        drop(permit);
        // The caller may have given up.
        let _ = sender.send(checked);
    };
    let thread = thread::Builder::new().name("schema".into()).spawn(work);
    thread.map_err(|error| error.to_string())?;
    block_in_place(|| checked.recv_timeout(CHECK_TIMEOUT))
        .map_err(|_| "that took too long".to_owned())?
}

fn validate(
    validator: &jsonschema::Validator,
    value: &Value,
) -> Result<Result<(), String>, String> {
    match validator.validate(value) {
        Ok(()) => Ok(Ok(())),
        Err(error)
            if matches!(
                error.kind(),
                ValidationErrorKind::BacktrackLimitExceeded { .. }
            ) =>
        {
            Err(error.to_string())
        }
        Err(error) => Ok(Err(format!("{error} at '{}'", error.instance_path()))),
    }
}

/// A validator that does not check formats: they are annotations, and the grammar enforces the known ones.
fn validator(schema: &Value) -> Result<Arc<jsonschema::Validator>, String> {
    let patterns = PatternOptions::fancy_regex().backtrack_limit(MAX_BACKTRACKS);
    let options = jsonschema::options()
        .should_validate_formats(false)
        .with_pattern_options(patterns);
    let validator = options.build(schema);
    validator.map(Arc::new).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn checked(schema: Value, value: Value) -> Result<Result<(), String>, String> {
        check(&validator(&schema).unwrap(), value)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_check_that_takes_long_is_given_up() {
        let positive = json!({"minimum": 1});
        assert_eq!(checked(positive.clone(), json!(1)), Ok(Ok(())));
        let why = checked(positive, json!(0)).unwrap().unwrap_err();
        assert!(why.contains("less than the minimum"), "{why}");

        let backtracking = json!({"pattern": r"^(a|a)*\1b"});
        let why = checked(backtracking, json!("a".repeat(50) + "!"));
        assert!(
            why.as_ref().is_err_and(|why| why.contains("backtracking")),
            "{why:?}"
        );

        // Each definition is visited twice as often as the one before it.
        let twice = |at: u32| {
            json!({"allOf": [
                {"$ref": format!("#/$defs/{}", at + 1)},
                {"$ref": format!("#/$defs/{}", at + 1)},
            ]})
        };
        let mut schema = twice(0);
        for at in 1..60 {
            schema["$defs"][at.to_string()] = twice(at);
        }
        schema["$defs"]["60"] = json!({"type": "integer"});
        assert_eq!(
            checked(schema, json!(1)),
            Err("that took too long".to_owned())
        );
    }
}
