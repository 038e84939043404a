use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    error::ApiError,
    grammar::{CompiledGrammar, Grammar, GrammarError},
    model::LoadedModel,
    openai::{
        GenerationParameters, GrammarKind, GrammarRequest, GrammarValue, JsonSchemaFormat,
        ResponseFormat, ResponseKind,
    },
};

/// What a request wants its answer to look like, and the parameter that says so.
#[derive(Clone, Debug, PartialEq)]
pub struct WantedGrammar {
    pub grammar: Grammar,
    pub param: &'static str,
}

impl WantedGrammar {
    /// None: any text.
    pub fn of(parameters: &GenerationParameters) -> Result<Option<Self>, ApiError> {
        let wanted = |grammar, param| Some(Self { grammar, param });
        match (&parameters.grammar, &parameters.response_format) {
            (Some(_), Some(_)) => Err(ApiError::invalid_parameter(
                "grammar",
                "'grammar' and 'response_format' exclude each other: send one of them",
            )),
            (Some(request), None) => Ok(wanted(grammar(request)?, "grammar")),
            (None, Some(format)) => {
                Ok(answer(format)?.and_then(|grammar| wanted(grammar, "response_format")))
            }
            (None, None) => Ok(None),
        }
    }

    /// Its compiled form.
    pub async fn compile(self, model: &LoadedModel) -> Result<Arc<CompiledGrammar>, ApiError> {
        let compiled = model.grammars.compile(self.grammar.clone()).await;
        compiled.map_err(|error| self.refused(&error))
    }

    /// What the client is told if it cannot be compiled.
    pub fn refused(&self, error: &GrammarError) -> ApiError {
        let param = self.param;
        match error {
            GrammarError::Busy => ApiError::try_later("grammar_busy", error.to_string()),
            _ => {
                let message = format!("'{param}' cannot be used: {error}");
                ApiError::invalid_parameter(param, message)
            }
        }
    }
}

fn grammar(request: &GrammarRequest) -> Result<Grammar, ApiError> {
    match (request.kind, &request.value) {
        (GrammarKind::Regex, GrammarValue::Text(text)) => Ok(Grammar::Regex(text.clone())),
        (GrammarKind::Lark, GrammarValue::Text(text)) => Ok(Grammar::Lark(text.clone())),
        (GrammarKind::JsonSchema, GrammarValue::Text(text)) => {
            let schema = serde_json::from_str(text);
            let schema = schema.map_err(|error| wrong(&format!("is not valid JSON: {error}")))?;
            Ok(Grammar::JsonSchema(schema))
        }
        (GrammarKind::JsonSchema, GrammarValue::Object(fields)) => {
            Ok(Grammar::JsonSchema(Value::Object(fields.clone())))
        }
        (GrammarKind::LlGuidance, GrammarValue::Text(text)) => {
            Ok(Grammar::LlGuidance(text.clone()))
        }
        (GrammarKind::LlGuidance, GrammarValue::Object(fields)) => {
            Ok(Grammar::LlGuidance(json!(fields).to_string()))
        }
        (GrammarKind::Regex | GrammarKind::Lark, GrammarValue::Object(_)) => {
            Err(wrong("must be a string for this type of grammar"))
        }
    }
}

fn wrong(why: &str) -> ApiError {
    ApiError::invalid_parameter("grammar.value", format!("'grammar.value' {why}"))
}

/// What a `response_format` asks for. None: any text.
fn answer(format: &ResponseFormat) -> Result<Option<Grammar>, ApiError> {
    match (format.kind, &format.json_schema) {
        (ResponseKind::Text, _) => Ok(None),
        (ResponseKind::JsonObject, _) => Ok(Some(any_object())),
        (ResponseKind::JsonSchema, Some(format)) => Ok(Some(schema(format))),
        (ResponseKind::JsonSchema, None) => {
            let param = "response_format.json_schema";
            let message = format!("'{param}' is missing");
            Err(ApiError::invalid_parameter(param, message))
        }
    }
}

fn schema(format: &JsonSchemaFormat) -> Grammar {
    match &format.schema {
        Some(schema) => Grammar::JsonSchema(schema.clone()),
        None => any_object(),
    }
}

fn any_object() -> Grammar {
    Grammar::JsonSchema(json!({"type": "object"}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(fields: Value) -> Result<Option<WantedGrammar>, ApiError> {
        WantedGrammar::of(&serde_json::from_value(fields).unwrap())
    }

    #[track_caller]
    fn check(fields: Value, expected: Grammar, param: &str) {
        let wanted = wanted(fields).unwrap().unwrap();
        assert_eq!(wanted.grammar, expected);
        assert_eq!(wanted.param, param);
    }

    #[test]
    fn each_way_to_ask_for_a_grammar_is_read() {
        let schema = json!({"type": "integer"});
        let expected = Grammar::JsonSchema(schema.clone());
        for value in [schema.clone(), json!(schema.to_string())] {
            let fields = json!({"grammar": {"type": "json_schema", "value": value}});
            check(fields, expected.clone(), "grammar");
        }
        let fields = json!({"response_format": {
            "type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": true},
        }});
        check(fields, expected, "response_format");
        let fields = json!({"response_format": {"type": "json_object"}});
        check(fields, any_object(), "response_format");
        let fields = json!({"grammar": {"type": "regex", "value": "a+"}});
        check(fields, Grammar::Regex("a+".into()), "grammar");
        let fields = json!({"grammar": {"type": "lark", "value": "start: \"a\""}});
        check(fields, Grammar::Lark("start: \"a\"".into()), "grammar");
        let fields = json!({"grammar": {"type": "llguidance", "value": {"grammars": []}}});
        let expected = Grammar::LlGuidance(r#"{"grammars":[]}"#.into());
        check(fields, expected, "grammar");
    }

    #[test]
    fn none_is_none() {
        for fields in [
            json!({}),
            json!({"grammar": null, "response_format": null}),
            json!({"response_format": {"type": "text"}}),
        ] {
            assert_eq!(wanted(fields).unwrap(), None);
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for fields in [
            json!({"grammar": {"type": "regex", "value": "a"}, "response_format": {"type": "json_object"}}),
            json!({"grammar": {"type": "regex", "value": "a"}, "response_format": {"type": "text"}}),
            json!({"grammar": {"type": "regex", "value": {}}}),
            json!({"grammar": {"type": "json_schema", "value": "{"}}),
            json!({"response_format": {"type": "json_schema"}}),
        ] {
            let error = wanted(fields.clone()).unwrap_err().into_envelope().error;
            let param = error.param.unwrap();
            assert!(
                error.message.contains(&format!("'{param}'")),
                "{fields}: {}",
                error.message
            );
        }
    }
}
