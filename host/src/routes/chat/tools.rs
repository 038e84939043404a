use std::{collections::HashSet, sync::Arc};

use serde_json::{Value, json};

use super::super::generation::{WantedGrammar, any_object, refused};
use crate::{
    error::ApiError,
    grammar::{Grammar, GrammarError, Piece},
    markup::{CallPiece, CallSyntax, Callable, Demand, Reasoning, ToolFormat},
    models::LoadedModel,
    openai::{
        ChatCompletionRequest, Function, FunctionCall, FunctionCallChunk, Tool, ToolCall,
        ToolCallChunk, ToolChoice, ToolKind, ToolMode,
    },
    prompt::TemplateCapabilities,
    tools::{self, CallRules},
};

/// Longest name of a function.
const MAX_NAME: usize = 64;

/// The tools that an answer may call, checked.
#[derive(Clone, Debug)]
pub struct Calling {
    tools: Vec<Tool>,
    mode: Mode,
    is_parallel: bool,
}

/// Which tool calls an answer must have.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Mode {
    /// None: the model decides.
    Auto,
    /// At least one tool.
    Required,
    /// This tool, once.
    Named(String),
}

impl Mode {
    fn demand(&self) -> Demand {
        match self {
            Self::Auto => Demand::Nothing,
            Self::Required => Demand::Any,
            Self::Named(_) => Demand::Named,
        }
    }
}

impl Calling {
    /// Reads the tools of a request. None if the model does not get to know any.
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

    /// The tools as the chat template gets them.
    pub fn tools(&self) -> Result<Vec<Value>, ApiError> {
        let tools = self.tools.iter().map(serde_json::to_value);
        tools
            .collect::<Result<_, _>>()
            .map_err(|error| ApiError::internal(format!("a tool cannot be written: {error}")))
    }

    /// The syntax of tool calls of a model with this dialect.
    pub fn syntax(&self, dialect: &TemplateCapabilities) -> CallSyntax {
        let functions = self.tools.iter().map(|tool| callable(&tool.function));
        CallSyntax {
            format: dialect.tool_format,
            functions: functions.collect::<Arc<[_]>>(),
            is_parallel: self.is_parallel && dialect.has_parallel_calls,
            demand: self.mode.demand(),
        }
    }

    fn rules(
        &self,
        dialect: &TemplateCapabilities,
        thoughts: Option<Reasoning>,
        answer: Option<Value>,
    ) -> CallRules {
        let tools = self.tools.iter().filter(|tool| match &self.mode {
            Mode::Named(name) => tool.function.name == *name,
            Mode::Auto | Mode::Required => true,
        });
        CallRules {
            format: dialect.tool_format,
            functions: tools.map(|tool| callable(&tool.function)).collect(),
            is_forced: self.mode != Mode::Auto,
            is_parallel: self.is_parallel && dialect.has_parallel_calls,
            thoughts,
            answer,
        }
    }

    /// Whether answers may do without the grammar: none has to call a tool, and no function is strict.
    fn is_free(&self) -> bool {
        let is_strict = |tool: &Tool| tool.function.strict == Some(true);
        self.mode == Mode::Auto && !self.tools.iter().any(is_strict)
    }

    /// Removes the schemas that cannot be followed from the rules. Calls of those functions then have any arguments.
    ///
    /// # Errors
    /// Such a schema belongs to a strict function, a second schema takes too long, or no grammar can be compiled at the
    /// moment.
    async fn loosen(&self, rules: &mut CallRules, model: &LoadedModel) -> Result<(), ApiError> {
        let mut slow = 0;
        for (index, tool) in self.tools.iter().enumerate() {
            let name = &tool.function.name;
            let mut functions = rules.functions.iter_mut();
            let Some(function) = functions.find(|function| function.name == *name) else {
                continue;
            };
            let Err(why) = follow(function, rules.format, model).await else {
                continue;
            };
            slow += u32::from(matches!(why, GrammarError::Timeout(_)));
            // Each slow schema holds up other grammars for as long as compiling may take.
            let is_too_slow = slow > 1;
            if tool.function.strict == Some(true) || why == GrammarError::Busy || is_too_slow {
                let param = format!("tools[{index}].function.parameters");
                let subject = format!("'{param}', the schema of '{name}',");
                return Err(refused(&param, &subject, &why));
            }
            tracing::warn!(function = name, %why, "calls are not bound to their function's schema");
            function.parameters = with_options(&any_object(), false);
        }
        Ok(())
    }
}

/// Checks that a grammar can follow the schema of a function.
async fn follow(
    function: &Callable,
    format: &'static ToolFormat,
    model: &LoadedModel,
) -> Result<(), GrammarError> {
    let schema = Grammar::JsonSchema(function.parameters.clone());
    model.grammars.compile(schema).await?;
    let call = CallRules {
        format,
        functions: vec![function.clone()],
        is_forced: true,
        is_parallel: false,
        thoughts: None,
        answer: None,
    };
    let call = call.grammar(&model.written_marks());
    model.grammars.compile(call).await.map(drop)
}

