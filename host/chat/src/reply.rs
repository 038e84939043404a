//! An answer, read while it is written.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::{Map, Value};
use tenon_client::{Events, Server};

/// A piece of an answer.
pub enum Piece<'a> {
    Reasoning(&'a str),
    Text(&'a str),
}

/// An answer as far as it was read.
#[derive(Default)]
pub struct PartialAnswer {
    /// The text, without reasoning.
    pub text: String,
    /// Why the answer ended. None if it was not read to its end.
    pub finish_reason: Option<String>,
    usage: Option<Usage>,
    first: Option<Instant>,
    last: Option<Instant>,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<String>,
    reasoning_content: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    completion_tokens: u32,
    prompt_tokens_details: Option<PromptTokens>,
}

#[derive(Deserialize)]
struct PromptTokens {
    #[serde(default)]
    cached_tokens: u32,
}

impl PartialAnswer {
    /// Sends a request and reads the answer into `self`. What was read stays if the future is dropped.
    pub async fn read(
        &mut self,
        server: &Server,
        body: Map<String, Value>,
        mut show: impl FnMut(Piece<'_>),
    ) -> anyhow::Result<()> {
        let body = Value::Object(body);
        let response = server.post("/v1/chat/completions", &body).await?;
        let mut events = Events::of(response);
        while let Some(data) = events.next().await? {
            let chunk: Chunk = serde_json::from_slice(&data)
                .with_context(|| format!("cannot read {}", String::from_utf8_lossy(&data)))?;
            self.take(chunk, &mut show)?;
        }
        Ok(())
    }

    fn take(&mut self, chunk: Chunk, show: &mut impl FnMut(Piece<'_>)) -> anyhow::Result<()> {
        if let Some(error) = chunk.error {
            let message = error["message"].as_str().unwrap_or("no reason given");
            bail!("the server broke off: {message}");
        }
        self.usage = chunk.usage.or(self.usage.take());
        for choice in chunk.choices {
            self.finish_reason = choice.finish_reason.or(self.finish_reason.take());
            self.take_delta(&choice.delta, show);
        }
        Ok(())
    }

    fn take_delta(&mut self, delta: &Delta, show: &mut impl FnMut(Piece<'_>)) {
        let reasoning = delta.reasoning_content.as_deref().unwrap_or_default();
        let text = delta.content.as_deref().unwrap_or_default();
        if reasoning.is_empty() && text.is_empty() {
            return;
        }
        let now = Instant::now();
        self.first.get_or_insert(now);
        self.last = Some(now);
        if !reasoning.is_empty() {
            show(Piece::Reasoning(reasoning));
        }
        if !text.is_empty() {
            show(Piece::Text(text));
            self.text.push_str(text);
        }
    }

    /// Tokens, speed and cached tokens in words. None if the server has not counted them.
    pub fn figures(&self) -> Option<String> {
        let usage = self.usage.as_ref()?;
        let tokens = usage.completion_tokens;
        let time = self.last.zip(self.first).map(|(last, first)| last - first);
        // The time before the first token belongs to the prompt.
        let speed = time
            .filter(|time| *time > Duration::ZERO && tokens > 1)
            .map(|time| {
                format!(
                    " · {:.1} tokens/s",
                    f64::from(tokens - 1) / time.as_secs_f64()
                )
            });
        let cached = usage.prompt_tokens_details.as_ref();
        let cached = cached.map_or(0, |details| details.cached_tokens);
        let unit = if tokens == 1 { "token" } else { "tokens" };
        let speed = speed.unwrap_or_default();
        Some(format!("{tokens} {unit}{speed} · {cached} cached"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(reply: &mut PartialAnswer, chunk: &str) -> anyhow::Result<String> {
        let mut shown = String::new();
        reply.take(serde_json::from_str(chunk)?, &mut |piece| match piece {
            Piece::Reasoning(text) => shown.push_str(&format!("({text})")),
            Piece::Text(text) => shown.push_str(text),
        })?;
        Ok(shown)
    }

    #[test]
    fn reasoning_is_shown_but_not_part_of_the_answer() {
        let mut reply = PartialAnswer::default();
        let mut shown = String::new();
        for chunk in [
            r#"{"choices": [{"delta": {"role": "assistant", "content": ""}}]}"#,
            r#"{"choices": [{"delta": {"reasoning_content": "so"}}]}"#,
            r#"{"choices": [{"delta": {"content": "yes"}}]}"#,
            r#"{"choices": [{"delta": {}, "finish_reason": "stop"}]}"#,
            r#"{"choices": [], "usage": {"completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 4}}}"#,
        ] {
            shown += &take(&mut reply, chunk).unwrap();
        }
        assert_eq!(shown, "(so)yes");
        assert_eq!(reply.text, "yes");
        assert_eq!(reply.finish_reason.as_deref(), Some("stop"));
        assert_eq!(reply.figures().unwrap(), "1 token · 4 cached");
    }

    #[test]
    fn an_error_in_a_stream_is_an_error() {
        let error = take(
            &mut PartialAnswer::default(),
            r#"{"error": {"message": "gone"}}"#,
        );
        assert_eq!(error.unwrap_err().to_string(), "the server broke off: gone");
    }
}
