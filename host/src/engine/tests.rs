//! Requests, events, errors and options of an engine are equal after they have crossed to another process.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tenon_plugin_api::{Code, Error, SampleParams, SessionArgs, TokenBias, TokenLogprob};

use super::*;
use crate::{
    grammar::GrammarError,
    plugin::tests::{check, crossed},
};

fn request() -> Request {
    let bias = f32::NEG_INFINITY;
    Request {
        client: ClientId(u64::MAX),
        priority: -3,
        deadline: None,
        cache_prompt: true,
        max_tokens: 100,
        min_tokens: 1,
        params: SampleParams {
            temperature: 0.7,
            ..SampleParams::default()
        },
        seed: u64::MAX - 1,
        bias: vec![TokenBias { token: 3, bias }, TokenBias::default()],
        scoring: Some(Scoring {
            top: 20,
            prompt: true,
        }),
    }
}

#[test]
fn requests_cross() {
    check(&request());
    check(&Request {
        scoring: None,
        bias: vec![],
        ..request()
    });
    check(&PromptTokens::new(vec![1, u32::MAX]));
    check(&PromptTokens {
        tokens: (0..1000).collect(),
        checkpoints: vec![20, 900],
    });
    check(&DryOptions {
        multiplier: 0.8,
        base: 1.75,
        allowed_length: 2,
        breakers: vec![13, 198],
    });
}

#[test]
fn a_deadline_crosses_as_the_time_that_remains() {
    let deadline = Instant::now() + Duration::from_secs(3600);
    let sent = Request {
        deadline: Some(deadline),
        ..request()
    };
    let there = crossed(&sent);
    let later = there.deadline.unwrap() - deadline;
    assert!(later < Duration::from_secs(60), "{later:?}");
    assert_eq!(
        Request {
            deadline: None,
            ..there
        },
        request()
    );
}

#[test]
fn events_cross() {
    let logprob = |token| TokenLogprob {
        token,
        logprob: -1.5,
    };
    let logprobs = Box::new(Logprobs {
        logprob: f32::MIN,
        top: vec![logprob(1), logprob(2)],
    });
    for event in [
        Event::Started {
            cached_tokens: 7,
            queued: Duration::new(3, 999_999_999),
        },
        Event::Scored(logprobs.clone()),
        Event::Token {
            token: u32::MAX,
            logprobs: Some(logprobs),
        },
        Event::Token {
            token: 0,
            logprobs: None,
        },
        Event::Finished {
            reason: FinishReason::Stop,
        },
        Event::Finished {
            reason: FinishReason::Length,
        },
        Event::Failed(Failure::Backend(Error::new(Code::DEVICE_LOST, "gone"))),
        Event::Failed(Failure::Grammar(GrammarError::Unstable)),
        Event::Failed(Failure::Overdue),
        Event::Failed(Failure::Displaced {
            retry_after_secs: 9,
        }),
        Event::Failed(Failure::Unread),
        Event::Failed(Failure::Abandoned),
    ] {
        check(&event);
    }
}

/// A step's events go in one message, so a token without log-probabilities is small.
#[test]
fn a_token_takes_few_bytes() {
    let event = Event::Token {
        token: 49_151,
        logprobs: None,
    };
    assert_eq!(postcard::to_stdvec(&event).unwrap().len(), 5);
}

/// The thread has looked into its inbox for the last time, but has not dropped it.
#[test]
fn a_thread_that_gave_up_gets_no_more_sequences() {
    let (arrivals, _inbox) = mpsc::channel();
    let stopped = Error::new(Code::DEVICE_LOST, "gone");
    let shared = HandleState {
        common: Current::new(Arc::new(Common {
            context_length: 100,
            max_draft_tokens: 0,
            forks_whole_only: false,
            endless: Arc::default(),
            vocabulary: Arc::default(),
        })),
        embeddings: None,
        queue: Queue::new(8),
        audience: Arc::default(),
        calls: PluginCalls::default(),
        failure: Current::new(Some(stopped.clone())),
        model: CurrentModel::default(),
        end: EngineEnd::new(watch::channel(()).1),
    };
    let engine = Engine {
        shared: Arc::new(shared),
        arrivals,
    };
    let prompts = vec![PromptTokens::new(vec![1, 2])];
    let submitted = engine.submit(&Arc::new(request()), &Steering::default(), prompts);
    assert_eq!(submitted.err(), Some(SubmitError::Stopped(stopped)));
}

#[test]
fn refusals_cross() {
    for error in [
        SubmitError::EmptyPrompt,
        SubmitError::PromptTooLong {
            prompt: 9000,
            context: 8192,
        },
        SubmitError::QueueFull {
            retry_after_secs: 2,
        },
        SubmitError::Stopped(Error::new(Code::PANICKED, "it panicked")),
    ] {
        check(&error);
    }
}

#[test]
fn options_cross() {
    let limits = EngineLimits {
        max_running: 4,
        max_draft_tokens: 16,
        max_step: Some(Duration::from_millis(200)),
        min_priority: -1,
        write_timeout: Duration::from_secs(60),
    };
    for calibration in [None, Some(Arc::<Calibration>::default())] {
        let sent = EngineOptions {
            name: "model a".into(),
            session: SessionArgs {
                max_sequences: 8,
                ..SessionArgs::default()
            },
            max_queue: 8,
            max_reloads: 1,
            limits,
            calibration,
        };
        let there = crossed(&sent);
        assert_eq!((there.name, there.max_queue), (sent.name, sent.max_queue));
        assert_eq!(there.session.max_sequences, 8);
        assert_eq!(there.limits, limits);
        assert_eq!(there.calibration.is_some(), sent.calibration.is_some());
    }
}