/// The grammar of an answer: perhaps reasoning, then text or what is `wanted`, and calls that fit the schemas of their
/// functions. If the schema of a function cannot be followed, its arguments are left to the model. If the schemas together
/// are too much and calls are optional, there is no grammar.
pub async fn grammar(
    model: &LoadedModel,
    calling: Option<&Calling>,
    thoughts: Option<Reasoning>,
    wanted: Option<WantedGrammar>,
) -> Result<Option<WantedGrammar>, ApiError> {
    let Some(calling) = calling else {
        return Ok(wanted.map(|wanted| behind(thoughts, wanted, model)));
    };
    let schema = wanted.as_ref().and_then(|wanted| wanted.schema.clone());
    let answer = wanted.map(schema_of_answers).transpose()?;
    let is_free = calling.is_free() && answer.is_none();
    let mut rules = calling.rules(model.capabilities()?, thoughts, answer);
    let grammar = |rules: &CallRules| WantedGrammar {
        grammar: rules.grammar(&model.written_marks()),
        param: "tools",
        schema: schema.clone(),
    };
    let wanted = grammar(&rules);
    match model.grammars.compile(wanted.grammar.clone()).await {
        Ok(_) => return Ok(Some(wanted)),
        Err(error @ GrammarError::Busy) => return Err(wanted.refused(&error)),
        Err(_) => {}
    }
    calling.loosen(&mut rules, model).await?;
    let wanted = grammar(&rules);
    match model.grammars.compile(wanted.grammar.clone()).await {
        Ok(_) => Ok(Some(wanted)),
        Err(why) if why != GrammarError::Busy && is_free => {
            tracing::warn!(%why, "calls are not bound to the schemas of their functions");
            Ok(None)
        }
        Err(error) => Err(wanted.refused(&error)),
    }
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

/// Lets reasoning come before JSON. Any other grammar is that of the whole text.
fn behind(
    thoughts: Option<Reasoning>,
    wanted: WantedGrammar,
    model: &LoadedModel,
) -> WantedGrammar {
    let grammar = match (thoughts, wanted.grammar) {
        (Some(thoughts), Grammar::JsonSchema(schema)) => {
            let mut pieces = tools::before_answer(&thoughts, &model.written_marks());
            pieces.push(Piece::Json(schema));
            Grammar::Pieces(pieces)
        }
        (_, grammar) => grammar,
    };
    WantedGrammar { grammar, ..wanted }
}

fn callable(function: &Function) -> Callable {
    Callable {
        name: function.name.clone(),
        parameters: schema(function),
    }
}

/// The schema of a function's arguments. As in OpenAI's API, a function without a schema takes none.
fn schema(function: &Function) -> Value {
    let mut schema = function.parameters.clone().unwrap_or_default();
    schema.entry("type").or_insert_with(|| json!("object"));
    let schema = tools::closed(Value::Object(schema));
    with_options(&schema, function.strict == Some(true))
}

/// Adds the options of the grammar to a schema. Keywords that cannot be followed are ignored, unless the function is
/// strict. As models do, JSON may have a space or none behind `,` and `:`.
fn with_options(schema: &Value, is_strict: bool) -> Value {
    let mut schema = schema.clone();
    let Some(fields) = schema.as_object_mut() else {
        return schema;
    };
    let options = fields.entry("x-guidance").or_insert_with(|| json!({}));
    if let Some(options) = options.as_object_mut() {
        for (option, value) in [
            ("lenient", json!(!is_strict)),
            ("item_separator", json!(", ?")),
            ("key_separator", json!(": ?")),
        ] {
            options.entry(option).or_insert(value);
        }
    }
    schema
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

/// Reads `tool_choice`. None if the model does not get to know the tools.
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

/// The calls of a whole answer. None if there are none.
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

/// The pieces of calls in a chunk. None if there are none.
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
            let mut dialect = TemplateCapabilities::default();
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
            calling.rules(&TemplateCapabilities::default(), None, None)
        };
        let names = |rules: &CallRules| {
            let names = rules.functions.iter().map(|one| one.name.clone());
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
        let schema = |function: Value| {
            let mut schema = schema(&serde_json::from_value(function).unwrap());
            let options = schema.as_object_mut().unwrap().remove("x-guidance");
            (schema, options.unwrap()["lenient"] == true)
        };
        let nothing = json!({"type": "object", "properties": {}, "additionalProperties": false});
        assert_eq!(schema(json!({"name": "f"})), (nothing, true));
        let function = json!({"name": "f", "parameters": {"required": ["a"]}, "strict": true});
        let expected = json!({"required": ["a"], "type": "object"});
        assert_eq!(schema(function), (expected, false));
    }
}
