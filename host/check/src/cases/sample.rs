//! Sampling from a row of logits.

use std::cmp::Ordering;

use tenon_plugin_api::{
    Code, CpuSampler, SampleParams, SampleRequest, Sampled, TokenBias, TokenLogprob,
    testing::{Part, Row},
};

use crate::{
    finding::{Checked, ensure},
    running::Running,
    subject::Subject,
};

/// How far a log-probability may be from the one that the SDK's sampler computes from the same row.
const TOLERANCE: f32 = 0.02;
/// Random draws from a row.
const DRAWS: u64 = 64;

/// A plugin's answer to a sampling request.
struct Picked {
    status: Code,
    token: u32,
    logprob: f32,
    top: Vec<TokenLogprob>,
}

/// A session after a step with some rows.
struct Rows {
    running: Running,
    rows: Vec<Row>,
}

impl Rows {
    fn new(subject: &Subject, count: usize) -> Checked<Self> {
        let mut running = Running::new(subject)?;
        let tokens = running.tokens(count);
        let rows = running
            .driver
            .append(&[Part::with_all_rows(0, &tokens)])?
            .concat();
        Ok(Self { running, rows })
    }

    /// The plugin's answers to requests.
    fn pick(&mut self, requests: &[SampleRequest<'_>]) -> Checked<Vec<Picked>> {
        let mut top = vec![[TokenLogprob::default(); 8]; requests.len()];
        let mut out: Vec<_> = top.iter_mut().map(|top| Sampled::new(top)).collect();
        let session = self.running.driver.session();
        session.sample(&mut CpuSampler::default(), requests, &mut out)?;
        Ok(out.iter().map(picked).collect())
    }

    /// The plugin's answer to a single request.
    fn pick_one(&mut self, request: &SampleRequest<'_>) -> Checked<Picked> {
        // There is an answer for each request.
        Ok(self.pick(&[*request])?.remove(0))
    }

    /// The answer of the SDK's sampler to a request, from the same row.
    fn reference(&self, request: &SampleRequest<'_>) -> Picked {
        let mut top = [TokenLogprob::default(); 8];
        let mut out = Sampled::new(&mut top);
        let mut sampler = CpuSampler::for_tokens(self.running.model.info().vocab_size);
        sampler.sample(&self.rows[request.row as usize], request, &mut out);
        picked(&out)
    }

    /// A mask that allows every token but one.
    fn mask_without(&self, forbidden: u32) -> Vec<u32> {
        let mut words = vec![0; self.rows[0].len().div_ceil(32)];
        let tokens = 0..self.running.model.info().vocab_size;
        for token in tokens.filter(|token| *token != forbidden) {
            words[token as usize / 32] |= 1 << (token % 32);
        }
        words
    }

    fn logit(&self, row: usize, token: u32) -> f32 {
        self.rows[row]
            .get(token as usize)
            .copied()
            .unwrap_or(f32::NAN)
    }

    /// Number of tokens that are more likely than this one.
    fn rank(&self, row: usize, token: u32) -> usize {
        let (logit, count) = (self.logit(row, token), self.running.model.info().vocab_size);
        let logits = self.rows[row].iter().take(count as usize);
        logits.filter(|other| **other > logit).count()
    }
}

fn picked(out: &Sampled<'_>) -> Picked {
    Picked {
        status: out.status,
        token: out.token,
        logprob: out.logprob,
        top: out.top().to_vec(),
    }
}

fn random(row: u32, temperature: f32, draw: u64) -> SampleRequest<'static> {
    let mut request = SampleRequest::new(row);
    request.params = SampleParams {
        temperature,
        ..SampleParams::default()
    };
    request.draw = draw;
    request
}

pub fn matches_reference(subject: &Subject) -> Checked {
    let mut rows = Rows::new(subject, 4)?;
    for row in 0..4 {
        let request = SampleRequest::new(row);
        let best = rows.reference(&request).token;
        rows.check_greedy("a greedy request", &request)?;
        let forbidden = [TokenBias {
            token: best,
            bias: f32::NEG_INFINITY,
        }];
        let biased = SampleRequest::new(row).with_bias(&forbidden);
        rows.check_greedy("a greedy request with a bias", &biased)?;
        let words = rows.mask_without(best);
        let masked = SampleRequest::new(row).with_mask(&words);
        rows.check_greedy("a greedy request with a mask", &masked)?;
        let draw = rows.running.dice.u64(..);
        let mut few = random(row, 1.0, draw);
        few.params.top_k = 3;
        let token = rows.pick_one(&few)?.token;
        let rank = rows.rank(row as usize, token);
        ensure(rank < 3, || {
            format!("with top_k = 3 the token {token} was picked, of which {rank} are more likely")
        })?;
    }
    Ok("greedy requests, biases, masks and top_k give what the row says".to_owned())
}

