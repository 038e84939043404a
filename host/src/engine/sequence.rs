//! A sequence: one token stream and its state.

use tenon_plugin_api::SampleParams;
use tokio::sync::mpsc::UnboundedSender;

use super::{Event, FinishReason, Generate, queue::Ticket, token_counts::TokenCounts};

/// One token stream. Belongs to the model thread from its arrival on.
pub struct Sequence {
    /// Prompt and output.
    pub tokens: Vec<u32>,
    /// How many tokens have their KV stored.
    pub computed: u32,
    /// The sequence's id in the session. Meaningful while it runs.
    pub slot: u32,
    pub params: SampleParams,
    /// Counted where there are penalties; else it stays empty.
    pub counts: TokenCounts,
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
        Self {
            computed: 0,
            slot: u32::MAX,
            params: request.params,
            counts,
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

    /// Whether nobody listens any more.
    pub fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    /// Uniform bits for the next token: a function of seed and position only.
    pub fn draw(&self) -> u64 {
        mix(mix(self.seed).wrapping_add(self.tokens.len() as u64))
    }

    /// Takes the next token. Returns whether the sequence is over.
    pub fn push(&mut self, token: u32, ends: bool) -> bool {
        if ends {
            return self.finish(FinishReason::Stop);
        }
        self.tokens.push(token);
        if self.params.penalizes() {
            self.counts.push(token);
        }
        self.send(Event::Token { token });
        self.tokens.len() >= self.max_len && self.finish(FinishReason::Length)
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
