use std::{collections::VecDeque, sync::Arc};

use futures_util::{Stream, stream};
use tenon_plugin_api::{Code, Error, Vocabulary};

use super::{
    AnswerPiece, Echo, HeldTokens, Interpreter, Matched, Reading, ScoredToken, StopMatcher,
    transcript::Transcript,
};
use crate::{
    detokenize::Detokenizer,
    engine::{Event, Failure, FinishReason, Generation, Logprobs},
    markup::AnswerContent,
    metrics::{AnswerOutcome, Meter},
    prompt::Recorder,
};

/// How the text of an answer is made from its tokens.
#[derive(Debug, Default)]
pub struct ReplyOptions {
    /// Stop strings. The answer ends before the first one.
    pub stop: Vec<String>,
    /// Whether pieces come with their tokens. The generation must then be scored.
    pub with_tokens: bool,
    /// The prompt, if it is repeated before the answer. With tokens, the prompt must be scored as well.
    pub echo: Option<Echo>,
    /// How reasoning and tool calls in the text are read.
    pub reading: Reading,
    /// Records the tokens.
    pub recorder: Option<Recorder>,
}

/// An answer as text, for streaming or [as a whole](Self::collect). Dropping it cancels the generation.
pub struct Reply {
    /// None once the answer is over. A stop string drops the generation, which ends the sequence at once.
    generation: Option<Generation>,
    text: TextAssembler,
    recorder: Option<Recorder>,
    transcript: Option<Transcript>,
    meter: Meter,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    /// More text.
    Text(AnswerPiece),
    /// The last piece.
    End(End),
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct End {
    pub reason: FinishReason,
    /// Index of the stop string that ended the answer. None if none did.
    pub stop: Option<usize>,
    /// Number of tokens generated. Tokens of a stop string count, the model's end token does not.
    pub completion_tokens: u32,
    /// Number of the prompt's tokens that came from the cached prefix.
    pub cached_tokens: u32,
    /// Number of generated tokens that were reasoning. None if the model does not reason.
    pub reasoning_tokens: Option<u32>,
    /// Whether tool calls are the reason for the end. All of them must be complete.
    pub ends_with_calls: bool,
    /// Mean log-probability of the generated tokens, if they were scored. 0 if there are none.
    pub mean_logprob: f32,
}

impl Reply {
    /// The answer of a generation. It ends at the first stop string in its text. Reasoning and tool calls are not
    /// searched.
    pub fn new(
        generation: Generation,
        vocabulary: Arc<Vocabulary>,
        mut options: ReplyOptions,
        meter: Meter,
    ) -> Self {
        Self {
            recorder: options.recorder.take(),
            transcript: Transcript::begin(meter.account(), &vocabulary),
            generation: Some(generation),
            text: TextAssembler::new(vocabulary, options),
            meter,
        }
    }

    /// Waits for the next piece. None after [`Delta::End`] or an error.
    pub async fn next(&mut self) -> Option<Result<Delta, Failure>> {
        loop {
            if let Some(delta) = self.text.ready.pop_front() {
                if let Delta::End(end) = &delta
                    && end.ends_with_calls
                {
                    self.meter.ended_with_calls();
                }
                return Some(Ok(delta));
            }
            let event = self.generation.as_mut()?.next().await;
            if let Err(failure) = self.take(event) {
                return Some(Err(failure));
            }
        }
    }

    /// Waits until a new answer begins. Returns how many of the prompt's tokens come from the cached prefix.
    pub async fn begun(&mut self) -> Result<u32, Failure> {
        if let Some(generation) = &mut self.generation {
            let event = generation.next().await;
            self.take(event)?;
        }
        Ok(self.text.cached_tokens)
    }

    /// Takes the next event. None: there will be no more.
    fn take(&mut self, event: Option<Event>) -> Result<(), Failure> {
        match event {
            Some(Event::Started {
                cached_tokens,
                queued,
            }) => {
                self.text.cached_tokens = cached_tokens;
                self.meter.queued(queued);
            }
            Some(Event::Scored(logprobs)) => self.text.prompt_logprobs.push(*logprobs),
            Some(Event::Token { token, logprobs }) => self.take_token(token, logprobs),
            Some(Event::Finished { reason }) => self.finish(reason),
            Some(Event::Failed(error)) => return Err(self.fail(error)),
            None => return Err(self.fail(cut_off())),
        }
        Ok(())
    }

