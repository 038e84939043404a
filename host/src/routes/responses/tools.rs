//! Converts the tools of a request to those of a chat: functions with names that the model sees.

use std::collections::HashMap;

use super::{
    super::{
        chat::tools::{CallChoice, Calling, OfferedTool, check_name},
        openai::MAX_NAME,
    },
    custom_input,
};
use crate::{
    conversation::Tool,
    error::ApiError,
    grammar::regex_of_lark,
    markup::Demand,
    openai::{
        ToolMode,
        responses::{
            AllowedTool, CustomTool, CustomToolFormat, CustomToolSyntax, FunctionTool,
            ResponseTool, ResponseToolChoice, ToolOfNamespace,
        },
    },
};

/// The tools of a response by the names that the model sees.
pub type ToolNames = HashMap<String, ToolName>;

/// A tool as the client knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolName {
    pub namespace: Option<String>,
    pub name: String,
    pub is_custom: bool,
}

/// The name that the model sees.
pub fn visible_name(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{namespace}.{name}"),
        None => name.to_owned(),
    }
}

/// Converts the tools. None if the model is not told about any. Also returns their names.
pub fn calling(
    tools: &[ResponseTool],
    choice: Option<&ResponseToolChoice>,
    is_parallel: bool,
) -> Result<(Option<Calling>, ToolNames), ApiError> {
    let mut offer = Offer::default();
    for (index, tool) in tools.iter().enumerate() {
        let place = format!("tools[{index}]");
        match tool {
            ResponseTool::Function(function) => offer.function(place, None, function),
            ResponseTool::Custom(custom) => offer.custom(place, None, custom)?,
            ResponseTool::Namespace(space) => {
                check_name(&format!("{place}.name"), &space.name, MAX_NAME)?;
                for (index, tool) in space.tools.iter().enumerate() {
                    let place = format!("{place}.tools[{index}]");
                    match tool {
                        ToolOfNamespace::Function(f) => offer.function(place, Some(&space.name), f),
                        ToolOfNamespace::Custom(c) => offer.custom(place, Some(&space.name), c)?,
                    }
                }
            }
        }
    }
    let calling = Calling::new(offer.tools, read_choice(choice), is_parallel)?;
    Ok((calling, offer.names))
}

/// The tools that the model is told about.
#[derive(Default)]
struct Offer {
    tools: Vec<OfferedTool>,
    names: ToolNames,
}

impl Offer {
    fn function(&mut self, place: String, namespace: Option<&str>, tool: &FunctionTool) {
        let tool = Tool {
            name: self.name(namespace, &tool.name, false),
            description: tool.description.clone(),
            parameters: tool.parameters.clone(),
            is_strict: tool.strict == Some(true),
        };
        self.add(place, namespace, "parameters", tool);
    }

    fn custom(
        &mut self,
        place: String,
        namespace: Option<&str>,
        tool: &CustomTool,
    ) -> Result<(), ApiError> {
        let input = match &tool.format {
            Some(format) => input(&format!("{place}.format"), format)?,
            None => None,
        };
        let (regex, explained) = input.unzip();
        let description: Vec<_> = tool.description.iter().cloned().chain(explained).collect();
        let tool = Tool {
            name: self.name(namespace, &tool.name, true),
            description: (!description.is_empty()).then(|| description.join("\n\n")),
            parameters: custom_input::schema(regex.as_deref()).as_object().cloned(),
            is_strict: regex.is_some(),
        };
        self.add(place, namespace, "format.definition", tool);
        Ok(())
    }

    fn name(&mut self, namespace: Option<&str>, name: &str, is_custom: bool) -> String {
        let visible = visible_name(namespace, name);
        let known = ToolName {
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
            is_custom,
        };
        self.names.insert(visible.clone(), known);
        visible
    }

    fn add(&mut self, place: String, namespace: Option<&str>, schema: &'static str, tool: Tool) {
        self.tools.push(OfferedTool {
            tool,
            place,
            schema,
            prefix: visible_name(namespace, "").len(),
            longest_name: MAX_NAME,
        });
    }
}

/// The regular expression of a custom tool's text, and its explanation for the model. None if any text is allowed.
fn input(place: &str, format: &CustomToolFormat) -> Result<Option<(String, String)>, ApiError> {
    let refuse = |field: &str, why: &str| {
        let param = format!("{place}.{field}");
        let message = format!("'{param}' {why}");
        Err(ApiError::invalid_parameter(param, message))
    };
    match (format.kind.as_str(), format.syntax, &format.definition) {
        ("text", _, _) => Ok(None),
        ("grammar", Some(CustomToolSyntax::Regex), Some(regex)) => {
            let explained = format!("The input must match this regular expression: {regex}");
            Ok(Some((regex.clone(), explained)))
        }
        ("grammar", Some(CustomToolSyntax::Lark), Some(lark)) => match regex_of_lark(lark) {
            Ok(regex) => {
                let explained = format!("The input must match this grammar in Lark:\n{lark}");
                Ok(Some((regex, explained)))
            }
            Err(why) => refuse("definition", &format!("cannot be used: {why}")),
        },
        ("grammar", None, _) => refuse("syntax", "is missing"),
        ("grammar", _, None) => refuse("definition", "is missing"),
        (kind, _, _) => refuse(
            "type",
            &format!("must be 'text' or 'grammar', not '{kind}'"),
        ),
    }
}

fn read_choice(choice: Option<&ResponseToolChoice>) -> CallChoice {
    let visible = |tool: &AllowedTool| visible_name(tool.namespace.as_deref(), &tool.name);
    match choice {
        None => CallChoice {
            demand: Some(Demand::Nothing),
            names: None,
        },
        Some(ResponseToolChoice::Mode(mode)) => CallChoice {
            demand: demand(*mode),
            names: None,
        },
        Some(ResponseToolChoice::Allowed(allowed)) => CallChoice {
            demand: demand(allowed.mode),
            names: Some(allowed.tools.iter().map(visible).collect()),
        },
        Some(ResponseToolChoice::Named(tool)) => CallChoice {
            demand: Some(Demand::Named),
            names: Some(vec![visible(tool)]),
        },
    }
}

