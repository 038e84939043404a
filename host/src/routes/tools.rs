use std::{collections::HashSet, sync::Arc};

use serde_json::{Map, Value, json};

use super::grammar::WantedGrammar;
use crate::{
    error::ApiError,
    grammar::{Grammar, GrammarError, Piece},
    model::LoadedModel,
    openai::{
        ChatCompletionRequest, Function, FunctionCall, FunctionCallChunk, Tool, ToolCall,
        ToolCallChunk, ToolChoice, ToolKind, ToolMode,
    },
    prompt::Dialect,
    reply::{CallPiece, Thoughts},
    tools::{self, CallRules, CallSyntax},
};

/// Longest name of a function.
const MAX_NAME: usize = 64;

/// What an answer may call, checked.
#[derive(Clone, Debug)]
pub struct Calling {
    tools: Vec<Tool>,
    mode: Mode,
    is_parallel: bool,
}

/// What an answer has to call.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Mode {
    /// What the model likes.
    Auto,
    /// At least one tool.
    Required,
    /// This tool, once.
    Named(String),
}

impl Calling {
    /// None if the model is to know of no tools.
    pub fn of(request: &ChatCompletionRequest) -> Result<Option<Self>, ApiError> {
        let tools = request.tools.clone().unwrap_or_default();
        check_tools(&tools)?;
        let mode = mode(request.tool_choice.as_ref(), &tools)?;
        Ok(mode.filter(|_| !tools.is_empty()).map(|mode| Self {
            is_parallel: request.parallel_tool_calls.unwrap_or(true)
                && !matches!(mode, Mode::Named(_)),
            tools,
            mode,
        }))
    }

    /// The tools, for the chat template.
    pub fn tools(&self) -> Result<Vec<Value>, ApiError> {
        let tools = self.tools.iter().map(serde_json::to_value);
        tools
            .collect::<Result<_, _>>()
            .map_err(|error| ApiError::internal(format!("a tool cannot be written: {error}")))
    }

    /// How a model with this dialect writes calls.
    pub fn syntax(&self, dialect: &Dialect) -> CallSyntax {
        let names = self.tools.iter().map(|tool| tool.function.name.clone());
        CallSyntax {
            format: dialect.tool_format,
            names: names.collect::<Arc<[_]>>(),
            is_parallel: self.is_parallel && dialect.has_parallel_calls,
        }
    }

    fn rules(
        &self,
        dialect: &Dialect,
        thoughts: Option<Thoughts>,
        answer: Option<Value>,
    ) -> CallRules {
        let tools = self.tools.iter().filter(|tool| match &self.mode {
            Mode::Named(name) => tool.function.name == *name,
            Mode::Auto | Mode::Required => true,
        });
        CallRules {
            format: dialect.tool_format,
            tools: tools
                .map(|tool| (tool.function.name.clone(), schema(&tool.function)))
                .collect(),
            is_forced: self.mode != Mode::Auto,
            is_parallel: self.is_parallel && dialect.has_parallel_calls,
            thoughts,
            answer,
        }
    }

    /// The grammar, if it can be followed.
    async fn checked(
        &self,
        model: &LoadedModel,
        grammar: Grammar,
    ) -> Result<WantedGrammar, ApiError> {
        let wanted = WantedGrammar {
            grammar,
            param: "tools",
        };
        match wanted.clone().compile(model).await {
            Ok(_) => Ok(wanted),
            Err(error) => Err(self.culprit(model).await.unwrap_or(error)),
        }
    }

    /// The first tool whose schema cannot be followed.
    async fn culprit(&self, model: &LoadedModel) -> Option<ApiError> {
        for (index, tool) in self.tools.iter().enumerate() {
            let grammar = Grammar::JsonSchema(schema(&tool.function));
            if let Err(GrammarError::Invalid(why)) = model.grammars.compile(grammar).await {
                let param = format!("tools[{index}].function.parameters");
                let name = &tool.function.name;
                let message = format!("'{param}', the schema of '{name}', cannot be used: {why}");
                return Some(ApiError::invalid_parameter(param, message));
            }
        }
        None
    }
}

/// What an answer must look like: as `wanted`, or, where it has to call, calls that fit the schemas of their functions.
/// Thoughts may come first. Calls that the model may make or not are as it writes them.
pub async fn grammar(
    model: &LoadedModel,
    calling: Option<&Calling>,
    thoughts: Option<Thoughts>,
    wanted: Option<WantedGrammar>,
) -> Result<Option<WantedGrammar>, ApiError> {
    match (calling.filter(|calling| calling.mode != Mode::Auto), wanted) {
        (Some(calling), wanted) => {
            let answer = wanted.map(schema_of_answers).transpose()?;
            let rules = calling.rules(model.dialect()?, thoughts, answer);
            let grammar = rules.grammar(|text| model.mark(text));
            calling.checked(model, grammar).await.map(Some)
        }
        (None, Some(wanted)) => Ok(Some(behind(thoughts, wanted, model))),
        (None, None) => Ok(None),
    }
}

