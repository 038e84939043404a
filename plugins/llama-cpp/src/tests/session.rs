//! Tests of sessions: what they compute, and what they keep.

use tenon_plugin_api::{
    Batch, Code, EncodeFlags, Interrupt, Model, Result, Session, SessionArgs, Span, SpanOut,
    ThreadPlan,
};

use super::smol;

/// Logits of a token that is computed alone and in a batch differ by the order of sums. SmolLM2's logits are around 20.
const TOLERANCE: f32 = 0.1;

#[test]
fn answers_what_the_capital_of_france_is() {
    let info = smol().info();
    let vocabulary = smol().tokenizer().unwrap().vocabulary().unwrap();
    let prompt =
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n";
    let mut next = tokens(prompt);
    let (mut session, mut length, mut answer) = (session(512), 0, Vec::new());
    while length < 100 {
        let token = largest(&logits(&mut *session, span(0, length, &next)));
        length += next.len();
        if info.eos.contains(&token) {
            break;
        }
        answer.extend_from_slice(vocabulary.bytes(token));
        next = vec![token];
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("Paris"), "{answer}");
    assert_eq!(session.kv_stats().used_tokens as usize, length);
}

#[test]
fn a_batch_gives_what_its_spans_give_alone() {
    let prompts = [
        "The capital of France is",
        "One, two, three,",
        "def add(a, b):\n    return",
    ]
    .map(tokens);
    let mut together = session(512);
    let parts: Vec<_> = (0..3)
        .map(|seq| span(seq, 0, &prompts[seq as usize]))
        .collect();
    let prefilled = forward(&mut *together, &parts);
    let mut rows = Vec::new();
    for (out, prompt) in prefilled.iter().zip(&prompts) {
        let row = together.logits(out.first_row).unwrap().to_vec();
        // The same, token by token.
        let mut alone = session(256);
        for (at, &token) in prompt.iter().enumerate() {
            let last = logits(&mut *alone, span(3, at, &[token]));
            if at + 1 == prompt.len() {
                assert_close(&row, &last);
                let next = largest(&row);
                rows.push((next, logits(&mut *alone, span(3, at + 1, &[next]))));
            }
        }
    }
    let parts: Vec<_> = (0..3)
        .map(|seq| span(seq as u32, prompts[seq].len(), &[rows[seq].0]))
        .collect();
    let decoded = forward(&mut *together, &parts);
    for (out, (_, alone)) in decoded.iter().zip(&rows) {
        assert_close(together.logits(out.first_row).unwrap(), alone);
    }
    assert_eq!(together.logits(3).unwrap_err().code, Code::INVALID);
}

#[test]
fn forks_and_rollbacks_compute_on_as_if_from_the_start() {
    let text =
        tokens("Once upon a time there was a little girl who lived in a village near the forest");
    let (head, tail) = text.split_at(8);
    let mut session = session(256);
    let whole = logits(&mut *session, span(0, 0, &text));

    session.fork(0, 1, 8).unwrap();
    assert_eq!(session.kv_stats().used_tokens as usize, text.len());
    assert_close(&whole, &logits(&mut *session, span(1, 8, tail)));
    assert_eq!(
        session.kv_stats().used_tokens as usize,
        text.len() + tail.len()
    );

    session.truncate(0, 8).unwrap();
    assert_close(&whole, &logits(&mut *session, span(0, 8, tail)));

    session.free(0);
    assert_eq!(session.kv_stats().used_tokens as usize, text.len());
    session.truncate(1, head.len() as u32).unwrap();
    assert_close(&whole, &logits(&mut *session, span(1, head.len(), tail)));
    session.free(1);
    assert_eq!(session.kv_stats().used_tokens, 0);
    assert_close(&whole, &logits(&mut *session, span(1, 0, &text)));

    assert!(
        session.fork(1, 1, 2).is_err()
            && session.fork(1, 9, 2).is_err()
            && session.fork(7, 0, 2).is_err()
    );
    session.truncate(9, 0).unwrap();
    session.free(9);
}

#[test]
fn drafts_get_a_row_each() {
    let text = tokens("The quick brown fox jumps over the lazy dog");
    let mut session = session(256);
    let (mut drafts, ids) = span(0, 0, &text);
    drafts.rows = 3;
    let out = forward(&mut *session, &[(drafts, ids)]);
    let rows: Vec<_> = (0..3)
        .map(|row| session.logits(out[0].first_row + row).unwrap().to_vec())
        .collect();
    for (row, shorter) in rows.iter().rev().zip(0..) {
        let alone = logits(&mut *session, span(1, 0, &text[..text.len() - shorter]));
        assert_close(row, &alone);
        session.free(1);
    }
}

#[test]
fn a_span_that_does_not_fit_fails_alone_and_changes_nothing() {
    let mut session = session(256);
    let word = tokens(" word")[0];
    let info = session.info();
    assert_eq!(
        (info.kv_tokens, info.context_length, info.max_sequences),
        (256, 256, 4)
    );
    assert_eq!(
        statuses(&mut *session, &[span(0, 0, &[word; 200])]),
        [Code::OK]
    );

    let parts = [
        span(1, 0, &[word; 60]),
        span(2, 0, &[word; 10]),
        span(3, 1, &[word]),
    ];
    assert_eq!(
        statuses(&mut *session, &parts),
        [Code::NO_KV_SPACE, Code::OK, Code::BAD_POSITION]
    );
    assert_eq!(session.kv_stats().used_tokens, 210);
    let parts = [
        span(4, 0, &[word]),
        span(2, 10, &[info.kv_tokens + 1_000_000]),
        span(2, 10, &[]),
    ];
    assert_eq!(statuses(&mut *session, &parts), [Code::INVALID; 3]);
    assert_eq!(
        statuses(&mut *session, &[span(0, 200, &[word; 47])]),
        [Code::NO_KV_SPACE]
    );

    // When another sequence is freed, the first continues where it was.
    session.free(2);
    assert_eq!(
        statuses(&mut *session, &[span(0, 200, &[word; 47])]),
        [Code::OK]
    );
    assert_eq!(session.kv_stats().used_tokens, 247);
    let error = try_forward(&mut *session, &[span(1, 0, &[word; 257])]).unwrap_err();
    assert!(
        error.code == Code::INVALID && error.message.contains("256"),
        "{error}"
    );
}

