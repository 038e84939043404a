//! A sequence: one token stream and its state.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use tenon_plugin_api::{SampleParams, SampleRequest, TokenBias};

use super::{
    Event, Failure, FinishReason, Generate, Scoring,
    channel::Sender,
    constraint::Constraint,
    draft::{DraftRoom, Drafter},
    dry::Dry,
    picks::Pick,
    queue::Ticket,
    token_counts::TokenCounts,
};
use crate::grammar::{CompiledGrammar, GrammarError};

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
    /// Instead of `bias`.
    dry: Option<Dry>,
    scoring: Option<Scoring>,
    /// Positions whose logits the next tokens, those of the prompt or forced ones, are still to be scored by. Empty unless
    /// that was asked for.
    unscored: Range<u32>,
    /// How often it had to begin anew because the backend lost it.
    pub losses: u32,
    /// Lower ones run first.
    pub priority: i32,
    /// Its number among all that arrived.
    pub arrival: u64,
    /// Whether what is stored of others may be used for it, and of it for others.
    pub cache_prompt: bool,
    /// Its place in the queue, until it runs for the first time.
    ticket: Option<Ticket>,
    seed: u64,
    /// Length at which it ends.
    max_len: usize,
    /// Length from which on it decodes: what is known before is put in as a prompt is.
    prompt_len: usize,
    /// Length of the request's prompt.
    answer_start: u32,
    grammar: Option<Arc<CompiledGrammar>>,
    /// Its place in the grammar, once it runs.
    constraint: Option<Constraint>,
    /// Whether it sits out the next step, because what its grammar allows is not known yet.
    is_held: bool,
    drafter: Drafter,
    deadline: Option<Instant>,
    /// Since when its reader has left no room for events.
    paused: Option<Instant>,
    events: Sender<Event>,
}

/// Most events that wait for their reader.
pub const MAX_EVENTS: usize = 128;

/// Tokens of an answer for which there is memory from the beginning.
const RESERVED_TOKENS: usize = 4096;

/// Places among them that are left for the first event and the last one.
const RESERVED_EVENTS: usize = 2;

/// What follows from a row of logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The next row continues it.
    Row,
    /// The rows after it, if any, were computed from a draft that is wrong.
    LastRow,
    /// The sequence is over.
    End,
}

impl Sequence {
    pub fn new(
        request: Generate,
        context_length: u32,
        max_draft_tokens: u32,
        ticket: Ticket,
        events: Sender<Event>,
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
        let dry = request
            .dry
            .map(|options| Dry::new(options, &request.bias, &request.prompt));
        // What keeps a text from repeating itself depends on each token before.
        let max_draft_tokens = if dry.is_some() { 0 } else { max_draft_tokens };
        let mut tokens = request.prompt;
        let max_len = max_len.min(context_length as usize);
        // Decoding does not allocate until this is used up.
        tokens.reserve(RESERVED_TOKENS.min(max_len.saturating_sub(tokens.len())));
        Self {
            computed: 0,
            slot: u32::MAX,
            params: request.params,
            counts,
            dry,
            bias: request.bias,
            scoring: request.scoring,
            unscored,
            losses: 0,
            priority: request.priority,
            arrival: ticket.number,
            cache_prompt: request.cache_prompt,
            ticket: Some(ticket),
            seed: request.seed,
            max_len,
            prompt_len: tokens.len(),
            answer_start: tokens.len() as u32,
            grammar: request.grammar,
            constraint: None,
            is_held: false,
            drafter: Drafter::new(max_draft_tokens),
            deadline: request.deadline,
            paused: None,
            tokens,
            events,
        }
    }

    /// Begins to run in this slot, where so many of its tokens are stored already.
    pub fn start(&mut self, slot: u32, stored: u32) {
        self.slot = slot;
        self.computed = stored;
        self.prompt_len = self.tokens.len();
        if let Some(grammar) = self.grammar.take() {
            self.constraint = Some(Constraint::new(grammar));
        }
        if self.ticket.take().is_some() {
            self.events.send(Event::Started {
                cached_tokens: stored,
            });
        }
    }

    /// Has to be computed anew.
    pub fn restart(&mut self) {
        self.computed = 0;
        self.drafter.clear();
    }

    /// Tokens that have no KV yet: 1 while decoding, more while the prompt is put in.
    pub fn pending(&self) -> u32 {
        self.tokens.len() as u32 - self.computed
    }

