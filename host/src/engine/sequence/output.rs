use std::sync::Arc;

use super::common::Common;
use crate::{
    engine::{
        Request, Steering, constraint::Constraint, draft::Drafter, dry::Dry,
        token_counts::TokenCounts,
    },
    grammar::CompiledGrammar,
    reasoning_budget::ReasoningLimiter,
};

/// State that the choice of the next tokens depends on, besides the earlier tokens.
pub struct Output {
    /// Token counts for the penalties. Empty if there are none.
    pub counts: TokenCounts,
    /// DRY. Its bias includes the request's bias and is used in its place.
    pub dry: Option<Dry>,
    pub grammar: Option<Arc<CompiledGrammar>>,
    /// The position in the grammar, once the sequence runs.
    pub constraint: Option<Constraint>,
    /// Forces the end of reasoning. None if it has no budget.
    pub limiter: Option<ReasoningLimiter>,
    pub drafter: Drafter,
}

impl Output {
    /// The state before the first token that follows the prompt.
    pub fn new(request: &Request, steering: Steering, prompt: &[u32], common: &Common) -> Self {
        let Steering {
            dry,
            grammar,
            reasoning,
        } = steering;
        let dry = dry.map(|options| Dry::new(options, &request.bias, prompt));
        // With DRY, the bias depends on every earlier token, so drafts are impossible.
        let max_draft_tokens = match dry {
            Some(_) => 0,
            None => common.max_draft_tokens,
        };
        let limiter = |budget| ReasoningLimiter::new(budget, common.vocabulary.clone());
        Self {
            counts: match request.params.penalizes() {
                true => TokenCounts::of_prompt(prompt),
                false => TokenCounts::default(),
            },
            dry,
            grammar,
            constraint: None,
            limiter: reasoning.map(limiter),
            drafter: Drafter::new(max_draft_tokens),
        }
    }
}