    /// Turns the reply into a stream of its pieces.
    pub fn into_stream(self) -> impl Stream<Item = Result<Delta, Failure>> + Send {
        stream::unfold(self, async |mut reply| {
            reply.next().await.map(|delta| (delta, reply))
        })
    }

    /// Waits for the whole answer.
    pub async fn collect(mut self) -> Result<(AnswerPiece, End), Failure> {
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
        if let Some(recorder) = &mut self.recorder {
            recorder.push(token);
        }
        if let Some(transcript) = &mut self.transcript {
            transcript.push(token);
        }
        if self.text.push(token, logprobs) {
            self.generation = None;
            self.meter.ended(AnswerOutcome::Stopped);
        }
    }

    fn finish(&mut self, reason: FinishReason) {
        self.generation = None;
        self.text.finish(reason);
        self.meter.ended(match reason {
            FinishReason::Stop => AnswerOutcome::Stopped,
            FinishReason::Length => AnswerOutcome::Full,
        });
    }

    fn fail(&mut self, error: Failure) -> Failure {
        self.generation = None;
        self.meter.ended(AnswerOutcome::Failed);
        error
    }
}

/// The error if the engine's thread is gone without a last event: the process is about to end.
fn cut_off() -> Failure {
    let why = "the answer was cut off; send the request again";
    Error::new(Code::CANCELLED, why).into()
}

/// Turns tokens into deltas.
struct TextAssembler {
    vocabulary: Arc<Vocabulary>,
    detokenizer: Detokenizer,
    stop: StopMatcher,
    interpreter: Interpreter,
    /// Tokens whose text is not decided yet. None if tokens are not wanted.
    held: Option<HeldTokens>,
    /// Tokens whose text is decided and is not sent yet, because the interpreter holds text back.
    waiting: Option<Vec<ScoredToken>>,
    /// None once the prompt was repeated.
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
        let text = self.detokenizer.push(token).to_owned();
        let has_ended = self.push_text(&text);
        let is_reasoning = was_reasoning || self.interpreter.is_reasoning() == Some(true);
        self.reasoning_tokens += u32::from(is_reasoning);
        has_ended
    }

    /// Ends the answer and sends the text that was held back. Half a character is no text.
    fn finish(&mut self, reason: FinishReason) {
        self.repeat_prompt();
        let content = self.interpreter.finish(reason == FinishReason::Length);
        let (mut piece, cut_bytes) = self.up_to_stop(content);
        if cut_bytes.is_none() {
            piece.text += &self.stop.flush();
        }
        self.end_with(piece, cut_bytes, reason);
    }

    /// Sends the prompt before the first token, if it is to be repeated. All of the prompt is scored by then.
    fn repeat_prompt(&mut self) {
        if let Some(echo) = self.echo.take() {
            let logprobs = std::mem::take(&mut self.prompt_logprobs);
            let scored = || echo.scored(logprobs, &self.vocabulary);
            let tokens = self.held.is_some().then(scored);
            self.ready.push_back(Delta::Text(AnswerPiece {
                text: echo.text().to_owned(),
                tokens,
                ..AnswerPiece::default()
            }));
        }
    }

    /// Takes more text. Returns whether the answer ends here.
    fn push_text(&mut self, text: &str) -> bool {
        if let Some(held) = &mut self.held {
            held.made(text, !self.detokenizer.is_inside_character());
        }
        let content = self.interpreter.push(text);
        let (piece, cut_bytes) = self.up_to_stop(content);
        let has_ended = cut_bytes.is_some() || self.interpreter.is_done();
        match has_ended {
            true => self.end_with(piece, cut_bytes, FinishReason::Stop),
            false => self.send(piece),
        }
        has_ended
    }

