use super::super::chat::tools::{CallChoice, Calling, OfferedTool};
use crate::{
    anthropic::{Tool, ToolChoice},
    conversation,
    error::ApiError,
    markup::Demand,
};

/// Longest name of a tool in Anthropic's API.
const MAX_NAME: usize = 128;

/// Reads the tools of a request. None if the model does not get to know any.
pub fn calling(tools: Vec<Tool>, choice: Option<&ToolChoice>) -> Result<Option<Calling>, ApiError> {
    if tools.is_empty() && matches!(choice, Some(ToolChoice::Any { .. })) {
        let message = "'tool_choice' is 'any', but there are no 'tools': send some";
        return Err(ApiError::invalid_parameter("tool_choice", message));
    }
    let tools = tools.into_iter().enumerate();
    let tools = tools.map(|(index, tool)| offered(index, tool));
    Calling::new(tools.collect(), demanded(choice), is_parallel(choice))
}

fn offered(index: usize, tool: Tool) -> OfferedTool {
    OfferedTool {
        tool: conversation::Tool {
            name: tool.name,
            description: tool.description,
            parameters: Some(tool.input_schema),
            is_strict: tool.strict == Some(true),
        },
        place: format!("tools[{index}]"),
        schema: "input_schema",
        prefix: 0,
        longest_name: MAX_NAME,
    }
}

fn demanded(choice: Option<&ToolChoice>) -> CallChoice {
    let (demand, names) = match choice {
        None | Some(ToolChoice::Auto { .. }) => (Some(Demand::Nothing), None),
        Some(ToolChoice::Any { .. }) => (Some(Demand::Any), None),
        Some(ToolChoice::Tool { name }) => (Some(Demand::Named), Some(vec![name.clone()])),
        Some(ToolChoice::None) => (None, None),
    };
    CallChoice { demand, names }
}

/// Whether an answer may have several calls.
fn is_parallel(choice: Option<&ToolChoice>) -> bool {
    match choice {
        Some(
            ToolChoice::Auto {
                disable_parallel_tool_use,
            }
            | ToolChoice::Any {
                disable_parallel_tool_use,
            },
        ) => *disable_parallel_tool_use != Some(true),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::prompt::TemplateCapabilities;

    fn calling(choice: Value) -> Result<Option<Calling>, ApiError> {
        let tool = |name: &str| json!({"name": name, "description": "d", "input_schema": {"type": "object"}});
        let tools = json!([tool("f"), tool("g")]);
        let choice: Option<ToolChoice> = serde_json::from_value(choice).unwrap();
        super::calling(serde_json::from_value(tools).unwrap(), choice.as_ref())
    }

    #[test]
    fn a_choice_says_what_must_be_called() {
        let check = |choice: Value, demand, is_parallel, expected: &[&str]| {
            let mut capabilities = TemplateCapabilities::default();
            capabilities.has_parallel_calls = true;
            let rules = calling(choice).unwrap().unwrap().rules(&capabilities);
            assert_eq!((rules.demand, rules.is_parallel), (demand, is_parallel));
            let names: Vec<_> = rules.functions.iter().map(|one| &one.name).collect();
            assert_eq!(names, expected);
        };
        check(json!(null), Demand::Nothing, true, &["f", "g"]);
        check(json!({"type": "any"}), Demand::Any, true, &["f", "g"]);
        let named = json!({"type": "tool", "name": "g", "disable_parallel_tool_use": true});
        check(named, Demand::Named, false, &["g"]);
        let single = json!({"type": "auto", "disable_parallel_tool_use": true});
        check(single, Demand::Nothing, false, &["f", "g"]);
        assert!(calling(json!({"type": "none"})).unwrap().is_none());
    }

    #[test]
    fn tools_reach_the_template_as_functions() {
        let calling = calling(json!(null)).unwrap().unwrap();
        let function = json!({"name": "f", "description": "d", "parameters": {"type": "object"}});
        let expected = json!({"type": "function", "function": function});
        assert_eq!(calling.for_template()[0], expected);
    }

    #[test]
    fn what_is_wrong_is_named_as_the_request_names_it() {
        let check = |tools: Value, choice: Value, name: &str| {
            let choice: Option<ToolChoice> = serde_json::from_value(choice).unwrap();
            let tools = serde_json::from_value(tools).unwrap();
            let error = super::calling(tools, choice.as_ref()).unwrap_err();
            let message = error.into_envelope().error.message;
            assert!(message.starts_with(name), "{message}");
        };
        check(json!([]), json!({"type": "any"}), "'tool_choice' is 'any'");
        let unknown = json!({"type": "tool", "name": "f"});
        check(json!([]), unknown, "'tool_choice' names 'f'");
        for name in ["a b", "", &"x".repeat(129)] {
            let tool = json!([{"name": name, "input_schema": {}}]);
            check(tool, json!(null), "'tools[0].name'");
        }
        let longest = json!([{"name": "x".repeat(128), "input_schema": {}}]);
        assert!(super::calling(serde_json::from_value(longest).unwrap(), None).is_ok());
        let tool = json!([{"name": "f", "input_schema": {"type": "string"}}]);
        check(tool, json!(null), "'tools[0].input_schema'");
    }
}