#[test]
fn an_interrupted_batch_leaves_no_trace() {
    let interrupt = Interrupt::default();
    let mut session = interruptible_session(512, interrupt.clone());
    let text = tokens("The rain in Spain stays mainly in the plain");
    let expected = logits(&mut *session, span(0, 0, &text));
    session.truncate(0, 4).unwrap();

    interrupt.set(true);
    let parts = [span(0, 4, &text[4..]), span(1, 0, &text)];
    assert_eq!(
        try_forward(&mut *session, &parts).unwrap_err().code,
        Code::CANCELLED
    );
    assert_eq!(session.kv_stats().used_tokens, 4);
    assert!(session.logits(0).is_err());

    interrupt.set(false);
    let out = forward(&mut *session, &parts);
    for out in out {
        assert_close(session.logits(out.first_row).unwrap(), &expected);
    }
}

#[test]
fn threads_change_between_batches() {
    let mut session = session(256);
    let text = tokens("Threads come and go");
    let expected = logits(&mut *session, span(0, 0, &text));
    for (decode, prefill) in [(1, 2), (2, 1), (2, 2), (1, 1)] {
        let plan = ThreadPlan {
            decode,
            prefill,
            ..ThreadPlan::default()
        };
        session.set_threads(plan).unwrap();
        session.free(0);
        let (head, last) = text.split_at(text.len() - 1);
        logits(&mut *session, span(0, 0, head));
        assert_close(&expected, &logits(&mut *session, span(0, head.len(), last)));
    }
    assert!(session.set_threads(ThreadPlan::default()).is_err());
}

#[test]
fn the_pool_fits_what_was_left_to_the_plugin() {
    let args = SessionArgs {
        max_sequences: 2,
        context_length: 1000,
        max_batch_tokens: 64,
        ..SessionArgs::default()
    };
    let info = smol().session(&args).unwrap().info();
    assert_eq!(
        (info.context_length, info.kv_tokens, info.max_batch_tokens),
        (1000, 2048, 64)
    );
    let none = smol().session(&SessionArgs::default());
    assert_eq!(none.err().unwrap().code, Code::INVALID);
}

fn session(kv_tokens: u32) -> Box<dyn Session> {
    interruptible_session(kv_tokens, Interrupt::default())
}

fn interruptible_session(kv_tokens: u32, interrupt: Interrupt) -> Box<dyn Session> {
    let args = SessionArgs {
        max_sequences: 4,
        kv_tokens,
        max_batch_tokens: 256,
        interrupt,
        ..SessionArgs::default()
    };
    smol().session(&args).unwrap()
}

fn tokens(text: &str) -> Vec<u32> {
    let flags = EncodeFlags::PARSE_CONTROL;
    smol().tokenizer().unwrap().encode(text, flags).unwrap()
}

/// A span that wants the logits of its last token, and its tokens.
fn span(seq: u32, start: usize, tokens: &[u32]) -> (Span, Vec<u32>) {
    let span = Span {
        seq,
        start: start as u32,
        len: tokens.len() as u32,
        rows: 1,
        ..Span::default()
    };
    (span, tokens.to_vec())
}

fn try_forward(session: &mut dyn Session, parts: &[(Span, Vec<u32>)]) -> Result<Vec<SpanOut>> {
    let spans: Vec<_> = parts.iter().map(|(span, _)| *span).collect();
    let tokens = parts
        .iter()
        .flat_map(|(_, tokens)| tokens.clone())
        .collect::<Vec<_>>();
    let mut out = vec![SpanOut::default(); spans.len()];
    session.forward(&Batch::new(&tokens, &spans), &mut out)?;
    Ok(out)
}

fn forward(session: &mut dyn Session, parts: &[(Span, Vec<u32>)]) -> Vec<SpanOut> {
    try_forward(session, parts).unwrap()
}

/// The statuses of a forward.
fn statuses(session: &mut dyn Session, parts: &[(Span, Vec<u32>)]) -> Vec<Code> {
    forward(session, parts)
        .iter()
        .map(|out| out.status)
        .collect()
}

/// The logits after one span.
fn logits(session: &mut dyn Session, part: (Span, Vec<u32>)) -> Vec<f32> {
    let out = forward(session, &[part]);
    assert_eq!(out[0].status, Code::OK);
    session.logits(out[0].first_row).unwrap().to_vec()
}

fn largest(logits: &[f32]) -> u32 {
    (0..logits.len())
        .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
        .unwrap() as u32
}

fn assert_close(left: &[f32], right: &[f32]) {
    let apart = left
        .iter()
        .zip(right)
        .map(|(l, r)| (l - r).abs())
        .fold(0.0, f32::max);
    assert!(
        left.len() == right.len() && apart < TOLERANCE,
        "logits are {apart} apart"
    );
}