    /// Takes content. Returns what comes before a stop string; only text is searched. If there is a stop
    /// string, also returns how many bytes came from its beginning on.
    fn up_to_stop(&mut self, content: Vec<AnswerContent>) -> (AnswerPiece, Option<usize>) {
        let mut piece = AnswerPiece::default();
        for part in content {
            let AnswerContent::Text(text) = part else {
                piece.text += &self.stop.flush();
                piece.add(part);
                continue;
            };
            let came = self.stop.held_bytes() + text.len();
            match self.stop.push(&text) {
                Matched::Text(text) => piece.text += &text,
                Matched::Stopped(text) => {
                    piece.text += &text;
                    return (piece, Some(came - text.len()));
                }
            }
        }
        (piece, None)
    }

    fn send(&mut self, piece: AnswerPiece) {
        let undecided = self.interpreter.held_bytes() + self.stop.held_bytes();
        if let Some(held) = &mut self.held {
            let tokens = held.release(undecided);
            self.waiting.get_or_insert_default().extend(tokens);
        }
        // Tokens wait for text that the interpreter holds back.
        if self.interpreter.is_plain() || !piece.has_no_content() {
            self.send_piece(piece);
        }
    }

    fn send_piece(&mut self, mut piece: AnswerPiece) {
        piece.tokens = self.waiting.take();
        if !piece.is_empty() {
            self.ready.push_back(Delta::Text(piece));
        }
    }

    /// Sends the last piece. Tokens that begin in a stop string or behind it are not sent.
    fn end_with(&mut self, piece: AnswerPiece, cut_bytes: Option<usize>, reason: FinishReason) {
        let undecided = self.interpreter.held_bytes();
        if let Some(held) = &mut self.held {
            let tokens = match cut_bytes {
                Some(bytes) => held.cut(bytes + undecided),
                None => held.rest(),
            };
            self.waiting.get_or_insert_default().extend(tokens);
        }
        self.send_piece(piece);
        let reason = cut_bytes.map_or(reason, |_| FinishReason::Stop);
        let thinks = self.interpreter.is_reasoning().is_some();
        self.ready.push_back(Delta::End(End {
            reason,
            stop: self.stop.found(),
            completion_tokens: self.tokens,
            cached_tokens: self.cached_tokens,
            reasoning_tokens: thinks.then_some(self.reasoning_tokens),
            ends_with_calls: self.interpreter.ends_with_calls(),
            mean_logprob: self.logprob_sum / self.tokens.max(1) as f32,
        }));
    }

    fn empty_piece(&self) -> AnswerPiece {
        AnswerPiece {
            tokens: self.held.as_ref().map(|_| Vec::new()),
            ..AnswerPiece::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use tenon_plugin_api::TokenKind;

    use super::*;

    /// An assembler for a vocabulary with one token for each byte, then a control token.
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

    fn ended(reason: FinishReason, completion_tokens: u32) -> End {
        End {
            reason,
            stop: None,
            completion_tokens,
            cached_tokens: 0,
            reasoning_tokens: None,
            ends_with_calls: false,
            mean_logprob: 0.0,
        }
    }

    fn end(reason: FinishReason, completion_tokens: u32) -> Delta {
        Delta::End(ended(reason, completion_tokens))
    }

    fn text(text: &str) -> Delta {
        Delta::Text(AnswerPiece {
            text: text.to_owned(),
            ..AnswerPiece::default()
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
        let stopped = |stop, completion_tokens| {
            Delta::End(End {
                stop: Some(stop),
                ..ended(FinishReason::Stop, completion_tokens)
            })
        };
        check(&["END"], "a END b", &["a", " "], stopped(0, 5));
        check(&["b", "a"], "a", &[], stopped(1, 1));
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
    fn half_a_character_at_the_end_is_no_text() {
        let mut assembler = assembler(&[]);
        assert!(!assembler.push(0xC3, None));
        assembler.finish(FinishReason::Length);
        assert_eq!(Vec::from(assembler.ready), [end(FinishReason::Length, 1)]);
    }

    #[test]
    fn control_tokens_count_but_print_nothing() {
        let mut assembler = assembler(&[]);
        assert!(!assembler.push(256, None));
        assembler.finish(FinishReason::Stop);
        assert_eq!(Vec::from(assembler.ready), [end(FinishReason::Stop, 1)]);
    }
}
