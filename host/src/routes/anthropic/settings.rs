use serde_json::Value;

use super::super::{
    checks::no_empty,
    generation::{Parameters, WantedGrammar},
};
use crate::{
    anthropic::{Conversation, MessagesRequest, OutputFormat, Thinking, ThinkingDisplay},
    error::ApiError,
};

/// Most stop sequences in a request.
const MAX_STOPS: usize = 64;

/// Reads a request's parameters. Stop sequences are left out, because errors would call them by
/// their name there. `max_tokens` is reduced to `most`, because clients ask for as many tokens as Anthropic's models can generate.
pub fn parameters(request: &MessagesRequest, most: Option<u32>) -> Parameters {
    let max_tokens = request.max_tokens.min(most.unwrap_or(u32::MAX));
    Parameters {
        max_tokens: Some(("max_tokens", max_tokens.into())),
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        stream: request.stream.unwrap_or(false),
        ..Parameters::default()
    }
}

/// The texts that end an answer.
pub fn stop_sequences(request: &MessagesRequest) -> Result<Vec<String>, ApiError> {
    let stops = request.stop_sequences.clone().unwrap_or_default();
    if stops.len() > MAX_STOPS {
        let count = stops.len();
        let message = format!("'stop_sequences' may have up to {MAX_STOPS} texts, not {count}");
        return Err(ApiError::invalid_parameter("stop_sequences", message));
    }
    no_empty("stop_sequences", &stops)?;
    Ok(stops)
}

/// Most tokens of an answer's reasoning. None: any number.
pub fn reasoning_budget(conversation: &Conversation) -> Option<u32> {
    match conversation.thinking {
        Some(Thinking::Enabled { budget_tokens, .. }) => budget_tokens,
        Some(Thinking::Adaptive { .. } | Thinking::Disabled | Thinking::BetweenTools) | None => {
            None
        }
    }
}

/// Whether an answer shows its reasoning.
pub fn shows_thinking(conversation: &Conversation) -> bool {
    match conversation.thinking {
        Some(Thinking::Enabled { display, .. } | Thinking::Adaptive { display }) => {
            display != Some(ThinkingDisplay::Omitted)
        }
        Some(Thinking::Disabled | Thinking::BetweenTools) | None => true,
    }
}

/// The grammar of an answer's text. None if any text is allowed.
pub fn wanted(conversation: &Conversation) -> Option<WantedGrammar> {
    let OutputFormat::JsonSchema { schema } =
        conversation.output_config.as_ref()?.format.as_ref()?;
    let schema = Value::Object(schema.clone());
    let param = "output_config.format";
    Some(WantedGrammar::of_schema(schema, Some(true), param))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn request(fields: Value) -> MessagesRequest {
        let mut fields = fields;
        fields["max_tokens"] = json!(64000);
        serde_json::from_value(fields).unwrap()
    }

    #[test]
    fn more_tokens_than_the_operator_allows_stand_for_as_many() {
        let request = request(json!({"temperature": 0.5, "top_k": 3, "stream": true}));
        let limit = |most| parameters(&request, most).max_tokens.unwrap();
        assert_eq!(limit(None), ("max_tokens", 64000));
        assert_eq!(limit(Some(100)), ("max_tokens", 100));
        let parameters = parameters(&request, Some(100));
        assert_eq!(parameters.temperature, Some(0.5));
        assert_eq!(parameters.top_k, Some(3));
        assert!(parameters.stream);
    }

    #[test]
    fn wrong_stop_sequences_are_refused_by_their_name() {
        for stops in [vec![""], vec!["x"; 65]] {
            let error = stop_sequences(&request(json!({"stop_sequences": stops}))).unwrap_err();
            let message = error.into_envelope().error.message;
            assert!(message.starts_with("'stop_sequences'"), "{message}");
        }
        let five = json!({"stop_sequences": ["a", "b", "c", "d", "e"]});
        assert_eq!(stop_sequences(&request(five)).unwrap().len(), 5);
    }

    #[test]
    fn a_schema_is_followed_exactly() {
        let format = json!({"type": "json_schema", "schema": {"type": "integer"}});
        let conversation = json!({"messages": [], "output_config": {"format": format}});
        let wanted = wanted(&serde_json::from_value(conversation).unwrap()).unwrap();
        assert_eq!(wanted.schema, None);
        assert_eq!(wanted.param, "output_config.format");
    }
}
