//! Reads the grammar that a request asks for.

use serde_json::{Value, json};

use super::{
    super::generation::{WantedGrammar, any_object},
    structural_tag,
};
use crate::{
    error::ApiError,
    grammar::Grammar,
    openai::{
        GenerationParameters, GrammarKind, GrammarRequest, GrammarValue, ResponseFormat,
        ResponseKind, TaggedGrammar,
    },
};

/// The beginning of a Lark grammar. Clients of llama-server send such grammars in the place of GBNF.
const LARK_MARK: &str = "%llguidance";

/// Reads the grammar of a request. None if any text is allowed.
pub fn wanted(parameters: &GenerationParameters) -> Result<Option<WantedGrammar>, ApiError> {
    match (&parameters.grammar, &parameters.response_format) {
        (Some(_), Some(_)) => Err(ApiError::invalid_parameter(
            "grammar",
            "'grammar' and 'response_format' exclude each other: send one of them",
        )),
        (Some(GrammarRequest::Gbnf(text)), None) => Ok(gbnf(text)),
        (Some(GrammarRequest::Tagged(tagged)), None) => grammar(tagged).map(Some),
        (None, Some(format)) => answer(format),
        (None, None) => Ok(None),
    }
}

/// Reads `grammar` as llama-server's clients send it. None if any text is allowed.
fn gbnf(text: &str) -> Option<WantedGrammar> {
    let grammar = match text.trim_start() {
        "" => return None,
        lark if lark.starts_with(LARK_MARK) => Grammar::Lark(text.to_owned()),
        _ => Grammar::Gbnf(text.to_owned()),
    };
    Some(WantedGrammar::exact(grammar, "grammar"))
}

fn grammar(request: &TaggedGrammar) -> Result<WantedGrammar, ApiError> {
    let grammar = match (request.kind, &request.value) {
        (GrammarKind::JsonSchema, value) => {
            let schema = schema_value(value)?;
            return Ok(WantedGrammar::of_schema(schema, request.strict, "grammar"));
        }
        (GrammarKind::Regex, GrammarValue::Text(text)) => Grammar::Regex(text.clone()),
        (GrammarKind::Lark, GrammarValue::Text(text)) => Grammar::Lark(text.clone()),
        (GrammarKind::Gbnf, GrammarValue::Text(text)) => Grammar::Gbnf(text.clone()),
        (GrammarKind::LlGuidance, GrammarValue::Text(text)) => Grammar::LlGuidance(text.clone()),
        (GrammarKind::LlGuidance, GrammarValue::Object(fields)) => {
            Grammar::LlGuidance(json!(fields).to_string())
        }
        (_, GrammarValue::Object(_)) => {
            return Err(wrong("must be a string for this type of grammar"));
        }
    };
    Ok(WantedGrammar::exact(grammar, "grammar"))
}

fn schema_value(value: &GrammarValue) -> Result<Value, ApiError> {
    match value {
        GrammarValue::Object(fields) => Ok(Value::Object(fields.clone())),
        GrammarValue::Text(text) => serde_json::from_str(text)
            .map_err(|error| wrong(&format!("is not valid JSON: {error}"))),
    }
}

fn wrong(why: &str) -> ApiError {
    ApiError::invalid_parameter("grammar.value", format!("'grammar.value' {why}"))
}

/// Reads a `response_format`. None if any text is allowed.
fn answer(format: &ResponseFormat) -> Result<Option<WantedGrammar>, ApiError> {
    let nested = format.json_schema.as_ref();
    let strict = nested.and_then(|nested| nested.strict);
    let nested_schema = nested.and_then(|nested| nested.schema.as_ref());
    let schema = match format.kind {
        ResponseKind::Text => return Ok(None),
        ResponseKind::JsonObject => format.schema.as_ref(),
        ResponseKind::JsonSchema if nested.is_none() && format.schema.is_none() => {
            let param = "response_format.json_schema";
            let message = format!("'{param}' is missing");
            return Err(ApiError::invalid_parameter(param, message));
        }
        ResponseKind::JsonSchema => nested_schema.or(format.schema.as_ref()),
        ResponseKind::StructuralTag => return structural_tag(format).map(Some),
    };
    let schema = schema.cloned().unwrap_or_else(any_object);
    Ok(Some(WantedGrammar::of_schema(
        schema,
        strict,
        "response_format",
    )))
}

fn structural_tag(format: &ResponseFormat) -> Result<WantedGrammar, ApiError> {
    let refuse = |why: &str| {
        let message = format!("'response_format' cannot be used: {why}");
        ApiError::invalid_parameter("response_format", message)
    };
    let older = || {
        let (tags, triggers) = (format.structures.clone()?, format.triggers.clone()?);
        Some(structural_tag::of_structures(tags, triggers))
    };
    let format = format.format.clone().or_else(older);
    let format = format.ok_or_else(|| refuse("a 'structural_tag' needs its 'format'"))?;
    let patterns = structural_tag::patterns(&format).map_err(|why| refuse(&why))?;
    Ok(WantedGrammar::exact(
        Grammar::Patterns(patterns),
        "response_format",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::{Pattern, relaxed};

    fn wanted(fields: Value) -> Result<Option<WantedGrammar>, ApiError> {
        super::wanted(&serde_json::from_value(fields).unwrap())
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
        let loose = |schema: &Value| Grammar::JsonSchema(relaxed(schema.clone()).0);
        let expected = loose(&schema);
        for value in [schema.clone(), json!(schema.to_string())] {
            let fields = json!({"grammar": {"type": "json_schema", "value": value}});
            check(fields, expected.clone(), "grammar");
        }
        let fields = json!({"response_format": {
            "type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": true},
        }});
        let exact = Grammar::JsonSchema(schema.clone());
        check(fields, exact, "response_format");
        for kind in ["json_object", "json_schema"] {
            let fields = json!({"response_format": {"type": kind, "schema": schema}});
            check(fields, expected.clone(), "response_format");
        }
        let fields = json!({"response_format": {"type": "json_object"}});
        check(fields, loose(&any_object()), "response_format");
        for fields in [
            json!({"grammar": "root ::= \"a\""}),
            json!({"grammar": {"type": "gbnf", "value": "root ::= \"a\""}}),
        ] {
            check(fields, Grammar::Gbnf("root ::= \"a\"".into()), "grammar");
        }
        let lark = "%llguidance {}\nstart: \"a\"";
        let fields = json!({"grammar": lark});
        check(fields, Grammar::Lark(lark.into()), "grammar");
        let tag = json!({"type": "const_string", "value": "a"});
        let fields = json!({"response_format": {"type": "structural_tag", "format": tag}});
        let expected = Grammar::Patterns(vec![Pattern::Text("a".to_owned())]);
        check(fields, expected, "response_format");
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
            json!({"grammar": " \n"}),
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
            json!({"response_format": {"type": "structural_tag"}}),
            json!({"response_format": {"type": "structural_tag", "format": {"type": "or", "elements": []}}}),
        ] {
            let error = wanted(fields.clone()).unwrap_err().into_envelope().error;
            let (param, message) = (error.param.unwrap(), error.message);
            let named = format!("'{param}'");
            assert!(message.contains(&named), "{fields}: {message}");
        }
    }
}
