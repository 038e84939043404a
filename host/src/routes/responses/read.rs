//! Reads a request. Each item and tool is deserialized separately, so that an error names the wrong field.

use serde_json::{Value, json};

use super::{
    super::body::{RequestBody, read, read_at},
    unsupported,
};
use crate::{
    error::ApiError,
    openai::{
        ToolMode,
        responses::{
            AllowedTools, InputItem, NamespaceTool, ResponseInput, ResponseRequest, ResponseTool,
            ResponseToolChoice, ToolOfNamespace,
        },
    },
};

/// A request, and the tools that were left out of it.
#[derive(Debug)]
pub struct ReadRequest {
    pub request: ResponseRequest,
    /// The items of the input as they were sent.
    pub sent: Vec<Value>,
    /// The types of tools that the server would have to run itself. They are left out.
    pub left_out: Vec<String>,
}

impl RequestBody for ReadRequest {
    fn read(fields: &Value) -> Result<Self, ApiError> {
        unsupported::check(fields)?;
        let mut left_out = Vec::new();
        let mut request = ResponseRequest {
            input: Some(input(&fields["input"])?),
            tool_choice: tool_choice(&fields["tool_choice"], &mut left_out)?,
            ..read(fields)?
        };
        unsupported::check_include(request.include.as_deref().unwrap_or_default())?;
        request.tools = tools(&fields["tools"], &fields["tool_choice"], &mut left_out)?;
        Ok(Self {
            request,
            sent: sent(&fields["input"]),
            left_out,
        })
    }
}

fn input(fields: &Value) -> Result<ResponseInput, ApiError> {
    let refuse = |message: &str| Err(ApiError::invalid_parameter("input", message));
    match fields {
        Value::Null => refuse("'input' is missing"),
        Value::String(text) => Ok(ResponseInput::Text(text.clone())),
        Value::Array(items) if items.is_empty() => {
            refuse("'input' is empty: send at least one item")
        }
        Value::Array(list) => items("input", list).map(ResponseInput::Items),
        _ => refuse("'input' must be a string or a list of items"),
    }
}

/// The items of an input that was read. A text is a message of the user.
fn sent(input: &Value) -> Vec<Value> {
    match input {
        Value::Array(items) => items.clone(),
        text => vec![json!({"type": "message", "role": "user", "content": text})],
    }
}

/// Reads the items of a list at a place of the request.
pub fn items(place: &str, list: &[Value]) -> Result<Vec<InputItem>, ApiError> {
    let list = list.iter().enumerate();
    list.map(|(index, fields)| item(&format!("{place}[{index}]"), fields))
        .collect()
}

fn item(place: &str, fields: &Value) -> Result<InputItem, ApiError> {
    let kind = match kind(place, fields)? {
        Some(kind) => kind,
        None if fields["role"].is_null() && fields["id"].is_string() => "item_reference",
        None => "message",
    };
    match kind {
        "message" => read_at(place, fields).map(InputItem::Message),
        "function_call" => read_at(place, fields).map(InputItem::FunctionCall),
        "function_call_output" => read_at(place, fields).map(InputItem::FunctionCallOutput),
        "custom_tool_call" => read_at(place, fields).map(InputItem::CustomToolCall),
        "custom_tool_call_output" => read_at(place, fields).map(InputItem::CustomToolCallOutput),
        "reasoning" => read_at(place, fields).map(InputItem::Reasoning),
        "item_reference" => {
            let message = format!(
                "'{place}' refers to an item, but this server keeps none by its id: send the item itself, as clients do with \"store\": false"
            );
            Err(ApiError::unsupported(place, message))
        }
        kind => {
            let message = format!(
                "'{place}' is of type '{kind}', which is not supported by this server: leave it out"
            );
            Err(ApiError::unsupported(place, message))
        }
    }
}

/// The `type` of an object. None if it has none.
fn kind<'a>(place: &str, fields: &'a Value) -> Result<Option<&'a str>, ApiError> {
    if !fields.is_object() {
        let message = format!("'{place}' must be an object");
        return Err(ApiError::invalid_parameter(place, message));
    }
    match &fields["type"] {
        Value::String(kind) => Ok(Some(kind)),
        Value::Null => Ok(None),
        _ => {
            let param = format!("{place}.type");
            let message = format!("'{param}' must be a string");
            Err(ApiError::invalid_parameter(param, message))
        }
    }
}

fn required_kind<'a>(place: &str, fields: &'a Value) -> Result<&'a str, ApiError> {
    kind(place, fields)?.ok_or_else(|| {
        let param = format!("{place}.type");
        let message = format!("'{param}' is missing");
        ApiError::invalid_parameter(param, message)
    })
}

