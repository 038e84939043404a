use std::{collections::VecDeque, sync::Arc};

use futures_util::{Stream, stream};
use tenon_plugin_api::{Code, Error, Vocabulary};

use super::{
    Detokenizer, Echo, HeldTokens, Interpreter, Matched, Piece, Reading, ScoredToken, StopMatcher,
};
use crate::{
    engine::{Event, Failure, FinishReason, Generation, Logprobs},
    metrics::Meter,
};

/// What an answer is read with.
#[derive(Clone, Debug, Default)]
pub struct ReplyOptions {
    /// Texts that end it.
    pub stop: Vec<String>,
    /// Whether its pieces come with their tokens, for which the generation must be scored.
    pub with_tokens: bool,
    /// The prompt, if it is to be repeated; with tokens it must be scored as well.
    pub echo: Option<Echo>,
    /// What its text may mean.
    pub reading: Reading,
}

/// An answer as text. Plain answers collect what streamed ones send. Dropping it cancels the generation.
pub struct Reply {
    /// None once it is over, so that a stop string ends the sequence at once.
    generation: Option<Generation>,
    text: TextAssembler,
    meter: Meter,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    /// More text.
    Text(Piece),
    /// The last piece.
    End(End),
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct End {
    pub reason: FinishReason,
    /// Tokens generated, those of a stop string included, the model's end token not.
    pub completion_tokens: u32,
    /// Tokens of the prompt that were stored already.
    pub cached_tokens: u32,
    /// How many of them were thoughts. None if the model does not think.
    pub reasoning_tokens: Option<u32>,
    /// Whether calls of tools, all of them complete, are why.
    pub ends_with_calls: bool,
    /// The mean of their log-probabilities, if they were scored; 0 without any token.
    pub mean_logprob: f32,
}

impl Reply {
    /// The text of a generation, up to the first stop string.
    pub fn new(
        generation: Generation,
        vocabulary: Arc<Vocabulary>,
        options: ReplyOptions,
        meter: Meter,
    ) -> Self {
        Self {
            generation: Some(generation),
            text: TextAssembler::new(vocabulary, options),
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
                Some(Event::Started { cached_tokens }) => self.text.cached_tokens = cached_tokens,
                Some(Event::Scored(logprobs)) => self.text.prompt_logprobs.push(*logprobs),
                Some(Event::Token { token, logprobs }) => self.take_token(token, logprobs),
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
    pub async fn collect(mut self) -> Result<(Piece, End), Failure> {
        let mut whole = self.text.empty_piece();
        loop {
            match self.next().await {
                Some(Ok(Delta::Text(more))) => whole.append(more),
                Some(Ok(Delta::End(end))) => return Ok((whole, end)),
                Some(Err(error)) => return Err(error),
                None => return Err(cut_off()),
            }
        }
    }

    fn take_token(&mut self, token: u32, logprobs: Option<Box<Logprobs>>) {
        self.meter.token();
        if self.text.push(token, logprobs) {
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
    vocabulary: Arc<Vocabulary>,
    detokenizer: Detokenizer,
    stop: StopMatcher,
    interpreter: Interpreter,
    /// None if tokens are not wanted.
    held: Option<HeldTokens>,
    /// Tokens whose text the interpreter holds back.
    waiting: Option<Vec<ScoredToken>>,
    /// None once it was repeated.
    echo: Option<Echo>,
    prompt_logprobs: Vec<Logprobs>,
    tokens: u32,
    cached_tokens: u32,
    reasoning_tokens: u32,
    logprob_sum: f32,
    ready: VecDeque<Delta>,
}

impl TextAssembler {
    fn new(vocabulary: Arc<Vocabulary>, options: ReplyOptions) -> Self {
        let echo = options.echo;
        let echoed = echo.as_ref().map_or(0, |echo| echo.text().chars().count());
        Self {
            detokenizer: Detokenizer::new(vocabulary.clone(), options.reading.marks.clone()),
            vocabulary,
            stop: StopMatcher::new(options.stop),
            interpreter: Interpreter::new(options.reading),
            waiting: None,
            held: options.with_tokens.then(|| HeldTokens::after(echoed)),
            echo,
            prompt_logprobs: Vec::new(),
            tokens: 0,
            cached_tokens: 0,
            reasoning_tokens: 0,
            logprob_sum: 0.0,
            ready: VecDeque::new(),
        }
    }

    /// Takes the next token. Returns whether the answer ends here.
    fn push(&mut self, token: u32, logprobs: Option<Box<Logprobs>>) -> bool {
        self.repeat_prompt();
        self.tokens += 1;
        if let Some(logprobs) = logprobs {
            self.logprob_sum += logprobs.logprob;
            if let Some(held) = &mut self.held {
                held.push(ScoredToken::new(token, Some(*logprobs), &self.vocabulary));
            }
        }
        let was_reasoning = self.interpreter.is_reasoning() == Some(true);
        let text = self.detokenizer.push(token);
        let has_ended = self.push_text(&text);
        let is_reasoning = was_reasoning || self.interpreter.is_reasoning() == Some(true);
        self.reasoning_tokens += u32::from(is_reasoning);
        has_ended
    }

    /// Takes the end: nothing is held back any more.
    fn finish(&mut self, reason: FinishReason) {
        self.repeat_prompt();
        let text = self.detokenizer.flush();
        if !self.push_text(&text) {
            let rest = self.stop.flush();
            self.send(rest);
            self.end(reason);
        }
    }

    /// Before the first token. By then all of the prompt is scored.
    fn repeat_prompt(&mut self) {
        if let Some(echo) = self.echo.take() {
            let logprobs = std::mem::take(&mut self.prompt_logprobs);
            let scored = || echo.scored(logprobs, &self.vocabulary);
            let tokens = self.held.is_some().then(scored);
            self.ready.push_back(Delta::Text(Piece {
                text: echo.text().to_owned(),
                tokens,
                ..Piece::default()
            }));
        }
    }

    fn push_text(&mut self, text: &str) -> bool {
        if let Some(held) = &mut self.held {
            held.made(text, !self.detokenizer.is_inside_character());
        }
        match self.stop.push(text) {
            Matched::Text(text) => {
                self.send(text);
                let is_done = self.interpreter.is_done();
                if is_done {
                    self.end(FinishReason::Stop);
                }
                is_done
            }
            Matched::Stopped(text) => {
                let tokens = self.held.as_mut().map(|held| held.cut(&text));
                self.send_with(text, tokens);
                self.end(FinishReason::Stop);
                true
            }
        }
    }

    fn send(&mut self, text: String) {
        let tokens = self.held.as_mut().map(|held| held.release(&text));
        self.send_with(text, tokens);
    }

    fn send_with(&mut self, text: String, tokens: Option<Vec<ScoredToken>>) {
        if let Some(tokens) = tokens {
            self.waiting.get_or_insert_default().extend(tokens);
        }
        let piece = self.interpreter.push(text);
        // Tokens wait for what the interpreter holds back.
        if self.interpreter.is_plain() || !piece.has_no_content() {
            self.send_piece(piece);
        }
    }

    fn send_piece(&mut self, mut piece: Piece) {
        piece.tokens = self.waiting.take();
        if !piece.is_empty() {
            self.ready.push_back(Delta::Text(piece));
        }
    }

    fn end(&mut self, reason: FinishReason) {
        let held_back = self.interpreter.finish();
        self.send_piece(held_back);
        let thinks = self.interpreter.is_reasoning().is_some();
        self.ready.push_back(Delta::End(End {
            reason,
            completion_tokens: self.tokens,
            cached_tokens: self.cached_tokens,
            reasoning_tokens: thinks.then_some(self.reasoning_tokens),
            ends_with_calls: self.interpreter.ends_with_calls(),
            mean_logprob: self.logprob_sum / self.tokens.max(1) as f32,
        }));
    }

    fn empty_piece(&self) -> Piece {
        Piece {
            tokens: self.held.as_ref().map(|_| Vec::new()),
            ..Piece::default()
        }
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
        let options = ReplyOptions {
            stop: stop.iter().map(|&stop| stop.to_owned()).collect(),
            ..ReplyOptions::default()
        };
        TextAssembler::new(Arc::new(vocabulary), options)
    }

    fn end(reason: FinishReason, completion_tokens: u32) -> Delta {
        Delta::End(End {
            reason,
            completion_tokens,
            cached_tokens: 0,
            reasoning_tokens: None,
            ends_with_calls: false,
            mean_logprob: 0.0,
        })
    }

    fn text(text: &str) -> Delta {
        Delta::Text(Piece {
            text: text.to_owned(),
            ..Piece::default()
        })
    }

    #[track_caller]
    fn check(stop: &[&str], output: &str, texts: &[&str], last: Delta) {
        let mut assembler = assembler(stop);
        let mut bytes = output.bytes();
        if !bytes.any(|byte| assembler.push(byte.into(), None)) {
            assembler.finish(FinishReason::Length);
        }
        let texts = texts.iter().map(|piece| text(piece));
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
        assert!(!assembler.push(0xC3, None));
        assembler.finish(FinishReason::Length);
        assert_eq!(Vec::from(assembler.ready), [end(FinishReason::Stop, 1)]);
    }

    #[test]
    fn control_tokens_count_but_print_nothing() {
        let mut assembler = assembler(&[]);
        assert!(!assembler.push(256, None));
        assembler.finish(FinishReason::Stop);
        assert_eq!(Vec::from(assembler.ready), [end(FinishReason::Stop, 1)]);
    }
}
