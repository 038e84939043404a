//! A sequence: one token stream and its state.

mod common;
mod kv_state;
mod output;
mod reader;

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use tenon_plugin_api::SampleRequest;

pub use self::{common::Common, reader::Reader};
use self::{kv_state::KvState, output::Output};
use super::{
    Event, Failure, FinishReason, PromptTokens, Request, Scoring, Steering,
    constraint::{Constraint, Next},
    draft::DraftRoom,
    dry::Dry,
    picks::Pick,
    queue::Ticket,
    shares::Origin,
};
use crate::{grammar::GrammarError, reasoning_budget::ReasoningLimiter};

/// One token stream. From its arrival on it belongs to the model thread.
pub struct Sequence {
    /// Prompt and output.
    pub tokens: Vec<u32>,
    pub kv: KvState,
    /// Determines the sequence's place in line.
    pub origin: Origin,
    /// The place in the queue, until the sequence runs for the first time.
    ticket: Option<Ticket>,
    pub request: Arc<Request>,
    lengths: Lengths,
    /// Mask of all tokens except the end tokens. It applies until the model may end the sequence.
    endless: Arc<[u32]>,
    output: Output,
    pub reader: Reader,
    /// Positions whose logits must still score the token that follows, which is a prompt token or a fast-forward token. Empty
    /// unless scores were asked for.
    unscored: Range<u32>,
}

/// Lengths of a sequence in tokens, each including the prompt.
struct Lengths {
    prompt: usize,
    /// Length below which the model cannot end the sequence.
    min: usize,
    /// Length at which the sequence ends.
    max: usize,
}

/// Most events that wait for their reader.
pub const MAX_EVENTS: usize = 128;

/// Tokens of an answer for which memory is reserved at the start.
const RESERVED_TOKENS: usize = 4096;

/// How a sequence goes on after a row of logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The sequence goes on with the next row.
    Row,
    /// The sequence goes on, but later rows were computed from a wrong draft.
    LastRow,
    /// The sequence is over.
    End,
}

impl Sequence {
    pub fn new(
        request: Arc<Request>,
        prompt: PromptTokens,
        steering: Steering,
        common: &Common,
        origin: Origin,
        ticket: Ticket,
        reader: Reader,
    ) -> Self {
        let mut tokens = prompt.tokens;
        let prompt_len = tokens.len();
        let max_len = prompt_len.saturating_add(request.max_tokens as usize);
        let lengths = Lengths {
            prompt: prompt_len,
            min: prompt_len.saturating_add(request.min_tokens as usize),
            max: max_len.min(common.context_length as usize),
        };
        let checkpoints = match common.forks_whole_only && request.cache_prompt {
            true => prompt.checkpoints,
            false => Vec::new(),
        };
        let output = Output::new(&request, steering, &tokens, common);
        // Decoding does not allocate until the reserved memory is used up.
        tokens.reserve(RESERVED_TOKENS.min(lengths.max.saturating_sub(lengths.prompt)));
        Self {
            tokens,
            kv: KvState::new(prompt_len as u32, checkpoints),
            origin,
            ticket: Some(ticket),
            endless: common.endless.clone(),
            output,
            reader,
            // The logits at a token's position predict the next token.
            unscored: match request.scoring {
                Some(Scoring { prompt: true, .. }) => 0..lengths.prompt as u32 - 1,
                _ => 0..0,
            },
            lengths,
            request,
        }
    }

    /// Starts the sequence under an id that already has the KV of its first `stored` tokens.
    pub fn start(&mut self, seq: u32, stored: u32) {
        self.kv.start(seq, stored, self.tokens.len() as u32);
        if let Some(grammar) = self.output.grammar.take() {
            self.output.constraint = Some(Constraint::new(grammar));
        }
        if let Some(ticket) = self.ticket.take() {
            self.reader.send(Event::Started {
                cached_tokens: stored,
                queued: ticket.arrived.elapsed(),
            });
        }
    }

    /// Resets the sequence so that all of it is computed again.
    pub fn restart(&mut self) {
        self.kv.computed = 0;
        self.reader.forgive();
        self.output.drafter.clear();
    }

    /// Whether the sequence has not run yet.
    pub fn is_new(&self) -> bool {
        self.ticket.is_some()
    }

    /// Tokens that have no KV yet: usually 1 while decoding, more during prefill.
    pub fn pending(&self) -> u32 {
        self.tokens.len() as u32 - self.kv.computed
    }

    /// How many pending tokens the next step can have. The last one waits while fast-forward tokens must still follow it.
    pub fn ready(&self) -> u32 {
        let next = self.output.constraint.as_ref().map(Constraint::next);
        if next == Some(Next::Held) || self.end_by_grammar().is_some() {
            return 0;
        }
        // A step ends at the next checkpoint.
        match self.kv.to_checkpoint() {
            Some(len) => len,
            None => self.pending() - u32::from(next == Some(Next::FastForward)),
        }
    }