fn list<'a>(place: &str, fields: &'a Value) -> Result<&'a [Value], ApiError> {
    match fields {
        Value::Null => Ok(&[]),
        Value::Array(items) => Ok(items),
        _ => {
            let message = format!("'{place}' must be a list");
            Err(ApiError::invalid_parameter(place, message))
        }
    }
}

/// Reads tools. A tool that the server would have to run itself is left out if the request says that the model may do
/// without tools.
fn tools(
    fields: &Value,
    choice: &Value,
    left_out: &mut Vec<String>,
) -> Result<Option<Vec<ResponseTool>>, ApiError> {
    let is_optional = may_do_without(choice);
    let mut tools = Vec::new();
    for (index, fields) in list("tools", fields)?.iter().enumerate() {
        let place = format!("tools[{index}]");
        match required_kind(&place, fields)? {
            "function" => tools.push(ResponseTool::Function(read_at(&place, fields)?)),
            "custom" => tools.push(ResponseTool::Custom(read_at(&place, fields)?)),
            "namespace" => tools.push(ResponseTool::Namespace(namespace(&place, fields)?)),
            kind if is_optional => leave_out(kind, left_out),
            kind => return Err(not_run(&place, kind)),
        }
    }
    Ok((!tools.is_empty()).then_some(tools))
}

fn leave_out(kind: &str, left_out: &mut Vec<String>) {
    if !left_out.iter().any(|left| left == kind) {
        left_out.push(kind.to_owned());
    }
}

/// Whether a choice says that the model may do without tools.
fn may_do_without(choice: &Value) -> bool {
    let mode = match choice["type"] == "allowed_tools" {
        true => &choice["mode"],
        false => choice,
    };
    *mode == "auto" || *mode == "none"
}

/// Reads a choice of allowed tools. Tools that the server would have to run itself are left out as [`tools`] does it. If no
/// others are allowed, the model must not call any.
fn allowed(
    place: &str,
    fields: &Value,
    left_out: &mut Vec<String>,
) -> Result<ResponseToolChoice, ApiError> {
    let (param, is_optional) = (format!("{place}.tools"), may_do_without(fields));
    if fields["tools"].is_null() {
        let message = format!("'{param}' is missing");
        return Err(ApiError::invalid_parameter(param, message));
    }
    let listed = list(&param, &fields["tools"])?;
    let mut tools = Vec::new();
    for (index, fields) in listed.iter().enumerate() {
        let place = format!("{param}[{index}]");
        match required_kind(&place, fields)? {
            "function" | "custom" | "namespace" => tools.push(read_at(&place, fields)?),
            kind if is_optional => leave_out(kind, left_out),
            kind => return Err(not_run(&place, kind)),
        }
    }
    let allowed: AllowedTools = read_at(place, fields)?;
    Ok(match tools.is_empty() && !listed.is_empty() {
        true => ResponseToolChoice::Mode(ToolMode::None),
        false => ResponseToolChoice::Allowed(AllowedTools { tools, ..allowed }),
    })
}

fn not_run(place: &str, kind: &str) -> ApiError {
    let message = format!(
        "'{place}' is of type '{kind}', which this server does not run: leave it out, or send \"tool_choice\": \"auto\" to go on without it"
    );
    ApiError::unsupported(place, message)
}

fn namespace(place: &str, fields: &Value) -> Result<NamespaceTool, ApiError> {
    let inner = format!("{place}.tools");
    let tools = list(&inner, &fields["tools"])?.iter().enumerate();
    let tools = tools.map(|(index, fields)| {
        let place = format!("{inner}[{index}]");
        match required_kind(&place, fields)? {
            "function" => read_at(&place, fields).map(ToolOfNamespace::Function),
            "custom" => read_at(&place, fields).map(ToolOfNamespace::Custom),
            kind => Err(not_run(&place, kind)),
        }
    });
    Ok(NamespaceTool {
        tools: tools.collect::<Result<_, _>>()?,
        ..read_at(place, fields)?
    })
}

