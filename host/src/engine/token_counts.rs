//! How often each token occurs in a sequence, for the penalties.

use tenon_plugin_api::TokenCount;

/// Counts by token, ordered by id.
#[derive(Default)]
pub struct TokenCounts(Vec<TokenCount>);

impl TokenCounts {
    /// Counts a prompt.
    pub fn of_prompt(prompt: &[u32]) -> Self {
        let mut counts = Self::default();
        for &token in prompt {
            counts.entry(token).prompt += 1;
        }
        counts
    }

    /// Counts a token of the output.
    pub fn push(&mut self, token: u32) {
        self.entry(token).output += 1;
    }

    /// The counts. Each token occurs at most once.
    pub fn as_slice(&self) -> &[TokenCount] {
        &self.0
    }

    fn entry(&mut self, token: u32) -> &mut TokenCount {
        let at = self.0.binary_search_by_key(&token, |count| count.token);
        let at = at.unwrap_or_else(|at| {
            let new = TokenCount {
                token,
                ..TokenCount::default()
            };
            self.0.insert(at, new);
            at
        });
        &mut self.0[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompt_and_output_are_counted_apart() {
        let mut counts = TokenCounts::of_prompt(&[9, 2, 9]);
        counts.push(5);
        counts.push(9);
        let expected =
            [(2, 1, 0), (5, 0, 1), (9, 2, 1)].map(|(token, prompt, output)| TokenCount {
                token,
                prompt,
                output,
            });
        assert_eq!(counts.as_slice(), expected);
    }
}