    /// The stored tokens, if they are exactly a beginning that is to be cached by itself. Returns each only once.
    pub fn take_checkpoint(&mut self) -> Option<&[u32]> {
        self.kv.take_checkpoint().then(|| self.stored())
    }

    /// Whether logits must still score tokens that are known.
    pub fn has_unscored(&self) -> bool {
        !self.unscored.is_empty()
    }

    /// How many of the next `len` pending tokens need logits. They are the last ones.
    pub fn rows(&self, len: u32) -> u32 {
        let end = self.kv.computed + len;
        if self.unscored.is_empty() {
            (len == self.pending()).into()
        } else {
            end.saturating_sub(self.unscored.start.max(self.kv.computed))
        }
    }

    /// The sample request for the logits of this position, which are in `row`.
    pub fn sample_request(&self, position: u32, row: u32) -> SampleRequest<'_> {
        let mut request = SampleRequest::new(row);
        if let Some(scoring) = self.request.scoring {
            (request.logprob, request.top_logprobs) = (1, scoring.top);
        }
        let known = self.tokens.get(position as usize + 1).copied();
        if let Some(token) = known.or_else(|| self.forced(position)) {
            request.forced = token;
            return request;
        }
        let drafted = position as usize + 1 - self.tokens.len();
        let mask = match &self.output.constraint {
            Some(constraint) => constraint.mask(drafted),
            None if position as usize + 1 < self.lengths.min => Some(&*self.endless),
            None => None,
        };
        request.params = self.request.params;
        request.draw = self.request.draw(self.origin.index(), position + 1);
        request
            .with_mask(mask.unwrap_or_default())
            .with_counts(self.output.counts.as_slice())
            .with_bias(
                self.output
                    .dry
                    .as_ref()
                    .map_or(&self.request.bias, Dry::bias),
            )
            .with_appended(&self.draft()[..drafted])
    }

    /// The token that must follow the last one, if this is its position: reasoning beyond its budget is closed. None if the grammar
    /// does not allow the token here.
    fn forced(&self, position: u32) -> Option<u32> {
        let is_last = position as usize + 1 == self.tokens.len();
        let token = self.output.limiter.as_ref()?.forced().filter(|_| is_last)?;
        let constraint = self.output.constraint.as_ref();
        constraint.is_none_or(|c| c.allows(token)).then_some(token)
    }

    /// Tokens whose KV is stored.
    pub fn stored(&self) -> &[u32] {
        &self.tokens[..self.kv.computed as usize]
    }

    /// Takes the tokens whose KV is stored out of a sequence that is over.
    pub fn into_stored(mut self) -> Vec<u32> {
        self.tokens.truncate(self.kv.computed as usize);
        self.tokens
    }

    /// The beginning of the sequence that a cached prefix may replace.
    pub fn reusable_tokens(&self) -> &[u32] {
        match self.request.cache_prompt {
            true if self.unscored.is_empty() => &self.tokens,
            true => &self.tokens[..=self.unscored.start as usize],
            false => &[],
        }
    }

    /// The draft: tokens that the next step tries after the pending ones.
    pub fn draft(&self) -> &[u32] {
        self.output.drafter.draft()
    }

    /// How many draft tokens were accepted.
    pub fn accepted(&self) -> u32 {
        self.output.drafter.accepted()
    }

    /// Drafts tokens that may come after the pending ones.
    pub fn propose(&mut self, mut room: DraftRoom<'_>) {
        let ready = self.ready();
        if ready < self.pending() {
            return self.output.drafter.clear();
        }
        // The pending tokens lead to one more token, and each of their rows to an event.
        let tokens = (self.lengths.max - self.tokens.len()).saturating_sub(1) as u32;
        let events = self.reader.room().saturating_sub(self.rows(ready));
        room.tokens = room.tokens.min(tokens).min(events);
        self.output.drafter.propose(&self.tokens, room);
        if let Some(constraint) = &mut self.output.constraint
            && !constraint.can_draft(self.output.drafter.draft())
        {
            self.output.drafter.clear();
        }
    }

    /// Why the sequence must end although it has not finished. A reader may be slow for `write_timeout`.
    pub fn ended(&self, now: Instant, write_timeout: Duration) -> Option<Failure> {
        if self.reader.is_gone() {
            Some(Failure::Abandoned)
        } else if self
            .request
            .deadline
            .is_some_and(|deadline| deadline <= now)
        {
            Some(Failure::Overdue)
        } else if self.reader.is_late(now, write_timeout) {
            Some(Failure::Unread)
        } else {
            None
        }
    }

    /// Appends the fast-forward tokens of the grammar, and finds out whether the sequence must skip the next step.
    pub fn follow_grammar(&mut self) -> Result<(), GrammarError> {
        let Some(constraint) = &mut self.output.constraint else {
            return Ok(());
        };
        if constraint.prepare()? != Next::FastForward {
            return Ok(());
        }
        let room = self
            .reader
            .room()
            .min((self.lengths.max - self.tokens.len()) as u32);
        self.take_fast_forward(room as usize);
        self.reader.wake();
        Ok(())
    }

    /// Why a sequence with a grammar ends, if it does: nothing may follow, or the sequence has its greatest length.
    pub fn end_by_grammar(&self) -> Option<FinishReason> {
        match self.output.constraint.as_ref()?.next() {
            _ if !self.unscored.is_empty() => None,
            Next::Held => None,
            Next::Finished => Some(FinishReason::Stop),
            Next::FastForward | Next::Pick => self.is_full().then_some(FinishReason::Length),
        }
    }

    /// Starts finding the masks if a step of `len` tokens has all pending tokens.
    pub fn begin_masks(&mut self, len: u32) {
        if len >= self.pending()
            && let Some(constraint) = &mut self.output.constraint
        {
            constraint.begin_masks(self.output.drafter.draft());
        }
    }

    /// Has the grammar take the last `chosen` tokens, which were picked in this step.
    pub fn advance_grammar(&mut self, chosen: usize) {
        if let Some(constraint) = &mut self.output.constraint {
            constraint.advance(&self.tokens[self.tokens.len() - chosen..]);
        }
    }

    /// The position in the grammar. None if there is no grammar.
    pub fn constraint(&mut self) -> Option<&mut Constraint> {
        self.output.constraint.as_mut()
    }

    /// Takes the pick from the sequence's next row. `ends`: the picked token ends a text.
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
        let logprobs = self.request.scoring.map(|_| pick.logprobs());
        let token = pick.token;
        self.push(token);
        self.reader.send(Event::Token { token, logprobs });
        // With a grammar the sequence goes on: this token may complete the grammar, which is another reason to finish.
        if self.is_full() && self.output.constraint.is_none() {
            return self.finish(FinishReason::Length);
        }
        let right = self.output.drafter.accept(pick.token) && !self.is_full();
        // Later rows do not know of a token that is forced now.
        let limiter = self.output.limiter.as_ref();
        let forces = limiter.and_then(ReasoningLimiter::forced).is_some();
        match right && !forces && self.allows_draft() {
            true => Taken::Row,
            false => Taken::LastRow,
        }
    }

    /// Whether the mask after the accepted part of the draft is known.
    fn allows_draft(&mut self) -> bool {
        let accepted = self.output.drafter.accepted() as usize;
        let constraint = self.output.constraint.as_ref();
        constraint.is_none_or(|c| c.mask(accepted).is_some())
    }

    /// Tells the reader that the sequence failed.
    pub fn fail(&self, failure: Failure) {
        self.reader.send(Event::Failed(failure));
    }

    fn take_score(&mut self, position: u32, pick: &Pick<'_>) -> Taken {
        let scored = position + 1;
        self.reader
            .send(match (scored as usize) < self.lengths.prompt {
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

    /// Appends up to `most` fast-forward tokens of the grammar. If scores are wanted, the reader gets the tokens with them.
    fn take_fast_forward(&mut self, most: usize) {
        let before = self.tokens.len() as u32;
        let mut count = 0;
        while count < most
            && let Some(constraint) = &mut self.output.constraint
            && let Some(token) = constraint.take_fast_forward()
        {
            self.push(token);
            count += 1;
            if self.request.scoring.is_none() {
                self.reader.send(Event::Token {
                    token,
                    logprobs: None,
                });
            }
        }
        if self.request.scoring.is_some() {
            let from = if self.unscored.is_empty() {
                before - 1
            } else {
                self.unscored.start
            };
            self.unscored = from..self.tokens.len() as u32 - 1;
        }
    }

    fn push(&mut self, token: u32) {
        self.output.drafter.observe(&self.tokens, token);
        if let Some(limiter) = &mut self.output.limiter {
            limiter.push(token);
        }
        self.tokens.push(token);
        if self.request.params.penalizes() {
            self.output.counts.push(token);
        }
        if let Some(dry) = &mut self.output.dry {
            dry.update(&self.tokens);
        }
    }

    fn is_full(&self) -> bool {
        self.tokens.len() >= self.lengths.max
    }

    /// Tells the reader that the sequence is finished.
    pub fn finish(&self, reason: FinishReason) -> Taken {
        self.reader.send(Event::Finished { reason });
        Taken::End
    }
}