fn demand(mode: ToolMode) -> Option<Demand> {
    match mode {
        ToolMode::None => None,
        ToolMode::Auto => Some(Demand::Nothing),
        ToolMode::Required => Some(Demand::Any),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        super::{super::body::RequestBody, read::ReadRequest},
        *,
    };
    use crate::prompt::TemplateCapabilities;

    fn read(fields: Value) -> Result<(Option<Calling>, ToolNames), ApiError> {
        let mut fields = fields;
        fields["input"] = json!("Hi");
        let request = ReadRequest::read(&fields).unwrap().request;
        let tools = request.tools.unwrap_or_default();
        calling(&tools, request.tool_choice.as_ref(), true)
    }

    fn function(name: &str) -> Value {
        json!({"type": "function", "name": name, "parameters": {"type": "object", "properties": {}}})
    }

    #[test]
    fn tools_reach_the_template_in_the_form_of_chats() {
        let regex = json!({"type": "grammar", "syntax": "regex", "definition": "a+"});
        let tools = json!([
            {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": true},
            {"type": "custom", "name": "c", "description": "d", "format": regex},
            {"type": "namespace", "name": "n", "description": "", "tools": [function("f")]},
        ]);
        let (calling, names) = read(json!({"tools": tools})).unwrap();
        let tools = calling.unwrap().for_template();
        let functions: Vec<_> = tools.iter().map(|tool| &tool["function"]).collect();
        assert_eq!(
            *functions[0],
            json!({"name": "f", "description": "d", "parameters": {"type": "object"}})
        );
        assert_eq!(
            functions[1]["parameters"]["properties"]["input"]["pattern"],
            "^(?:a+)$"
        );
        assert!(
            functions[1]["description"]
                .as_str()
                .unwrap()
                .ends_with("expression: a+")
        );
        assert_eq!(functions[2]["name"], "n.f");
        assert_eq!(
            names["n.f"],
            ToolName {
                namespace: Some("n".to_owned()),
                name: "f".to_owned(),
                is_custom: false
            }
        );
        assert!(names["c"].is_custom);
    }

    #[test]
    fn a_choice_says_what_may_and_must_be_called() {
        let check = |choice: Value, demand, expected: &[&str]| {
            let tools = json!([function("f"), {"type": "custom", "name": "c"}]);
            let (calling, _) = read(json!({"tools": tools, "tool_choice": choice})).unwrap();
            let calling = calling.unwrap();
            assert_eq!(calling.tools.len(), 2);
            let rules = calling.rules(&TemplateCapabilities::default());
            let names: Vec<_> = rules.functions.iter().map(|one| &one.name).collect();
            assert_eq!(
                (rules.demand, &names[..]),
                (
                    demand,
                    &expected
                        .iter()
                        .map(|name| name.to_owned().to_owned())
                        .collect::<Vec<String>>()
                        .iter()
                        .collect::<Vec<_>>()[..]
                )
            );
        };
        check(json!(null), Demand::Nothing, &["f", "c"]);
        check(json!("required"), Demand::Any, &["f", "c"]);
        check(
            json!({"type": "custom", "name": "c"}),
            Demand::Named,
            &["c"],
        );
        let allowed = |mode: &str| json!({"type": "allowed_tools", "mode": mode, "tools": [{"type": "function", "name": "f"}]});
        check(allowed("auto"), Demand::Nothing, &["f"]);
        check(allowed("required"), Demand::Any, &["f"]);
        let (calling, _) = read(json!({"tools": [function("f")], "tool_choice": "none"})).unwrap();
        assert!(calling.is_none());
    }

    #[test]
    fn wrong_tools_are_refused_by_place() {
        let format =
            |format: Value| json!({"tools": [{"type": "custom", "name": "c", "format": format}]});
        let inner = json!([function("a b")]);
        let long = "x".repeat(65);
        let space = |name: &str, tool: &str| json!({"tools": [{"type": "namespace", "name": name, "tools": [function(tool)]}]});
        assert!(read(space(&long[1..], &long[1..])).is_ok());
        for (fields, param) in [
            (
                json!({"tools": [function("f"), function("f")]}),
                "tools[1].name",
            ),
            (
                json!({"tools": [{"type": "namespace", "name": "n", "tools": inner}]}),
                "tools[0].tools[0].name",
            ),
            (space(&long, "f"), "tools[0].name"),
            (space("", "f"), "tools[0].name"),
            (space("n", &long), "tools[0].tools[0].name"),
            (
                json!({"tools": [{"type": "function", "name": "f", "parameters": {"type": "string"}}]}),
                "tools[0].parameters",
            ),
            (format(json!({"type": "grammar"})), "tools[0].format.syntax"),
            (
                format(json!({"type": "grammar", "syntax": "regex"})),
                "tools[0].format.definition",
            ),
            (
                format(
                    json!({"type": "grammar", "syntax": "lark", "definition": "start: \"a\" start"}),
                ),
                "tools[0].format.definition",
            ),
            (format(json!({"type": "xml"})), "tools[0].format.type"),
            (json!({"tool_choice": "required"}), "tool_choice"),
            (
                json!({"tool_choice": {"type": "function", "name": "g"}}),
                "tool_choice",
            ),
        ] {
            let error = read(fields).unwrap_err().into_envelope().error;
            assert_eq!(error.param.as_deref(), Some(param), "{}", error.message);
        }
    }
}
