//! The grammar of an answer to a chat.

use serde_json::Value;

use super::{
    super::generation::{AnswerGrammar, WantedGrammar, refused},
    tools::{Calling, any_arguments},
};
use crate::{
    error::ApiError,
    grammar::{Grammar, GrammarError, Pattern},
    markup::{CallRules, Callable, Demand, Reasoning},
    models::LoadedModel,
    runner::CompiledForm,
    tools::{self, AnswerRules, Marks},
};

/// The grammar of an answer to a chat.
pub struct ChatGrammar {
    /// None: any text is allowed.
    pub answer: Option<AnswerGrammar>,
    /// What the grammar lacks of the schemas of functions, in sentences.
    pub unbound: Vec<String>,
}

/// Compiles the grammar of an answer: optional reasoning, then any text or the `wanted` grammar, and calls that fit the schemas
/// of their functions. If the schema of a function cannot be followed, the function's arguments are
/// not constrained. If the schemas together cannot be compiled and calls are optional, any text is allowed.
pub async fn grammar(
    model: &LoadedModel,
    calling: Option<&Calling>,
    reasoning: Option<Reasoning>,
    wanted: Option<WantedGrammar>,
) -> Result<ChatGrammar, ApiError> {
    let answer = match (calling, wanted) {
        (Some(calling), wanted) => return with_calls(model, calling, reasoning, wanted).await,
        (None, Some(wanted)) => {
            let wanted = behind(reasoning, wanted, model);
            Some(wanted.compile(model).await?)
        }
        (None, None) => None,
    };
    Ok(ChatGrammar {
        answer,
        unbound: Vec::new(),
    })
}

async fn with_calls(
    model: &LoadedModel,
    calling: &Calling,
    reasoning: Option<Reasoning>,
    wanted: Option<WantedGrammar>,
) -> Result<ChatGrammar, ApiError> {
    let schema = wanted.as_ref().and_then(|wanted| wanted.schema.clone());
    let answer = wanted.map(schema_of_answers).transpose()?;
    let is_free = calling.is_free() && answer.is_none();
    let mut rules = AnswerRules {
        calls: calling.rules(model.capabilities()?),
        reasoning,
        answer,
    };
    let marks = model.written_marks();
    let bound = |compiled: CompiledForm, mut unbound: Vec<String>| {
        // Otherwise each answer has a warning about these keywords.
        if schema.is_none() && !compiled.unenforced.is_empty() {
            let keywords = compiled.unenforced.join("', '");
            unbound.push(format!(
                "'{keywords}' in the schemas of 'tools' could not be enforced"
            ));
        }
        let answer = Some(AnswerGrammar { compiled, schema });
        Ok(ChatGrammar { answer, unbound })
    };
    let refuse = |error| Err(refused("tools", "'tools'", error));
    match compile(&rules, model, &marks).await {
        Ok(compiled) => return bound(compiled, Vec::new()),
        Err(error) if error.is_passing() => return refuse(&error),
        Err(_) => {}
    }
    let unbound = loosen(calling, &mut rules.calls, model, &marks).await?;
    match compile(&rules, model, &marks).await {
        Ok(compiled) => bound(compiled, unbound),
        Err(why) if !why.is_passing() && is_free => {
            let why = why.kind();
            tracing::info!(why, "calls are not bound to the schemas of their functions");
            let why = "the schemas of 'tools' could not be followed together, so calls may have any arguments";
            Ok(ChatGrammar {
                answer: None,
                unbound: vec![why.to_owned()],
            })
        }
        Err(error) => refuse(&error),
    }
}

/// Removes the schemas that cannot be followed from the rules. Calls of those functions then have any arguments. Returns a sentence
/// for each of them.
///
/// # Errors
/// Such a schema belongs to a strict function, a second schema takes too long, or no grammar can be compiled at the
/// moment.
async fn loosen(
    calling: &Calling,
    rules: &mut CallRules,
    model: &LoadedModel,
    marks: &Marks,
) -> Result<Vec<String>, ApiError> {
    let mut unbound = Vec::new();
    let mut slow = 0;
    let mut functions = rules.functions.to_vec();
    for offered in &calling.tools {
        let name = &offered.tool.name;
        let Some(function) = functions.iter_mut().find(|known| known.name == *name) else {
            continue;
        };
        let Err(why) = follow(function, rules, model, marks).await else {
            continue;
        };
        slow += u32::from(matches!(why, GrammarError::Timeout(_)));
        // A slow schema holds up other grammars until the time limit for compiling.
        let is_too_slow = slow > 1;
        let param = format!("{}.{}", offered.place, offered.schema);
        if offered.tool.is_strict || why.is_passing() || is_too_slow {
            let subject = format!("'{param}', the schema of '{name}',");
            return Err(refused(&param, &subject, &why));
        }
        // The text of the error, and the function's name, are the client's own.
        let why = why.kind();
        tracing::info!(param, why, "calls are not bound to their function's schema");
        function.parameters = any_arguments();
        unbound.push(format!(
            "'{param}', the schema of '{name}', could not be followed, so calls may have any arguments"
        ));
    }
    rules.functions = functions.into();
    Ok(unbound)
}

/// Checks that a grammar can follow the schema of a function.
async fn follow(
    function: &Callable,
    rules: &CallRules,
    model: &LoadedModel,
    marks: &Marks,
) -> Result<(), GrammarError> {
    let schema = Grammar::JsonSchema(function.parameters.clone());
    model.runner.compile(schema).await?;
    let call = AnswerRules {
        calls: CallRules {
            functions: [function.clone()].into(),
            is_parallel: false,
            demand: Demand::Any,
            ..*rules
        },
        reasoning: None,
        answer: None,
    };
    compile(&call, model, marks).await.map(drop)
}

async fn compile(
    rules: &AnswerRules,
    model: &LoadedModel,
    marks: &Marks,
) -> Result<CompiledForm, GrammarError> {
    model.runner.compile(rules.grammar(marks)?).await
}

/// The schema of answers without calls.
fn schema_of_answers(wanted: WantedGrammar) -> Result<Value, ApiError> {
    match wanted.grammar {
        Grammar::JsonSchema(schema) => Ok(schema),
        _ => {
            let param = wanted.param;
            let message = format!(
                "'{param}' and 'tools' exclude each other, unless it is a JSON Schema: send one of them"
            );
            Err(ApiError::invalid_parameter(param, message))
        }
    }
}

/// Allows reasoning before JSON and structural tags. Any other grammar describes the whole text, including reasoning.
fn behind(
    reasoning: Option<Reasoning>,
    wanted: WantedGrammar,
    model: &LoadedModel,
) -> WantedGrammar {
    let grammar = match (reasoning, wanted.grammar) {
        (Some(reasoning), Grammar::JsonSchema(schema)) => {
            let mut patterns = tools::before_answer(&reasoning, &model.written_marks());
            patterns.push(Pattern::Json(schema));
            Grammar::Patterns(patterns)
        }
        (Some(reasoning), Grammar::Patterns(answer)) => {
            let before = tools::before_answer(&reasoning, &model.written_marks());
            Grammar::Patterns([before, answer].concat())
        }
        (_, grammar) => grammar,
    };
    WantedGrammar { grammar, ..wanted }
}
