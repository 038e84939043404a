//! The tools of a request.

use std::{collections::HashSet, sync::Arc};

use serde_json::{Value, json};

use super::super::generation::any_object;
use crate::{
    error::ApiError,
    markup::{CallRules, Callable, Demand},
    openai::{Function, Tool, ToolChoice, ToolMode},
    prompt::TemplateCapabilities,
    tools::closed,
};

/// Longest name of a function in OpenAI's APIs.
pub const MAX_NAME: usize = 64;

/// The tools of a request, checked, and how an answer may call them.
#[derive(Clone, Debug)]
pub struct Calling {
    pub tools: Vec<OfferedTool>,
    /// The functions that may be called. If the request names some, only those.
    functions: Arc<[Callable]>,
    is_parallel: bool,
    demand: Demand,
}

/// A tool, and where its function is in the request.
#[derive(Clone, Debug)]
pub struct OfferedTool {
    pub tool: Tool,
    /// The function's place, for error messages: `tools[0].function`.
    pub place: String,
    /// The field there that has the schema.
    pub schema: &'static str,
    /// The length in bytes of the namespace in front of the tool's own name.
    pub prefix: usize,
    /// Most bytes of the tool's own name.
    pub longest_name: usize,
}

/// Which of a request's tools an answer may or must call.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Whether the answer must call a tool. None: the model is not told about the tools.
    pub demand: Option<Demand>,
    /// Names of the functions that may be called. None: all.
    pub names: Option<Vec<String>>,
}

impl Calling {
    /// Reads the tools of a chat. None if the model is not told about any.
    pub fn of(
        tools: Vec<Tool>,
        choice: Option<&ToolChoice>,
        is_parallel: bool,
    ) -> Result<Option<Self>, ApiError> {
        let tools = tools.into_iter().enumerate();
        let tools = tools.map(|(index, tool)| OfferedTool {
            tool,
            place: format!("tools[{index}].function"),
            schema: "parameters",
            prefix: 0,
            longest_name: MAX_NAME,
        });
        Self::new(tools.collect(), Choice::of(choice), is_parallel)
    }

    /// Checks the tools of a request and the choice between them. None if the model is not told about any.
    pub fn new(
        tools: Vec<OfferedTool>,
        choice: Choice,
        is_parallel: bool,
    ) -> Result<Option<Self>, ApiError> {
        check_tools(&tools)?;
        choice.check(&tools)?;
        let demand = choice.demand.filter(|_| !tools.is_empty());
        Ok(demand.map(|demand| Self {
            functions: functions(&tools, &choice),
            is_parallel: is_parallel && demand != Demand::Named,
            demand,
            tools,
        }))
    }

    /// The tools as the chat template gets them.
    pub fn for_template(&self) -> Result<Vec<Value>, ApiError> {
        let tools = self
            .tools
            .iter()
            .map(|offered| serde_json::to_value(&offered.tool));
        tools
            .collect::<Result<_, _>>()
            .map_err(|error| ApiError::internal(format!("a tool cannot be written: {error}")))
    }

    /// The rules of calls by a model whose template has these capabilities.
    pub fn rules(&self, capabilities: &TemplateCapabilities) -> CallRules {
        CallRules {
            format: capabilities.tool_format,
            functions: self.functions.clone(),
            is_parallel: self.is_parallel && capabilities.has_parallel_calls,
            demand: self.demand,
        }
    }

    /// Whether an answer may be generated without a grammar: it need not call a tool, and no function is strict.
    pub fn is_free(&self) -> bool {
        self.demand == Demand::Nothing && !self.tools.iter().any(OfferedTool::is_strict)
    }
}

impl OfferedTool {
    /// Whether the function's schema has to be followed exactly.
    pub fn is_strict(&self) -> bool {
        self.tool.function.strict == Some(true)
    }

    fn name(&self) -> &str {
        &self.tool.function.name
    }

    /// The name that the client gave the tool.
    fn own_name(&self) -> &str {
        self.name().get(self.prefix..).unwrap_or_default()
    }
}

/// Checks a name at a place of the request.
pub fn check_name(param: &str, name: &str, longest: usize) -> Result<(), ApiError> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if (1..=longest).contains(&name.len()) && name.chars().all(is_allowed) {
        return Ok(());
    }
    let message = format!(
        "'{param}' is '{name}', but must be 1 to {longest} letters, digits, '_', '-' and '.'"
    );
    Err(ApiError::invalid_parameter(param, message))
}

impl Choice {
    /// Reads the `tool_choice` of a chat.
    fn of(choice: Option<&ToolChoice>) -> Self {
        let of_any = |demand| Self {
            demand,
            names: None,
        };
        match choice {
            None | Some(ToolChoice::Mode(ToolMode::Auto)) => of_any(Some(Demand::Nothing)),
            Some(ToolChoice::Mode(ToolMode::None)) => of_any(None),
            Some(ToolChoice::Mode(ToolMode::Required)) => of_any(Some(Demand::Any)),
            Some(ToolChoice::Named(named)) => Self {
                demand: Some(Demand::Named),
                names: Some(vec![named.function.name.clone()]),
            },
        }
    }