/// What answers without calls look like.
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

/// JSON may come behind thoughts. Any other grammar is that of the whole text.
fn behind(thoughts: Option<Thoughts>, wanted: WantedGrammar, model: &LoadedModel) -> WantedGrammar {
    let grammar = match (thoughts, wanted.grammar) {
        (Some(thoughts), Grammar::JsonSchema(schema)) => {
            let mut pieces = tools::thoughts(&thoughts, |text| model.mark(text));
            pieces.push(Piece::Json(schema));
            Grammar::Pieces(pieces)
        }
        (_, grammar) => grammar,
    };
    WantedGrammar { grammar, ..wanted }
}

/// The schema of a function's arguments. What cannot be followed of it is left to the model, unless the function is strict.
fn schema(function: &Function) -> Value {
    let mut schema = function.parameters.clone().unwrap_or_else(no_parameters);
    schema.entry("type").or_insert_with(|| json!("object"));
    if function.strict != Some(true) {
        let options = schema.entry("x-guidance").or_insert_with(|| json!({}));
        if let Some(options) = options.as_object_mut() {
            options.entry("lenient").or_insert(json!(true));
        }
    }
    Value::Object(schema)
}

/// As OpenAI's: a function without a schema takes nothing.
fn no_parameters() -> Map<String, Value> {
    let schema = [
        ("type", json!("object")),
        ("properties", json!({})),
        ("additionalProperties", json!(false)),
    ];
    schema
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

fn check_tools(tools: &[Tool]) -> Result<(), ApiError> {
    let mut names = HashSet::new();
    for (index, tool) in tools.iter().enumerate() {
        let name = &tool.function.name;
        let param = format!("tools[{index}].function.name");
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(is_allowed) {
            let message = format!(
                "'{param}' is '{name}', but must be 1 to {MAX_NAME} letters, digits, '_', '-' and '.'"
            );
            return Err(ApiError::invalid_parameter(param, message));
        }
        let kind = tool
            .function
            .parameters
            .as_ref()
            .and_then(|schema| schema.get("type"));
        if kind.is_some_and(|kind| kind != "object") {
            let param = format!("tools[{index}].function.parameters");
            let message = format!("'{param}', the schema of '{name}', must have the type 'object'");
            return Err(ApiError::invalid_parameter(param, message));
        }
        if !names.insert(name) {
            let message =
                format!("'{param}' is '{name}', as another function is called: rename one");
            return Err(ApiError::invalid_parameter(param, message));
        }
    }
    Ok(())
}

/// None if the model is not to know of the tools.
fn mode(choice: Option<&ToolChoice>, tools: &[Tool]) -> Result<Option<Mode>, ApiError> {
    let refuse = |message: String| Err(ApiError::invalid_parameter("tool_choice", message));
    match choice {
        None | Some(ToolChoice::Mode(ToolMode::Auto)) => Ok(Some(Mode::Auto)),
        Some(ToolChoice::Mode(ToolMode::None)) => Ok(None),
        Some(ToolChoice::Mode(ToolMode::Required)) if tools.is_empty() => {
            refuse("'tool_choice' is 'required', but there are no 'tools'".to_owned())
        }
        Some(ToolChoice::Mode(ToolMode::Required)) => Ok(Some(Mode::Required)),
        Some(ToolChoice::Named(named)) => {
            let name = &named.function.name;
            match tools.iter().any(|tool| tool.function.name == *name) {
                true => Ok(Some(Mode::Named(name.clone()))),
                false => refuse(format!(
                    "'tool_choice' names '{name}', which is none of the 'tools'"
                )),
            }
        }
    }
}

/// Calls of a whole answer. None if there are none.
pub fn whole(calls: Vec<CallPiece>) -> Option<Vec<ToolCall>> {
    let calls = calls.into_iter().filter_map(|call| {
        let begin = call.begin?;
        Some(ToolCall {
            id: begin.id,
            kind: ToolKind::Function,
            function: FunctionCall {
                name: begin.name,
                arguments: call.arguments,
            },
        })
    });
    let calls: Vec<_> = calls.collect();
    (!calls.is_empty()).then_some(calls)
}

/// Pieces of calls in a stream. None if there are none.
pub fn chunks(calls: Vec<CallPiece>) -> Option<Vec<ToolCallChunk>> {
    let calls = calls.into_iter().map(|call| {
        let (id, name) = call.begin.map(|begin| (begin.id, begin.name)).unzip();
        ToolCallChunk {
            index: call.index,
            kind: id.is_some().then_some(ToolKind::Function),
            id,
            function: FunctionCallChunk {
                name,
                arguments: call.arguments,
            },
        }
    });
    let calls: Vec<_> = calls.collect();
    (!calls.is_empty()).then_some(calls)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn calling(fields: Value) -> Result<Option<Calling>, ApiError> {
        let mut body = fields;
        body["messages"] = json!([{"role": "user", "content": "Hi"}]);
        Calling::of(&serde_json::from_value(body).unwrap())
    }

    fn tools(names: &[&str]) -> Value {
        let tool = |name: &&str| json!({"type": "function", "function": {"name": name}});
        names.iter().map(tool).collect()
    }

    #[track_caller]
    fn check_refused(fields: Value, param: &str) {
        let error = calling(fields).unwrap_err().into_envelope().error;
        assert_eq!(error.param.as_deref(), Some(param), "{}", error.message);
    }

    #[test]
    fn without_tools_or_with_none_to_choose_there_is_no_calling() {
        for fields in [
            json!({}),
            json!({"tools": [], "tool_choice": "auto"}),
            json!({"tools": tools(&["f"]), "tool_choice": "none"}),
        ] {
            assert!(calling(fields.clone()).unwrap().is_none(), "{fields}");
        }
    }

    #[test]
    fn tools_reach_the_template_without_what_is_the_servers() {
        let parameters = json!({"type": "object", "properties": {"b": {}, "a": {}}});
        let function = json!({"name": "f", "description": "d", "parameters": parameters});
        let mut strict = function.clone();
        strict["strict"] = json!(true);
        let fields = json!({"tools": [{"type": "function", "function": strict}]});
        let calling = calling(fields).unwrap().unwrap();
        let expected = json!({"type": "function", "function": function});
        assert_eq!(
            calling.tools().unwrap()[0].to_string(),
            expected.to_string()
        );
    }

    #[test]
    fn wrong_tools_are_refused_by_place() {
        check_refused(
            json!({"tools": tools(&["f", "a b"])}),
            "tools[1].function.name",
        );
        check_refused(json!({"tools": tools(&[""])}), "tools[0].function.name");
        check_refused(
            json!({"tools": tools(&["f", "f"])}),
            "tools[1].function.name",
        );
        let function = json!({"name": "f", "parameters": {"type": "string"}});
        let fields = json!({"tools": [{"type": "function", "function": function}]});
        check_refused(fields, "tools[0].function.parameters");
        check_refused(json!({"tool_choice": "required"}), "tool_choice");
        let named = json!({"type": "function", "function": {"name": "g"}});
        let fields = json!({"tools": tools(&["f"]), "tool_choice": named});
        check_refused(fields, "tool_choice");
    }

    #[test]
    fn calls_are_one_after_the_other_where_the_template_or_the_request_wants_it() {
        let is_parallel = |fields: Value, has_parallel_calls| {
            let mut dialect = Dialect::default();
            dialect.has_parallel_calls = has_parallel_calls;
            calling(fields)
                .unwrap()
                .unwrap()
                .syntax(&dialect)
                .is_parallel
        };
        let tools = tools(&["f"]);
        assert!(is_parallel(json!({"tools": tools}), true));
        assert!(!is_parallel(json!({"tools": tools}), false));
        let one = json!({"tools": tools, "parallel_tool_calls": false});
        assert!(!is_parallel(one, true));
    }

    #[test]
    fn a_choice_says_what_must_be_called() {
        let rules = |choice: Value| {
            let fields = json!({"tools": tools(&["f", "g"]), "tool_choice": choice});
            let calling = calling(fields).unwrap().unwrap();
            calling.rules(&Dialect::default(), None, None)
        };
        let names = |rules: &CallRules| {
            let names = rules.tools.iter().map(|(name, _)| name.clone());
            names.collect::<Vec<_>>()
        };
        let auto = rules(json!("auto"));
        assert_eq!((auto.is_forced, auto.is_parallel), (false, true));
        let required = rules(json!("required"));
        assert_eq!((required.is_forced, required.is_parallel), (true, true));
        assert_eq!(names(&required), ["f", "g"]);
        let named = rules(json!({"type": "function", "function": {"name": "g"}}));
        assert_eq!((named.is_forced, named.is_parallel), (true, false));
        assert_eq!(names(&named), ["g"]);
    }

    #[test]
    fn schemas_are_of_objects_and_exact_only_where_that_is_asked_for() {
        let schema = |function: Value| schema(&serde_json::from_value(function).unwrap());
        let lenient = json!({"lenient": true});
        let nothing = schema(json!({"name": "f"}));
        let expected = json!({"type": "object", "properties": {}, "additionalProperties": false, "x-guidance": lenient});
        assert_eq!(nothing, expected);
        let function = json!({"name": "f", "parameters": {"required": ["a"]}, "strict": true});
        assert_eq!(
            schema(function),
            json!({"required": ["a"], "type": "object"})
        );
    }
}
