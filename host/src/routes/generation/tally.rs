use crate::reply::End;

/// The token counts of a request.
pub struct Tally {
    pub prompt_tokens: u32,
    pub cached_tokens: u32,
    pub completion_tokens: u32,
    /// None unless the model reasons.
    pub reasoning_tokens: Option<u32>,
    answers_per_prompt: u32,
}

impl Tally {
    /// A tally before any answer.
    pub fn new(prompt_tokens: u32, answers_per_prompt: u32) -> Self {
        Self {
            prompt_tokens,
            cached_tokens: 0,
            completion_tokens: 0,
            reasoning_tokens: None,
            answers_per_prompt,
        }
    }

    /// Adds an answer. Each prompt counts once, with the first of its answers.
    pub fn add(&mut self, index: u32, end: &End) {
        self.completion_tokens += end.completion_tokens;
        if let Some(tokens) = end.reasoning_tokens {
            *self.reasoning_tokens.get_or_insert_default() += tokens;
        }
        if index.is_multiple_of(self.answers_per_prompt) {
            self.cached_tokens += end.cached_tokens;
        }
    }
}
