use serde_json::{Map, Value, json};

/// A message of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub role: Role,
    /// None only in messages of the assistant.
    pub content: Option<Content>,
    /// The tools that the assistant called.
    pub calls: Vec<Call>,
    /// Id of the call whose result a message of a tool is.
    pub call_id: Option<String>,
    /// The reasoning of the assistant before its answer.
    pub reasoning: Option<String>,
    /// Other keys, such as `name`. Chat templates may use them.
    pub other: Map<String, Value>,
}

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    System,
    /// The newer name of `System`.
    Developer,
    User,
    Assistant,
    /// The result of a tool.
    Tool,
}

/// The text of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Text(String),
    /// Texts that make up the whole.
    Parts(Vec<String>),
}

/// A call of a tool in a message of the assistant.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub id: Option<String>,
    pub name: String,
    /// The arguments, as the client sent them: an object, or JSON in a string.
    pub arguments: Value,
}

impl Message {
    /// A message that has nothing but its text.
    pub fn new(role: Role, content: Option<Content>) -> Self {
        Self {
            role,
            content,
            calls: Vec::new(),
            call_id: None,
            reasoning: None,
            other: Map::new(),
        }
    }

    /// The message as chat templates get it.
    pub fn for_template(self) -> Value {
        let mut fields = Map::new();
        fields.insert("role".to_owned(), self.role.word().into());
        let content = self.content.map(Content::for_template);
        fields.insert("content".to_owned(), content.into());
        if !self.calls.is_empty() {
            let calls = self.calls.into_iter().map(Call::for_template);
            fields.insert("tool_calls".to_owned(), calls.collect());
        }
        if let Some(id) = self.call_id {
            fields.insert("tool_call_id".to_owned(), id.into());
        }
        if let Some(reasoning) = self.reasoning {
            fields.insert("reasoning_content".to_owned(), reasoning.into());
        }
        fields.extend(self.other);
        fields.into()
    }
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

impl Content {
    fn for_template(self) -> Value {
        let part = |text: String| json!({"type": "text", "text": text});
        match self {
            Self::Text(text) => text.into(),
            Self::Parts(texts) => texts.into_iter().map(part).collect(),
        }
    }
}

impl Call {
    fn for_template(self) -> Value {
        let mut fields = Map::new();
        if let Some(id) = self.id {
            fields.insert("id".to_owned(), id.into());
        }
        fields.insert("type".to_owned(), "function".into());
        let function = json!({"name": self.name, "arguments": self.arguments});
        fields.insert("function".to_owned(), function);
        fields.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_gets_the_keys_of_openai_s_chats_in_their_order() {
        let call = Call {
            id: Some("1".to_owned()),
            name: "f".to_owned(),
            arguments: json!("{}"),
        };
        let anonymous = Call {
            id: None,
            arguments: json!({"b": 1, "a": 2}),
            ..call.clone()
        };
        let message = Message {
            calls: vec![call, anonymous],
            call_id: Some("0".to_owned()),
            reasoning: Some("Hm.".to_owned()),
            other: Map::from_iter([("name".to_owned(), json!("me"))]),
            ..Message::new(Role::Assistant, None)
        };
        let expected = json!({
            "role": "assistant",
            "content": null,
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"type": "function", "function": {"name": "f", "arguments": {"b": 1, "a": 2}}},
            ],
            "tool_call_id": "0",
            "reasoning_content": "Hm.",
            "name": "me",
        });
        assert_eq!(message.for_template().to_string(), expected.to_string());
    }

    #[test]
    fn texts_are_whole_or_in_parts() {
        let content =
            |content| Message::new(Role::User, Some(content)).for_template()["content"].clone();
        assert_eq!(content(Content::Text("a".to_owned())), json!("a"));
        let parts = Content::Parts(vec!["a".to_owned(), "b".to_owned()]);
        let part = |text: &str| json!({"type": "text", "text": text});
        assert_eq!(content(parts), json!([part("a"), part("b")]));
    }
}
