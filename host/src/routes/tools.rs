use std::{collections::HashSet, sync::Arc};

use serde_json::Value;

use crate::{
    error::ApiError,
    openai::{
        ChatCompletionRequest, FunctionCall, FunctionCallChunk, Tool, ToolCall, ToolCallChunk,
        ToolChoice, ToolKind, ToolMode,
    },
    prompt::Dialect,
    reply::CallPiece,
    tools::CallSyntax,
};

/// Longest name of a function.
const MAX_NAME: usize = 64;

/// What an answer may call, checked.
#[derive(Clone, Debug)]
pub struct Calling {
    tools: Vec<Tool>,
    is_parallel: bool,
}

impl Calling {
    /// None if the model is to know of no tools.
    pub fn of(request: &ChatCompletionRequest) -> Result<Option<Self>, ApiError> {
        let tools = request.tools.clone().unwrap_or_default();
        check_tools(&tools)?;
        let mode = mode(request.tool_choice.as_ref(), &tools)?;
        if mode == ToolMode::Required {
            let message = "'tool_choice' can only be 'none' or 'auto' on this server";
            return Err(ApiError::unsupported("tool_choice", message));
        }
        let calling = Self {
            tools,
            is_parallel: request.parallel_tool_calls.unwrap_or(true),
        };
        Ok((mode == ToolMode::Auto && !calling.tools.is_empty()).then_some(calling))
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
        if !names.insert(name) {
            let message =
                format!("'{param}' is '{name}', as another function is called: rename one");
            return Err(ApiError::invalid_parameter(param, message));
        }
    }
    Ok(())
}

fn mode(choice: Option<&ToolChoice>, tools: &[Tool]) -> Result<ToolMode, ApiError> {
    let refuse = |message: String| ApiError::invalid_parameter("tool_choice", message);
    match choice {
        None => Ok(ToolMode::Auto),
        Some(ToolChoice::Mode(ToolMode::Required)) if tools.is_empty() => Err(refuse(
            "'tool_choice' is 'required', but there are no 'tools'".to_owned(),
        )),
        Some(ToolChoice::Mode(mode)) => Ok(*mode),
        Some(ToolChoice::Named(named)) => {
            let name = &named.function.name;
            match tools.iter().any(|tool| tool.function.name == *name) {
                true => Ok(ToolMode::Required),
                false => Err(refuse(format!(
                    "'tool_choice' names '{name}', which is none of the 'tools'"
                ))),
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
}
