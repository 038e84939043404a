use serde_json::{Map, Value, json};

/// A function that the model may call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tool {
    pub name: String,
    /// What the function does, for the model.
    pub description: Option<String>,
    /// JSON Schema of the arguments, which are an object. None: the function takes no arguments.
    pub parameters: Option<Map<String, Value>>,
    /// Whether the schema has to be followed exactly.
    pub is_strict: bool,
}

impl Tool {
    /// The tool as chat templates get it.
    pub fn for_template(&self) -> Value {
        let mut function = Map::new();
        function.insert("name".to_owned(), json!(self.name));
        if let Some(description) = &self.description {
            function.insert("description".to_owned(), json!(description));
        }
        if let Some(parameters) = &self.parameters {
            function.insert("parameters".to_owned(), json!(parameters));
        }
        json!({"type": "function", "function": function})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_gets_what_is_for_the_model() {
        let parameters = json!({"type": "object", "properties": {"b": {}, "a": {}}});
        let tool = Tool {
            name: "f".to_owned(),
            description: Some("d".to_owned()),
            parameters: parameters.as_object().cloned(),
            is_strict: true,
        };
        let function = json!({"name": "f", "description": "d", "parameters": parameters});
        let expected = json!({"type": "function", "function": function});
        assert_eq!(tool.for_template().to_string(), expected.to_string());
        let bare = Tool {
            name: "f".to_owned(),
            ..Tool::default()
        };
        let expected = json!({"type": "function", "function": {"name": "f"}});
        assert_eq!(bare.for_template(), expected);
    }
}