    /// How many of them the next step can have. The last one waits for those that must follow it.
    pub fn ready(&self) -> u32 {
        let waits = self
            .constraint
            .as_ref()
            .is_some_and(|c| !c.forced().is_empty());
        match self.is_held || self.end_by_grammar().is_some() {
            true => 0,
            false => self.pending() - u32::from(waits),
        }
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
        let drafted = position as usize + 1 - self.tokens.len();
        let mask = self.constraint.as_ref().and_then(|c| c.mask(drafted));
        request.params = self.params;
        request.draw = self.draw(position + 1);
        request
            .with_mask(mask.unwrap_or_default())
            .with_counts(self.counts.as_slice())
            .with_bias(self.dry.as_ref().map_or(&self.bias, Dry::bias))
            .with_appended(&self.draft()[..drafted])
    }

    /// Whether its prompt is computed.
    pub fn is_decoding(&self) -> bool {
        self.computed as usize + 1 >= self.prompt_len
    }

    /// Tokens whose KV is stored.
    pub fn stored(&self) -> &[u32] {
        &self.tokens[..self.computed as usize]
    }

    /// The beginning that need not be computed where it is stored already.
    pub fn reusable_tokens(&self) -> &[u32] {
        match self.cache_prompt {
            true if self.unscored.is_empty() => &self.tokens,
            true => &self.tokens[..=self.unscored.start as usize],
            false => &[],
        }
    }

    /// What the next step tries after the pending tokens.
    pub fn draft(&self) -> &[u32] {
        self.drafter.draft()
    }

    /// How much of the draft turned out right.
    pub fn accepted(&self) -> u32 {
        self.drafter.accepted()
    }

    /// Drafts what may come after the pending tokens.
    pub fn propose(&mut self, mut room: DraftRoom<'_>) {
        if self.ready() < self.pending() {
            return self.drafter.clear();
        }
        let left = self.max_len - self.tokens.len();
        let most = left.min(self.event_room() as usize).saturating_sub(1);
        room.tokens = room.tokens.min(most as u32);
        self.drafter.propose(&self.tokens, room);
        if let Some(constraint) = &mut self.constraint
            && !constraint.can_draft(self.drafter.draft())
        {
            self.drafter.clear();
        }
    }

    /// How many tokens its reader has room for.
    pub fn event_room(&self) -> u32 {
        self.events.room().saturating_sub(RESERVED_EVENTS) as u32
    }

    /// Notices whether the reader keeps up.
    pub fn look_at_reader(&mut self, now: Instant) {
        self.paused = match self.event_room() {
            0 => self.paused.or(Some(now)),
            _ => None,
        };
    }

    /// Why it is over although it has not finished. A reader may be slow for so long.
    pub fn ended(&self, now: Instant, write_timeout: Duration) -> Option<Failure> {
        if self.events.is_closed() {
            Some(Failure::Abandoned)
        } else if self.deadline.is_some_and(|deadline| deadline <= now) {
            Some(Failure::Overdue)
        } else if self
            .paused
            .is_some_and(|since| since + write_timeout <= now)
        {
            Some(Failure::Unread)
        } else {
            None
        }
    }

    /// Takes what its grammar forces, and finds out whether it has to sit out the next step.
    pub fn follow_grammar(&mut self) -> Result<(), GrammarError> {
        let Some(constraint) = &mut self.constraint else {
            return Ok(());
        };
        self.is_held = !constraint.is_ready()?;
        if self.is_held || constraint.forced().is_empty() {
            return Ok(());
        }
        let room = self
            .event_room()
            .min((self.max_len - self.tokens.len()) as u32);
        self.take_forced(room as usize);
        self.events.wake();
        Ok(())
    }

    /// Waits for its grammar, if that is what it sits out for.
    pub fn await_grammar(&mut self) -> bool {
        match &mut self.constraint {
            Some(constraint) if self.is_held => {
                constraint.wait();
                true
            }
            _ => false,
        }
    }

    /// Why its grammar ends it, if so: nothing may follow, or it has no room for what must.
    pub fn end_by_grammar(&self) -> Option<FinishReason> {
        let constraint = self.constraint.as_ref().filter(|_| !self.is_held)?;
        if !self.unscored.is_empty() {
            None
        } else if constraint.is_finished() && constraint.forced().is_empty() {
            Some(FinishReason::Stop)
        } else {
            self.is_full().then_some(FinishReason::Length)
        }
    }

