use super::super::{
    chat::tools::{CallChoice, Calling, OfferedTool},
    openai::MAX_NAME,
};
use crate::{
    conversation,
    error::ApiError,
    markup::Demand,
    openai::{Tool, ToolChoice, ToolMode},
};

/// Reads the tools of a chat. None if the model is not told about any.
pub fn calling(
    tools: Vec<Tool>,
    choice: Option<&ToolChoice>,
    is_parallel: bool,
) -> Result<Option<Calling>, ApiError> {
    let tools = tools.into_iter().enumerate();
    let tools = tools.map(|(index, tool)| offered(index, tool));
    Calling::new(tools.collect(), read_choice(choice), is_parallel)
}

fn offered(index: usize, tool: Tool) -> OfferedTool {
    let function = tool.function;
    OfferedTool {
        tool: conversation::Tool {
            name: function.name,
            description: function.description,
            parameters: function.parameters,
            is_strict: function.strict == Some(true),
        },
        place: format!("tools[{index}].function"),
        schema: "parameters",
        prefix: 0,
        longest_name: MAX_NAME,
    }
}

fn read_choice(choice: Option<&ToolChoice>) -> CallChoice {
    let (demand, names) = match choice {
        None | Some(ToolChoice::Mode(ToolMode::Auto)) => (Some(Demand::Nothing), None),
        Some(ToolChoice::Mode(ToolMode::None)) => (None, None),
        Some(ToolChoice::Mode(ToolMode::Required)) => (Some(Demand::Any), None),
        Some(ToolChoice::Named(named)) => {
            (Some(Demand::Named), Some(vec![named.function.name.clone()]))
        }
    };
    CallChoice { demand, names }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::prompt::TemplateCapabilities;

    fn calling(fields: Value) -> Result<Option<Calling>, ApiError> {
        let read = |name: &str| serde_json::from_value(fields[name].clone());
        let tools: Option<Vec<Tool>> = read("tools").unwrap();
        let choice: Option<ToolChoice> =
            serde_json::from_value(fields["tool_choice"].clone()).unwrap();
        let is_parallel = fields["parallel_tool_calls"] != false;
        super::calling(tools.unwrap_or_default(), choice.as_ref(), is_parallel)
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
        assert!(!calling.is_free());
        let expected = json!({"type": "function", "function": function});
        assert_eq!(calling.for_template()[0].to_string(), expected.to_string());
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
}
