//! What is picked from the rows of a step, with the buffers for it.

use std::{mem, ops::Range};

use tenon_plugin_api::{Code, Error, SampleRequest, Sampled, TokenLogprob};

use super::Logprobs;
use crate::plugin::Session;

/// The picks of one step. Its buffers are used again and again.
#[derive(Default)]
pub struct Picks {
    /// Empty between steps, because they borrow from sequences.
    requests: Vec<SampleRequest<'static>>,
    /// `[requests]`. Empty between steps, because they borrow from `tops`.
    sampled: Vec<Sampled<'static>>,
    /// The most likely tokens of all requests, flat.
    tops: Vec<TokenLogprob>,
    /// `[requests]`
    outcomes: Vec<Outcome>,
}

/// What was picked from one row.
pub struct Pick<'a> {
    pub token: u32,
    /// Only meaningful if the request asked for it.
    pub logprob: f32,
    /// As many of the most likely tokens as the request asked for, most likely first.
    pub top: &'a [TokenLogprob],
}

impl Pick<'_> {
    /// What a listener gets of it.
    pub fn logprobs(&self) -> Box<Logprobs> {
        Box::new(Logprobs {
            logprob: self.logprob,
            top: self.top.to_vec(),
        })
    }
}

struct Outcome {
    token: u32,
    logprob: f32,
    /// Where its most likely tokens are in `tops`.
    top: Range<usize>,
    status: Code,
}

impl Picks {
    /// Has the session answer these requests. An error concerns all of them.
    pub fn sample<'a>(
        &mut self,
        session: &mut Session,
        requests: impl Iterator<Item = SampleRequest<'a>>,
    ) -> Result<(), Error> {
        let mut buffer = recycled(mem::take(&mut self.requests));
        buffer.extend(requests);
        let result = match buffer.is_empty() {
            true => Ok(()),
            false => self.answer(session, &buffer),
        };
        self.requests = recycled(buffer);
        result
    }

    /// What was picked for a request, or why there is nothing.
    pub fn get(&self, request: usize) -> Result<Pick<'_>, Code> {
        let outcome = &self.outcomes[request];
        match outcome.status {
            Code::OK => Ok(Pick {
                token: outcome.token,
                logprob: outcome.logprob,
                top: &self.tops[outcome.top.clone()],
            }),
            code => Err(code),
        }
    }

    fn answer(
        &mut self,
        session: &mut Session,
        requests: &[SampleRequest<'_>],
    ) -> Result<(), Error> {
        let wanted = |request: &SampleRequest<'_>| request.top_logprobs as usize;
        let total = requests.iter().map(wanted).sum();
        self.tops.resize(total, TokenLogprob::default());
        let mut sampled = recycled(mem::take(&mut self.sampled));
        let mut free = self.tops.as_mut_slice();
        for request in requests {
            let (top, rest) = free.split_at_mut(wanted(request));
            sampled.push(Sampled::new(top));
            free = rest;
        }
        let result = session.sample(requests, &mut sampled);
        self.outcomes.clear();
        let mut start = 0;
        for (request, sampled) in requests.iter().zip(&sampled) {
            self.outcomes.push(Outcome {
                token: sampled.token,
                logprob: sampled.logprob,
                top: start..start + sampled.top().len(),
                status: sampled.status,
            });
            start += wanted(request);
        }
        self.sampled = recycled(sampled);
        result
    }
}

/// The same buffer, emptied, for items that borrow from something else: `A` and `B` differ in their lifetime only.
fn recycled<A, B>(mut buffer: Vec<A>) -> Vec<B> {
    buffer.clear();
    // Collecting a vector's own iterator keeps its allocation. Nothing is left that could be mapped.
    buffer.into_iter().map(|_| unreachable!()).collect()
}
