//! Checkpoints of a chat's prompt: the lengths up to which later prompts are expected to be equal to it.
//!
//! A session that forks only whole sequences can continue at such a length only if its state there was cached. So a chat is also
//! rendered as later requests may have it, to see where they differ from its prompt.

use serde_json::json;

use crate::prompt::{Ending, RenderRequest};

/// Requests that may follow this one: another last message after the same ones, and the next turn of the same chat. The first one
/// differs from the prompt earlier.
pub fn later_requests(request: &RenderRequest) -> Vec<RenderRequest> {
    let mut other = request.clone();
    if let Some(last) = other.messages.last_mut() {
        last["content"] = json!("?");
    }
    let mut next = request.clone();
    next.messages
        .push(json!({"role": "assistant", "content": "?"}));
    next.ending = Ending::LastMessage;
    vec![other, next]
}

/// The number of tokens at the prompt's end that a later prompt does not share. At least one, because the last token is always computed.
pub fn passing_end(prompt: &[u32], later: &[u32]) -> u32 {
    let common = prompt.iter().zip(later).take_while(|(a, b)| a == b).count();
    (prompt.len() - common).max(1) as u32
}

/// Lengths of the beginnings before these ends, shorter ones first. Ends are counted from the prompt's end, because earlier
/// answers in the prompt may have got other tokens since. Without ends, the only beginning is all but the last token.
pub fn beginnings(prompt: &[u32], ends: &[u32]) -> Vec<u32> {
    let len = prompt.len() as u32;
    let ends: &[u32] = match ends {
        [] => &[1],
        ends => ends,
    };
    let before = |&end| len.checked_sub(end);
    let mut beginnings: Vec<_> = ends.iter().filter_map(before).collect();
    beginnings.sort_unstable();
    beginnings.dedup();
    beginnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_left_where_later_ones_differ() {
        assert_eq!(passing_end(&[1, 2, 3, 4], &[1, 2, 9]), 2);
        assert_eq!(passing_end(&[1, 2], &[1, 2, 3]), 1);
        assert_eq!(passing_end(&[1, 2], &[1]), 1);
        assert_eq!(passing_end(&[1, 2, 3], &[1]), 2);
    }

    #[test]
    fn beginnings_are_counted_from_the_end() {
        assert_eq!(beginnings(&[0; 10], &[3, 1]), [7, 9]);
        assert_eq!(beginnings(&[0; 10], &[4, 4]), [6]);
        assert_eq!(beginnings(&[0; 2], &[3, 1]), [1]);
        assert_eq!(beginnings(&[0; 10], &[]), [9]);
    }

    #[test]
    fn the_last_message_may_be_another_and_an_answer_may_follow() {
        let message = |role: &str, content: &str| json!({"role": role, "content": content});
        let request = RenderRequest {
            messages: vec![message("system", "Be brief."), message("user", "Why?")],
            ..RenderRequest::default()
        };
        let [other, next] = &later_requests(&request)[..] else {
            panic!("two requests");
        };
        assert_eq!(other.messages[1], message("user", "?"));
        assert_eq!(other.messages[0], request.messages[0]);
        assert_eq!(next.messages[..2], request.messages[..]);
        assert_eq!(next.ending, Ending::LastMessage);
    }
}