fn tool_choice(
    fields: &Value,
    left_out: &mut Vec<String>,
) -> Result<Option<ResponseToolChoice>, ApiError> {
    const PLACE: &str = "tool_choice";
    match fields {
        Value::Null => return Ok(None),
        Value::String(_) => {
            return read_at(PLACE, fields).map(|mode| Some(ResponseToolChoice::Mode(mode)));
        }
        _ => {}
    }
    match required_kind(PLACE, fields)? {
        "allowed_tools" => allowed(PLACE, fields, left_out),
        "function" | "custom" => read_at(PLACE, fields).map(ResponseToolChoice::Named),
        kind => Err(not_run(PLACE, kind)),
    }
    .map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_refused(fields: Value, param: &str) {
        let error = ReadRequest::read(&fields)
            .unwrap_err()
            .into_envelope()
            .error;
        assert_eq!(error.param.as_deref(), Some(param), "{}", error.message);
        assert!(error.message.contains(param), "{}", error.message);
    }

    #[test]
    fn wrong_items_are_refused_by_place() {
        check_refused(json!({}), "input");
        check_refused(json!({"input": 1}), "input");
        check_refused(json!({"input": []}), "input");
        for (item, place) in [
            (json!("Hi"), ""),
            (json!({"type": 1}), ".type"),
            (json!({}), ".role"),
            (json!({"role": "tool", "content": ""}), ".role"),
            (json!({"role": "user", "content": 1}), ".content"),
            (
                json!({"type": "function_call", "call_id": "1", "name": "f"}),
                ".arguments",
            ),
            (
                json!({"type": "function_call_output", "output": "1"}),
                ".call_id",
            ),
            (json!({"type": "item_reference", "id": "msg_1"}), ""),
            (json!({"id": "msg_1"}), ""),
            (json!({"type": "web_search_call", "id": "ws_1"}), ""),
        ] {
            let input = json!([{"role": "user", "content": "Hi"}, item]);
            check_refused(json!({"input": input}), &format!("input[1]{place}"));
        }
    }

    #[test]
    fn wrong_tools_are_refused_by_place() {
        for (fields, param) in [
            (json!({"tools": {}}), "tools"),
            (json!({"tools": [1]}), "tools[0]"),
            (json!({"tools": [{"name": "f"}]}), "tools[0].type"),
            (json!({"tools": [{"type": "function"}]}), "tools[0].name"),
            (
                json!({"tools": [{"type": "custom", "name": "c", "format": {}}]}),
                "tools[0].format.type",
            ),
            (json!({"tools": [{"type": "web_search"}]}), "tools[0]"),
            (
                json!({"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "function"}]}]}),
                "tools[0].tools[0].name",
            ),
            (json!({"tool_choice": "always"}), "tool_choice"),
            (
                json!({"tool_choice": {"type": "function"}}),
                "tool_choice.name",
            ),
            (
                json!({"tool_choice": {"type": "file_search"}}),
                "tool_choice",
            ),
            (
                json!({"tool_choice": {"type": "allowed_tools", "tools": []}}),
                "tool_choice.mode",
            ),
            (json!({"include": ["nothing"]}), "include"),
            (json!({"reasoning": {"effort": "huge"}}), "reasoning.effort"),
            (
                json!({"text": {"format": {"type": "xml"}}}),
                "text.format.type",
            ),
        ] {
            let mut fields = fields;
            fields["input"] = json!("Hi");
            check_refused(fields, param);
        }
    }

    #[test]
    fn hosted_tools_are_left_out_if_the_model_may_do_without() {
        let mut fields = json!({"input": "Hi", "tools": [{"type": "web_search"}, {"type": "function", "name": "f"}]});
        check_refused(fields.clone(), "tools[0]");
        fields["tool_choice"] = json!("required");
        check_refused(fields.clone(), "tools[0]");
        fields["tool_choice"] = json!("auto");
        let read = ReadRequest::read(&fields).unwrap();
        assert_eq!(read.left_out, ["web_search"]);
        assert_eq!(read.request.tools.unwrap().len(), 1);
    }

    #[test]
    fn hosted_tools_are_left_out_of_the_allowed_ones() {
        let (hosted, function) = (
            json!({"type": "mcp", "server_label": "s"}),
            json!({"type": "function", "name": "f"}),
        );
        let asked = |mode: &str, listed: Value| {
            let choice = json!({"type": "allowed_tools", "mode": mode, "tools": listed});
            json!({"input": "Hi", "tools": [hosted, function], "tool_choice": choice})
        };
        let both = json!([hosted, function]);
        let read = ReadRequest::read(&asked("auto", both.clone())).unwrap();
        assert_eq!(read.left_out, ["mcp"]);
        let choice = serde_json::to_value(read.request.tool_choice.unwrap()).unwrap();
        assert_eq!(choice["tools"], json!([function]));
        let read =
            ReadRequest::read(&asked("auto", json!([{"type": "fuction", "name": "f"}]))).unwrap();
        assert_eq!(read.left_out, ["fuction", "mcp"]);
        let read = ReadRequest::read(&asked("auto", json!([hosted]))).unwrap();
        let choice = serde_json::to_value(read.request.tool_choice.unwrap()).unwrap();
        assert_eq!(choice, "none");
        check_refused(asked("required", both), "tool_choice.tools[0]");
        let nameless = json!([hosted, {"type": "function"}]);
        check_refused(asked("auto", nameless), "tool_choice.tools[1].name");
        check_refused(asked("auto", json!(null)), "tool_choice.tools");
    }
}
