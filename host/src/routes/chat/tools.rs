//! The tools of a request.

use std::{collections::HashSet, sync::Arc};

use serde_json::{Value, json};

use super::super::generation::any_object;
use crate::{
    conversation::Tool,
    error::ApiError,
    markup::{CallRules, Callable, Demand},
    prompt::TemplateCapabilities,
    tools::closed,
};

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
pub struct CallChoice {
    /// Whether the answer must call a tool. None: the model is not told about the tools.
    pub demand: Option<Demand>,
    /// Names of the functions that may be called. None: all.
    pub names: Option<Vec<String>>,
}

impl Calling {
    /// Checks the tools of a request and the choice between them. None if the model is not told about any.
    pub fn new(
        tools: Vec<OfferedTool>,
        choice: CallChoice,
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
    pub fn for_template(&self) -> Vec<Value> {
        let tools = self.tools.iter();
        tools.map(|offered| offered.tool.for_template()).collect()
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
        self.demand == Demand::Nothing && !self.tools.iter().any(|offered| offered.tool.is_strict)
    }
}

impl OfferedTool {
    fn name(&self) -> &str {
        &self.tool.name
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

impl CallChoice {
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
fn functions(tools: &[OfferedTool], choice: &CallChoice) -> Arc<[Callable]> {
    let tools = tools.iter().filter(|tool| choice.allows(tool.name()));
    let callable = |offered: &OfferedTool| Callable {
        name: offered.name().to_owned(),
        parameters: schema(&offered.tool),
    };
    tools.map(callable).collect()
}

/// The schema of a function's arguments. As in OpenAI's API, a function without a schema takes none.
fn schema(tool: &Tool) -> Value {
    let mut schema = tool.parameters.clone().unwrap_or_default();
    schema.entry("type").or_insert_with(|| json!("object"));
    let schema = closed(Value::Object(schema));
    with_options(&schema, tool.is_strict)
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
        let name = &tool.name;
        let param = format!("{place}.name");
        check_name(&param, offered.own_name(), offered.longest_name)?;
        let parameters = tool.parameters.as_ref();
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

    fn tool(parameters: Value, is_strict: bool) -> Tool {
        Tool {
            name: "f".to_owned(),
            parameters: parameters.as_object().cloned(),
            is_strict,
            ..Tool::default()
        }
    }

    #[test]
    fn calls_are_one_after_the_other_where_the_template_or_the_request_wants_it() {
        let check = |asks_for_parallel, has_parallel_calls, expected| {
            let offered = OfferedTool {
                tool: tool(json!({}), false),
                place: String::new(),
                schema: "",
                prefix: 0,
                longest_name: 64,
            };
            let choice = CallChoice {
                demand: Some(Demand::Nothing),
                names: None,
            };
            let mut capabilities = TemplateCapabilities::default();
            capabilities.has_parallel_calls = has_parallel_calls;
            let calling = Calling::new(vec![offered], choice, asks_for_parallel);
            let rules = calling.unwrap().unwrap().rules(&capabilities);
            assert_eq!(rules.is_parallel, expected);
        };
        check(true, true, true);
        check(true, false, false);
        check(false, true, false);
    }

    #[test]
    fn schemas_are_of_objects_and_exact_only_where_that_is_asked_for() {
        let schema = |parameters: Value, is_strict| {
            let mut schema = schema(&tool(parameters, is_strict));
            let options = schema.as_object_mut().unwrap().remove("x-guidance");
            (schema, options.unwrap()["lenient"] == true)
        };
        let nothing = json!({"type": "object", "properties": {}, "additionalProperties": false});
        assert_eq!(schema(json!(null), false), (nothing, true));
        let expected = json!({"required": ["a"], "type": "object"});
        assert_eq!(schema(json!({"required": ["a"]}), true), (expected, false));
    }
}
