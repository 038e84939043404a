use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    error::ApiError,
    grammar::{Grammar, GrammarError, relaxed},
    models::LoadedModel,
    runner::CompiledForm,
};

/// The grammar that a request asks for, and the parameter that asks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct WantedGrammar {
    pub grammar: Grammar,
    pub param: &'static str,
    /// The schema behind the grammar, if the grammar may follow it only in part.
    pub schema: Option<LooseSchema>,
}

/// The compiled grammar of an answer.
pub struct AnswerGrammar {
    pub compiled: CompiledForm,
    /// The schema behind the grammar, if the grammar may follow it only in part.
    pub schema: Option<LooseSchema>,
}

/// A schema that answers follow as far as a grammar can express it.
#[derive(Clone, Debug, PartialEq)]
pub struct LooseSchema {
    /// The whole schema.
    pub schema: Arc<Value>,
    /// Keywords of the schema that are not in the grammar.
    pub dropped: Vec<String>,
}

impl WantedGrammar {
    /// A grammar that answers follow exactly.
    pub fn exact(grammar: Grammar, param: &'static str) -> Self {
        Self {
            grammar,
            param,
            schema: None,
        }
    }

    /// The grammar of a schema that the parameter `param` has. With `strict`, the schema is followed exactly or refused.
    pub fn of_schema(schema: Value, strict: Option<bool>, param: &'static str) -> Self {
        if strict == Some(true) {
            return Self::exact(Grammar::JsonSchema(schema), param);
        }
        let (followed, dropped) = relaxed(schema.clone());
        Self {
            grammar: Grammar::JsonSchema(followed),
            param,
            schema: Some(LooseSchema {
                schema: Arc::new(schema),
                dropped,
            }),
        }
    }

    /// Compiles the grammar.
    pub async fn compile(self, model: &LoadedModel) -> Result<AnswerGrammar, ApiError> {
        let grammar = match self.grammar {
            Grammar::Patterns(patterns) => {
                Grammar::Patterns(model.written_marks().written(patterns))
            }
            grammar => grammar,
        };
        match model.runner.compile(grammar).await {
            Ok(compiled) => Ok(AnswerGrammar {
                compiled,
                schema: self.schema,
            }),
            Err(error) => Err(refused(self.param, &format!("'{}'", self.param), &error)),
        }
    }
}

/// The error that tells the client why a grammar cannot be compiled. `subject` names the part of the request that asks for it.
pub fn refused(param: &str, subject: &str, error: &GrammarError) -> ApiError {
    match error {
        GrammarError::Busy => ApiError::try_later("grammar_busy", error.to_string()),
        GrammarError::Gone(why) => ApiError::try_later("model_unavailable", why),
        _ => ApiError::invalid_parameter(param, format!("{subject} cannot be used: {error}")),
    }
}

/// The schema of any object.
pub fn any_object() -> Value {
    json!({"type": "object"})
}
