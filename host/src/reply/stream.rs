use std::{collections::VecDeque, sync::Arc};

use futures_util::{Stream, stream};
use tenon_plugin_api::{Code, Error, Vocabulary};

use super::{Detokenizer, Matched, StopMatcher};
use crate::{
    engine::{Event, Failure, FinishReason, Generation},
    metrics::Meter,
};

/// An answer as text. Plain answers collect what streamed ones send. Dropping it cancels the generation.
pub struct Reply {
    /// None once it is over, so that a stop string ends the sequence at once.
    generation: Option<Generation>,
    text: TextAssembler,
    meter: Meter,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delta {
    /// More text, never empty.
    Text(String),
    /// The last piece.
    End(End),
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub reason: FinishReason,
    /// Tokens generated, those of a stop string included, the model's end token not.
    pub completion_tokens: u32,
    /// Tokens of the prompt that were stored already.
    pub cached_tokens: u32,
}

impl Reply {
    /// The text of a generation, up to the first of these stop strings.
    pub fn new(
        generation: Generation,
        vocabulary: Arc<Vocabulary>,
        stop: Vec<String>,
        meter: Meter,
    ) -> Self {
        Self {
            generation: Some(generation),
            text: TextAssembler::new(vocabulary, stop),
            meter,
        }
    }

    /// The next piece. None after [`Delta::End`] or an error.
    pub async fn next(&mut self) -> Option<Result<Delta, Failure>> {
        loop {
            if let Some(delta) = self.text.ready.pop_front() {
                return Some(Ok(delta));
            }
            match self.generation.as_mut()?.next().await {
                Some(Event::Token { token, .. }) => self.take_token(token),
                Some(Event::Scored(_)) => {}
                Some(Event::Started { cached_tokens }) => self.text.cached_tokens = cached_tokens,
                Some(Event::Finished { reason }) => self.finish(reason),
                Some(Event::Failed(error)) => return Some(Err(self.fail(error))),
                None => return Some(Err(self.fail(cut_off()))),
            }
        }
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Delta, Failure>> + Send {
        stream::unfold(self, async |mut reply| {
            reply.next().await.map(|delta| (delta, reply))
        })
    }

    /// The whole answer.
    pub async fn collect(mut self) -> Result<(String, End), Failure> {
        let mut text = String::new();
        loop {
            match self.next().await {
                Some(Ok(Delta::Text(more))) => text += &more,
                Some(Ok(Delta::End(end))) => return Ok((text, end)),
                Some(Err(error)) => return Err(error),
                None => return Err(cut_off()),
            }
        }
    }

    fn take_token(&mut self, token: u32) {
        self.meter.token();
        if self.text.push(token) {
            self.generation = None;
            self.meter.finished();
        }
    }

    fn finish(&mut self, reason: FinishReason) {
        self.generation = None;
        self.text.finish(reason);
        self.meter.finished();
    }

    fn fail(&mut self, error: Failure) -> Failure {
        self.generation = None;
        self.meter.failed();
        error
    }
}

/// The engine's thread went away without a word: the process is about to end.
fn cut_off() -> Failure {
    let why = "the answer was cut off; send the request again";
    Error::new(Code::CANCELLED, why).into()
}

/// Tokens to deltas.
struct TextAssembler {
    detokenizer: Detokenizer,
    stop: StopMatcher,
    tokens: u32,
    cached_tokens: u32,
    ready: VecDeque<Delta>,
}

impl TextAssembler {
    fn new(vocabulary: Arc<Vocabulary>, stop: Vec<String>) -> Self {
        Self {
            detokenizer: Detokenizer::new(vocabulary),
            stop: StopMatcher::new(stop),
            tokens: 0,
            cached_tokens: 0,
            ready: VecDeque::new(),
        }
    }

    /// Takes the next token. Returns whether a stop string ended the answer.
    fn push(&mut self, token: u32) -> bool {
        self.tokens += 1;
        let text = self.detokenizer.push(token);
        self.push_text(&text)
    }

    /// Takes the end: nothing is held back any more.
    fn finish(&mut self, reason: FinishReason) {
        let text = self.detokenizer.flush();
        if !self.push_text(&text) {
            let held = self.stop.flush();
            self.send(held);
            self.end(reason);
        }
    }

    fn push_text(&mut self, text: &str) -> bool {
        match self.stop.push(text) {
            Matched::Text(text) => {
                self.send(text);
                false
            }
            Matched::Stopped(text) => {
                self.send(text);
                self.end(FinishReason::Stop);
                true
            }
        }
    }

    fn send(&mut self, text: String) {
        if !text.is_empty() {
            self.ready.push_back(Delta::Text(text));
        }
    }

    fn end(&mut self, reason: FinishReason) {
        self.ready.push_back(Delta::End(End {
            reason,
            completion_tokens: self.tokens,
            cached_tokens: self.cached_tokens,
        }));
    }
}

#[cfg(test)]
mod tests {
    use tenon_plugin_api::TokenKind;

    use super::*;

    /// One token for each byte, then a control token.
    fn assembler(stop: &[&str]) -> TextAssembler {
        let mut vocabulary = Vocabulary::default();
        for byte in 0..=255 {
            vocabulary.push(&[byte], TokenKind::BYTE);
        }
        vocabulary.push(b"<|x|>", TokenKind::CONTROL);
        TextAssembler::new(
            Arc::new(vocabulary),
            stop.iter().map(|&stop| stop.to_owned()).collect(),
        )
    }

    fn end(reason: FinishReason, completion_tokens: u32) -> Delta {
        Delta::End(End {
            reason,
            completion_tokens,
            cached_tokens: 0,
        })
    }

    #[track_caller]
    fn check(stop: &[&str], output: &str, texts: &[&str], last: Delta) {
        let mut assembler = assembler(stop);
        let mut bytes = output.bytes();
        if !bytes.any(|byte| assembler.push(byte.into())) {
            assembler.finish(FinishReason::Length);
        }
        let texts = texts.iter().map(|&text| Delta::Text(text.to_owned()));
        let expected: Vec<Delta> = texts.chain([last]).collect();
        assert_eq!(Vec::from(assembler.ready), expected);
    }

    #[test]
    fn each_delta_is_whole_characters() {
        check(&[], "aé", &["a", "é"], end(FinishReason::Length, 3));
        check(&[], "", &[], end(FinishReason::Length, 0));
    }

    #[test]
    fn a_stop_string_ends_the_answer_and_counts_its_tokens() {
        check(&["END"], "a END b", &["a", " "], end(FinishReason::Stop, 5));
        check(&["a"], "a", &[], end(FinishReason::Stop, 1));
    }

    #[test]
    fn the_end_gives_what_was_held_back() {
        check(
            &["END"],
            "a EN",
            &["a", " ", "EN"],
            end(FinishReason::Length, 4),
        );
    }

    #[test]
    fn half_a_character_at_the_end_is_replaced_and_may_stop() {
        let mut assembler = assembler(&["\u{FFFD}"]);
        assert!(!assembler.push(0xC3));
        assembler.finish(FinishReason::Length);
        assert_eq!(Vec::from(assembler.ready), [end(FinishReason::Stop, 1)]);
    }

    #[test]
    fn control_tokens_count_but_print_nothing() {
        let mut assembler = assembler(&[]);
        assert!(!assembler.push(256));
        assembler.finish(FinishReason::Stop);
        assert_eq!(Vec::from(assembler.ready), [end(FinishReason::Stop, 1)]);
    }
}
