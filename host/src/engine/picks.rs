//! The tokens picked from the rows of a step, and the buffers for them.

use std::{mem, ops::Range};

use tenon_plugin_api::{Code, Error, SampleRequest, Sampled, TokenLogprob};

use super::Logprobs;
use crate::plugin::Session;

/// The picks of one step. The buffers are reused for every step.
#[derive(Default)]
pub struct Picks {
    /// Empty between steps, because the requests borrow from sequences.
    requests: Vec<SampleRequest<'static>>,
    /// `[requests]`. Empty between steps, because the items borrow from `tops`.
    sampled: Vec<Sampled<'static>>,
    /// The most likely tokens of all requests, flat.
    tops: Vec<TokenLogprob>,
    /// `[requests]`
    outcomes: Vec<SampleOutcome>,
}

/// The token picked from one row.
pub struct Pick<'a> {
    pub token: u32,
    /// Valid only if the request asked for it.
    pub logprob: f32,
    /// The most likely tokens, most likely first, as many as the request asked for.
    pub top: &'a [TokenLogprob],
}

impl Pick<'_> {
    /// The pick's log-probabilities, for the reader.
    pub fn logprobs(&self) -> Box<Logprobs> {
        Box::new(Logprobs {
            logprob: self.logprob,
            top: self.top.to_vec(),
        })
    }
}

struct SampleOutcome {
    token: u32,
    logprob: f32,
    /// Range of its most likely tokens in `tops`.
    top: Range<usize>,
    status: Code,
}

impl Picks {
    /// Has the session answer these requests. An error fails all of them: there are no picks then.
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

    /// The pick for a request, or why there is none.
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
        // After an error nobody has checked what the plugin left in the answers, not even their addresses.
        if result.is_ok() {
            let mut start = 0;
            for (request, sampled) in requests.iter().zip(&sampled) {
                self.outcomes.push(SampleOutcome {
                    token: sampled.token,
                    logprob: sampled.logprob,
                    top: start..start + sampled.top().len(),
                    status: sampled.status,
                });
                start += wanted(request);
            }
        }
        self.sampled = recycled(sampled);
        result
    }
}

/// Empties a buffer and reuses it for items with another lifetime: `A` and `B` differ only in their lifetime.
fn recycled<A, B>(mut buffer: Vec<A>) -> Vec<B> {
    buffer.clear();
    // Collecting a vector's own iterator keeps its allocation. The iterator is empty.
    buffer.into_iter().map(|_| unreachable!()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::tests::exchanging_session;

    #[test]
    fn answers_of_a_failed_call_are_not_read() {
        let requests = [0, 1].map(|row| {
            let mut request = SampleRequest::new(row);
            request.top_logprobs = 1;
            request
        });
        let mut picks = Picks::default();
        let sampled = picks.sample(&mut exchanging_session(), requests.into_iter());
        assert_eq!(sampled.unwrap_err().code, Code::INTERNAL);
        assert!(picks.outcomes.is_empty());
    }
}
