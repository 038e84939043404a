use crate::{conversation::Effort, openai::ReasoningEffort};

/// Reads how much a model is to reason.
pub fn effort(effort: ReasoningEffort) -> Effort {
    match effort {
        ReasoningEffort::None => Effort::None,
        ReasoningEffort::Minimal => Effort::Minimal,
        ReasoningEffort::Low => Effort::Low,
        ReasoningEffort::Medium => Effort::Medium,
        ReasoningEffort::High => Effort::High,
        ReasoningEffort::Xhigh => Effort::Xhigh,
    }
}