impl Rows {
    fn check_greedy(&mut self, what: &str, request: &SampleRequest<'_>) -> Checked<()> {
        let (expected, found) = (self.reference(request), self.pick_one(request)?);
        // Several tokens may have the largest logit in a device's arithmetic.
        let row = request.row as usize;
        let equal = self.logit(row, found.token) == self.logit(row, expected.token);
        ensure(
            found.status == Code::OK && (equal || found.token == expected.token),
            || {
                format!(
                    "{what} gave the token {} ({:?}) instead of {}: compare with `CpuSampler`",
                    found.token, found.status, expected.token
                )
            },
        )
    }
}

pub fn seed_in_a_crowd(subject: &Subject) -> Checked {
    let mut rows = Rows::new(subject, 6)?;
    let mut requests = Vec::new();
    for row in 0..6 {
        let draw = rows.running.dice.u64(..);
        requests.push(random(row, 1.0, draw));
    }
    let together = rows.pick(&requests)?;
    for (request, crowd) in requests.iter().zip(together) {
        let alone = rows.pick_one(request)?.token;
        ensure(alone == crowd.token, || {
            format!(
                "the same draw from row {} gives the token {alone} alone and {} among others: let nothing but the row and the \
                 request decide",
                request.row, crowd.token
            )
        })?;
    }
    Ok("6 requests get the same tokens alone and together".to_owned())
}

pub fn empty_mask(subject: &Subject) -> Checked {
    let mut rows = Rows::new(subject, 3)?;
    let nothing = vec![0; rows.rows[0].len().div_ceil(32)];
    let requests = [
        SampleRequest::new(0),
        SampleRequest::new(1).with_mask(&nothing),
        SampleRequest::new(2),
    ];
    let statuses: Vec<Code> = rows
        .pick(&requests)?
        .iter()
        .map(|picked| picked.status)
        .collect();
    ensure(
        statuses == [Code::OK, Code::NO_ALLOWED_TOKEN, Code::OK],
        || {
            format!(
                "the statuses of a request with an empty mask between two others are {statuses:?}: answer NO_ALLOWED_TOKEN \
                 for it, and OK for the others"
            )
        },
    )?;
    Ok("it fails its request only".to_owned())
}

pub fn forced_scored(subject: &Subject) -> Checked {
    let mut rows = Rows::new(subject, 2)?;
    let vocab_size = rows.running.model.info().vocab_size;
    for forced in [0, vocab_size / 2, vocab_size - 1] {
        let mut request = SampleRequest::new(1);
        request.forced = forced;
        request.logprob = 1;
        let (expected, found) = (rows.reference(&request), rows.pick_one(&request)?);
        let near = near(expected.logprob, found.logprob);
        ensure(
            found.status == Code::OK && found.token == forced && near,
            || {
                format!(
                    "the forced token {forced} gave the token {} ({:?}) with the log-probability {} instead of {}",
                    found.token, found.status, found.logprob, expected.logprob
                )
            },
        )?;
    }
    Ok("forced tokens are scored by the model's own distribution".to_owned())
}

/// Whether rounding explains the difference of two log-probabilities. That of an impossible token is infinite.
fn near(a: f32, b: f32) -> bool {
    a == b || (a - b).abs() <= TOLERANCE
}

pub fn top_sorted(subject: &Subject) -> Checked {
    let mut rows = Rows::new(subject, 3)?;
    for row in 0..3 {
        let mut request = SampleRequest::new(row);
        request.top_logprobs = 5_u32.min(rows.running.model.info().vocab_size);
        let (expected, found) = (rows.reference(&request).top, rows.pick_one(&request)?.top);
        ensure(found.len() == expected.len(), || {
            format!(
                "{} most likely tokens came instead of {}",
                found.len(),
                expected.len()
            )
        })?;
        let order = |a: &TokenLogprob, b: &TokenLogprob| {
            a.logprob
                .partial_cmp(&b.logprob)
                .is_some_and(Ordering::is_ge)
        };
        ensure(found.is_sorted_by(order), || {
            format!("the most likely tokens are in the order {found:?}: put the most likely first")
        })?;
        let near = |(a, b): (&TokenLogprob, &TokenLogprob)| near(a.logprob, b.logprob);
        ensure(expected.iter().zip(&found).all(near), || {
            format!("the most likely tokens are {found:?} instead of {expected:?}")
        })?;
    }
    Ok("they are the most likely ones, in their order".to_owned())
}

pub fn padding_never_picked(subject: &Subject) -> Checked {
    let mut rows = Rows::new(subject, 2)?;
    for _ in 0..DRAWS {
        let draw = rows.running.dice.u64(..);
        // At this temperature all tokens are about equally likely. The bridge checks the answers.
        rows.pick_one(&random(0, 1000.0, draw))?;
    }
    let info = rows.running.model.info();
    Ok(format!(
        "{DRAWS} draws from a row of {} logits for {} tokens",
        info.logits_width, info.vocab_size
    ))
}
