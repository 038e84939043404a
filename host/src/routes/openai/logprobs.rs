//! Writes log-probabilities in OpenAI's two forms.

use std::fmt::Write;

use crate::{
    openai::{ChatLogprobs, ChatTokenLogprob, CompletionLogprobs, TokenLogprob, TopLogprobs},
    reply::ScoredToken,
};

/// Stands for the logarithm of 0, which JSON cannot express.
const IMPOSSIBLE: f32 = -9999.0;

/// Log-probabilities in the form of chats.
pub fn for_chat(tokens: Vec<ScoredToken>) -> ChatLogprobs {
    let content = tokens.into_iter().map(|token| ChatTokenLogprob {
        // Only the first token of a prompt has no log-probability.
        token: chat_token(token.bytes, token.logprob.unwrap_or(IMPOSSIBLE)),
        top_logprobs: token
            .top
            .into_iter()
            .map(|(bytes, logprob)| chat_token(bytes, logprob))
            .collect(),
    });
    ChatLogprobs {
        content: content.collect(),
        refusal: None,
    }
}

/// Log-probabilities in the form of completions.
pub fn for_completion(tokens: Vec<ScoredToken>) -> CompletionLogprobs {
    let mut logprobs = CompletionLogprobs::default();
    for token in tokens {
        let text = text_of(&token.bytes, "bytes:");
        let logprob = token.logprob.map(|l| l.max(IMPOSSIBLE));
        let top = logprob.map(|logprob| {
            let mut all = TopLogprobs::default();
            for (bytes, logprob) in &token.top {
                all.add(text_of(bytes, "bytes:"), logprob.max(IMPOSSIBLE));
            }
            all.add(text.clone(), logprob);
            all
        });
        logprobs.tokens.push(text);
        logprobs.token_logprobs.push(logprob);
        logprobs.top_logprobs.push(top);
        logprobs.text_offset.push(token.text_offset);
    }
    logprobs
}

fn chat_token(bytes: Vec<u8>, logprob: f32) -> TokenLogprob {
    TokenLogprob {
        token: text_of(&bytes, ""),
        logprob: logprob.max(IMPOSSIBLE),
        bytes,
    }
}

/// Bytes as text. If they are not UTF-8, the prefix and each byte as `\xNN`.
fn text_of(bytes: &[u8], prefix: &str) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold(prefix.to_owned(), |mut text, byte| {
            // Writing to a string never fails.
            let _ = write!(text, "\\x{byte:02x}");
            text
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn token(bytes: &[u8], logprob: Option<f32>, top: &[(&[u8], f32)]) -> ScoredToken {
        ScoredToken {
            bytes: bytes.to_vec(),
            logprob,
            top: top.iter().map(|(b, l)| (b.to_vec(), *l)).collect(),
            text_offset: 3,
        }
    }

    #[test]
    fn a_chat_has_tokens_with_their_bytes() {
        let half = token(
            b"\xF0\x9F",
            Some(-1.5),
            &[(b"a", -0.5), (b"\xF0\x9F", -1.5)],
        );
        let impossible = token(b"b", Some(f32::NEG_INFINITY), &[]);
        let expected = json!({
            "content": [
                {
                    "token": "\\xf0\\x9f", "logprob": -1.5, "bytes": [240, 159],
                    "top_logprobs": [
                        {"token": "a", "logprob": -0.5, "bytes": [97]},
                        {"token": "\\xf0\\x9f", "logprob": -1.5, "bytes": [240, 159]},
                    ],
                },
                {"token": "b", "logprob": -9999.0, "bytes": [98], "top_logprobs": []},
            ],
            "refusal": null,
        });
        let logprobs = serde_json::to_value(for_chat(vec![half, impossible])).unwrap();
        assert_eq!(logprobs, expected);
    }

    #[test]
    fn a_completion_has_lists_and_its_own_token_among_the_top() {
        let first = token(b"a", None, &[]);
        let half = token(
            b"\xF0",
            Some(-2.5),
            &[(b"a", -0.5), (b"b", f32::NEG_INFINITY)],
        );
        let expected = json!({
            "tokens": ["a", "bytes:\\xf0"],
            "token_logprobs": [null, -2.5],
            "top_logprobs": [null, {"a": -0.5, "b": -9999.0, "bytes:\\xf0": -2.5}],
            "text_offset": [3, 3],
        });
        let logprobs = serde_json::to_value(for_completion(vec![first, half])).unwrap();
        assert_eq!(logprobs, expected);
    }
}