    /// Begins to find out what may follow, if the next `len` tokens are all that are pending, and a draft perhaps.
    pub fn begin_masks(&mut self, len: u32) {
        if len >= self.pending()
            && let Some(constraint) = &mut self.constraint
        {
            constraint.begin_masks(self.drafter.draft());
        }
    }

    /// Waits until it is known what may follow.
    pub fn await_masks(&mut self) -> Result<(), GrammarError> {
        self.constraint
            .as_mut()
            .map_or(Ok(()), Constraint::await_masks)
    }

    /// Has its grammar take what was chosen.
    pub fn advance_grammar(&mut self) {
        if let Some(constraint) = &mut self.constraint {
            constraint.advance();
        }
    }

    /// Takes what came of its next row.
    pub fn take(&mut self, pick: &Pick<'_>, ends: bool) -> Taken {
        if let Some(position) = self.unscored.next() {
            return self.take_score(position, pick);
        }
        if self.is_full() {
            return self.finish(FinishReason::Length);
        }
        if ends {
            return self.finish(FinishReason::Stop);
        }
        let logprobs = self.scoring.map(|_| pick.logprobs());
        let token = pick.token;
        self.push(token);
        if let Some(constraint) = &mut self.constraint {
            constraint.choose(token);
        }
        self.events.send(Event::Token { token, logprobs });
        // Its grammar may be complete with this token, which is another reason to end.
        if self.is_full() && self.constraint.is_none() {
            return self.finish(FinishReason::Length);
        }
        let right = self.drafter.accept(pick.token) && !self.is_full();
        match right && self.allows_draft() {
            true => Taken::Row,
            false => Taken::LastRow,
        }
    }

    /// Whether it is known what may follow the part of the draft that turned out right.
    fn allows_draft(&mut self) -> bool {
        let accepted = self.drafter.accepted() as usize;
        let constraint = self.constraint.as_ref();
        constraint.is_none_or(|c| c.mask(accepted).is_some())
    }

    /// Tells the reader that there are events.
    pub fn wake(&self) {
        self.events.wake();
    }

    /// Tells the reader that the sequence failed.
    pub fn fail(&self, failure: Failure) {
        self.events.send(Event::Failed(failure));
    }

    fn take_score(&mut self, position: u32, pick: &Pick<'_>) -> Taken {
        let scored = position + 1;
        self.events.send(match scored < self.answer_start {
            true => Event::Scored(pick.logprobs()),
            false => Event::Token {
                token: self.tokens[scored as usize],
                logprobs: Some(pick.logprobs()),
            },
        });
        match self.end_by_grammar() {
            Some(reason) => self.finish(reason),
            None => Taken::Row,
        }
    }

    /// Puts up to `most` tokens in that its grammar forces. Where scores are wanted, these tell the reader of them.
    fn take_forced(&mut self, most: usize) {
        let before = self.tokens.len() as u32;
        let mut count = 0;
        while count < most
            && let Some(constraint) = &mut self.constraint
            && let Some(token) = constraint.next_forced()
        {
            self.push(token);
            count += 1;
            if self.scoring.is_none() {
                self.events.send(Event::Token {
                    token,
                    logprobs: None,
                });
            }
        }
        if self.scoring.is_some() {
            let from = if self.unscored.is_empty() {
                before - 1
            } else {
                self.unscored.start
            };
            self.unscored = from..self.tokens.len() as u32 - 1;
        }
    }

    fn push(&mut self, token: u32) {
        self.drafter.observe(&self.tokens, token);
        self.tokens.push(token);
        if self.params.penalizes() {
            self.counts.push(token);
        }
        if let Some(dry) = &mut self.dry {
            dry.update(&self.tokens);
        }
    }

    fn is_full(&self) -> bool {
        self.tokens.len() >= self.max_len
    }

    /// Tells the reader that it is over.
    pub fn finish(&self, reason: FinishReason) -> Taken {
        self.events.send(Event::Finished { reason });
        Taken::End
    }

    /// Uniform bits for the token at this position: a function of seed and position only.
    fn draw(&self, position: u32) -> u64 {
        mix(mix(self.seed).wrapping_add(position.into()))
    }
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood 2014): a bijection whose output bits all depend on all input bits.
fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