    fn allows(&self, name: &str) -> bool {
        let names = self.names.as_ref();
        names.is_none_or(|names| names.iter().any(|known| known == name))
    }

    /// Checks that the tools to choose from exist.
    fn check(&self, tools: &[OfferedTool]) -> Result<(), ApiError> {
        let refuse = |message: String| Err(ApiError::invalid_parameter("tool_choice", message));
        if self.demand == Some(Demand::Any) && tools.is_empty() {
            return refuse("'tool_choice' is 'required', but there are no 'tools'".to_owned());
        }
        let is_unknown = |name: &&String| !tools.iter().any(|tool| tool.name() == *name);
        match self.names.iter().flatten().find(is_unknown) {
            Some(name) => refuse(format!(
                "'tool_choice' names '{name}', which is none of the 'tools'"
            )),
            None => Ok(()),
        }
    }
}

/// The functions that the model may call.
fn functions(tools: &[OfferedTool], choice: &Choice) -> Arc<[Callable]> {
    let tools = tools.iter().filter(|tool| choice.allows(tool.name()));
    let callable = |offered: &OfferedTool| Callable {
        name: offered.name().to_owned(),
        parameters: schema(&offered.tool.function),
    };
    tools.map(callable).collect()
}

/// The schema of a function's arguments. As in OpenAI's API, a function without a schema takes none.
fn schema(function: &Function) -> Value {
    let mut schema = function.parameters.clone().unwrap_or_default();
    schema.entry("type").or_insert_with(|| json!("object"));
    let schema = closed(Value::Object(schema));
    with_options(&schema, function.strict == Some(true))
}

/// The schema of arguments of any kind.
pub fn any_arguments() -> Value {
    with_options(&any_object(), false)
}

/// Adds the options of the grammar to a schema. Keywords that cannot be followed are ignored, unless the function is
/// strict. JSON may have one space or none after `,` and `:`, because models write both.
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

fn check_tools(tools: &[OfferedTool]) -> Result<(), ApiError> {
    let mut names = HashSet::new();
    for offered in tools {
        let OfferedTool {
            tool,
            place,
            schema,
            ..
        } = offered;
        let name = &tool.function.name;
        let param = format!("{place}.name");
        check_name(&param, offered.own_name(), offered.longest_name)?;
        let parameters = tool.function.parameters.as_ref();
        let kind = parameters.and_then(|schema| schema.get("type"));
        if kind.is_some_and(|kind| kind != "object") {
            let param = format!("{place}.{schema}");
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn calling(fields: Value) -> Result<Option<Calling>, ApiError> {
        let read = |name: &str| serde_json::from_value(fields[name].clone());
        let tools: Option<Vec<Tool>> = read("tools").unwrap();
        let choice: Option<ToolChoice> =
            serde_json::from_value(fields["tool_choice"].clone()).unwrap();
        let is_parallel = fields["parallel_tool_calls"] != false;
        Calling::of(tools.unwrap_or_default(), choice.as_ref(), is_parallel)
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
            calling.for_template().unwrap()[0].to_string(),
            expected.to_string()
        );
    }

    #[test]
    fn wrong_tools_are_refused_by_place() {
        for (names, param) in [
            (&["f", "a b"][..], "tools[1].function.name"),
            (&[""], "tools[0].function.name"),
            (&["f", "f"], "tools[1].function.name"),
        ] {
            check_refused(json!({"tools": tools(names)}), param);
        }
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
            let mut capabilities = TemplateCapabilities::default();
            capabilities.has_parallel_calls = has_parallel_calls;
            let calling = calling(fields).unwrap().unwrap();
            calling.rules(&capabilities).is_parallel
        };
        let tools = tools(&["f"]);
        assert!(is_parallel(json!({"tools": tools}), true));
        assert!(!is_parallel(json!({"tools": tools}), false));
        let one = json!({"tools": tools, "parallel_tool_calls": false});
        assert!(!is_parallel(one, true));
    }

    #[test]
    fn a_choice_says_what_must_be_called() {
        let check = |choice: Value, demand, is_parallel, expected: &[&str]| {
            let fields = json!({"tools": tools(&["f", "g"]), "tool_choice": choice});
            let rules = calling(fields).unwrap().unwrap();
            let rules = rules.rules(&TemplateCapabilities::default());
            assert_eq!((rules.demand, rules.is_parallel), (demand, is_parallel));
            let names: Vec<_> = rules.functions.iter().map(|one| &one.name).collect();
            assert_eq!(names, expected);
        };
        check(json!("auto"), Demand::Nothing, true, &["f", "g"]);
        check(json!("required"), Demand::Any, true, &["f", "g"]);
        let named = json!({"type": "function", "function": {"name": "g"}});
        check(named, Demand::Named, false, &["g"]);
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
