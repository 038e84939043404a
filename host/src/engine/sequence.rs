//! A sequence: one token stream and its state.

use std::ops::Range;

use tenon_plugin_api::{SampleParams, SampleRequest, TokenBias};
use tokio::sync::mpsc::UnboundedSender;

use super::{
    Event, FinishReason, Generate, Logprobs, Scoring, picks::Pick, queue::Ticket,
    token_counts::TokenCounts,
};

/// One token stream. Belongs to the model thread from its arrival on.
pub struct Sequence {
    /// Prompt and output.
    pub tokens: Vec<u32>,
    /// How many tokens have their KV stored.
    pub computed: u32,
    /// The sequence's id in the session. Meaningful while it runs.
    pub slot: u32,
    params: SampleParams,
    /// Counted where there are penalties; else it stays empty.
    counts: TokenCounts,
    bias: Vec<TokenBias>,
    scoring: Option<Scoring>,
    /// Positions whose logits the prompt's next tokens are still to be scored by. Empty unless that was asked for.
    unscored: Range<u32>,
    /// How often it had to begin anew because the backend lost it.
    pub losses: u32,
    /// Its place in the queue, until it runs for the first time.
    pub ticket: Option<Ticket>,
    seed: u64,
    /// Length at which it ends.
    max_len: usize,
    events: UnboundedSender<Event>,
}

impl Sequence {
    pub fn new(
        request: Generate,
        context_length: u32,
        ticket: Ticket,
        events: UnboundedSender<Event>,
    ) -> Self {
        let max_len = request
            .prompt
            .len()
            .saturating_add(request.max_tokens as usize);
        let counts = match request.params.penalizes() {
            true => TokenCounts::of_prompt(&request.prompt),
            false => TokenCounts::default(),
        };
        // The logits of a token's position say how likely the next one is.
        let unscored = match request.scoring {
            Some(Scoring { prompt: true, .. }) => 0..request.prompt.len() as u32 - 1,
            _ => 0..0,
        };
        Self {
            computed: 0,
            slot: u32::MAX,
            params: request.params,
            counts,
            bias: request.bias,
            scoring: request.scoring,
            unscored,
            losses: 0,
            ticket: Some(ticket),
            seed: request.seed,
            max_len: max_len.min(context_length as usize),
            tokens: request.prompt,
            events,
        }
    }

    /// Tokens that have no KV yet: 1 while decoding, more while the prompt is put in.
    pub fn pending(&self) -> u32 {
        self.tokens.len() as u32 - self.computed
    }

    /// How many of the last of the next `len` pending tokens need logits.
    pub fn rows(&self, len: u32) -> u32 {
        let end = self.computed + len;
        if self.unscored.is_empty() {
            (len == self.pending()).into()
        } else {
            end.saturating_sub(self.unscored.start.max(self.computed))
        }
    }

    /// What to do with the logits of this position, which are in `row`.
    pub fn request(&self, position: u32, row: u32) -> SampleRequest<'_> {
        let mut request = SampleRequest::new(row);
        if let Some(scoring) = self.scoring {
            (request.logprob, request.top_logprobs) = (1, scoring.top);
        }
        if let Some(&scored) = self.tokens.get(position as usize + 1) {
            request.forced = scored;
            return request;
        }
        request.params = self.params;
        request.draw = self.draw();
        request
            .with_counts(self.counts.as_slice())
            .with_bias(&self.bias)
    }

    /// Whether nobody listens any more.
    pub fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    /// Uniform bits for the next token: a function of seed and position only.
    pub fn draw(&self) -> u64 {
        mix(mix(self.seed).wrapping_add(self.tokens.len() as u64))
    }

    /// Takes what came of its next row. Returns whether the sequence is over.
    pub fn take(&mut self, pick: &Pick<'_>, ends: bool) -> bool {
        if self.unscored.next().is_some() {
            self.send(Event::Scored(pick.logprobs()));
            return false;
        }
        let logprobs = self.scoring.map(|_| pick.logprobs());
        self.push(pick.token, logprobs, ends)
    }

    fn push(&mut self, token: u32, logprobs: Option<Box<Logprobs>>, ends: bool) -> bool {
        if self.is_full() {
            return self.finish(FinishReason::Length);
        }
        if ends {
            return self.finish(FinishReason::Stop);
        }
        self.tokens.push(token);
        if self.params.penalizes() {
            self.counts.push(token);
        }
        self.send(Event::Token { token, logprobs });
        self.is_full() && self.finish(FinishReason::Length)
    }

    fn is_full(&self) -> bool {
        self.tokens.len() >= self.max_len
    }

    /// Tells the listener that the sequence failed.
    pub fn fail(&self, error: tenon_plugin_api::Error) {
        self.send(Event::Failed(error));
    }

    fn finish(&self, reason: FinishReason) -> bool {
        self.send(Event::Finished { reason });
        true
    }

    fn send(&self, event: Event) {
        // A listener that went away is noticed by the next schedule.
        let _ = self.events.send(event);
    }
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood 2014): a bijection whose output bits all depend on all input bits.
fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
