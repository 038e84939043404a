use serde_json::{Map, Value};

use crate::{conversation::Effort, error::ApiError, prompt::RESERVED_VARIABLES};

/// Whether and how much a model should reason, as a request says it.
#[derive(Clone, Copy, Default)]
pub struct WantedReasoning {
    pub is_enabled: Option<bool>,
    pub effort: Option<Effort>,
    /// Most tokens of reasoning.
    pub budget: Option<u32>,
}

impl WantedReasoning {
    /// Whether the model should reason. An effort or a budget asks for it, unless the request says otherwise.
    fn is_wanted(self) -> bool {
        let by_effort = self.effort.map(|effort| effort != Effort::None);
        let by_budget = self.budget.map(|budget| budget > 0);
        self.is_enabled.or(by_effort).or(by_budget).unwrap_or(false)
    }
}

/// The variables for the chat template. `chat_template_kwargs` override the request's own parameters.
pub fn variables(
    thinking: WantedReasoning,
    chat_template_kwargs: Option<&Map<String, Value>>,
) -> Result<Map<String, Value>, ApiError> {
    let mut variables = Map::new();
    variables.insert("enable_thinking".to_owned(), thinking.is_wanted().into());
    if let Some(effort) = thinking.effort {
        variables.insert("reasoning_effort".to_owned(), effort.word().into());
    }
    for (name, value) in chat_template_kwargs.into_iter().flatten() {
        if RESERVED_VARIABLES.contains(&name.as_str()) {
            let param = format!("chat_template_kwargs.{name}");
            let message = format!("'{param}' cannot be set: the server gives it to the template");
            return Err(ApiError::invalid_parameter(param, message));
        }
        variables.insert(name.clone(), value.clone());
    }
    Ok(variables)
}
