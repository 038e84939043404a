//! Batches that are computed, and batches that are refused.

use tenon_plugin_api::{
    Batch, Code, Result, SampleRequest, SessionArgs, Span, SpanOut,
    testing::{Part, Row},
};

use crate::{
    finding::{Checked, Finding, ensure, refused},
    running::{Running, agreement, args, same},
    subject::Subject,
};

/// Largest pool that is filled, in tokens.
const MAX_POOL: u32 = 4096;

pub fn batch_equals_alone(subject: &Subject) -> Checked {
    let mut running = Running::with_sequences(subject, 3)?;
    let texts = [5, 9, 14].map(|len| running.tokens(len));
    let mut expected = Vec::new();
    for (seq, text) in (0..).zip(&texts) {
        expected.push(running.alone(seq, text)?);
    }
    // The prompts in one batch, and then each next token in one batch.
    let prompt = |at: usize| &texts[at][..texts[at].len() - 2];
    let parts = [0, 1, 2].map(|at| Part::with_all_rows(at as u32, prompt(at)));
    let mut found = running.driver.append(&parts)?;
    for left in [2, 1] {
        let next = |at: usize| std::slice::from_ref(&texts[at][texts[at].len() - left]);
        let parts = [0, 1, 2].map(|at| Part::new(at as u32, next(at)));
        for (rows, more) in found.iter_mut().zip(running.driver.append(&parts)?) {
            rows.extend(more);
        }
    }
    let worst = same(
        "sequences alone and in a batch",
        &expected.concat(),
        &found.concat(),
    )?;
    Ok(agreement(worst))
}

pub fn chunks_equal_whole(subject: &Subject) -> Checked {
    let mut running = Running::with_sequences(subject, 2)?;
    let tokens = running.tokens(24);
    let expected = running.alone(0, &tokens)?;
    let mut at = 0;
    for len in [1, 3, 7, 12, 1] {
        // One chunk asks for no rows, as chunks inside a prompt do.
        let part = Part {
            seq: 1,
            tokens: &tokens[at..at + len],
            rows: u32::from(len != 3),
        };
        at += len;
        let found = running.driver.append(&[part])?.concat();
        if part.rows > 0 {
            same(
                &format!("after a chunk of {len}"),
                &expected[at - 1..at],
                &found,
            )?;
        }
    }
    Ok("chunks of 1, 3, 7 and 12 tokens give the rows of the whole".to_owned())
}

pub fn rows_in_order(subject: &Subject) -> Checked {
    let mut running = Running::with_sequences(subject, 3)?;
    let texts = [4, 6, 8].map(|len| running.tokens(len));
    let mut expected = Vec::new();
    for (text, rows) in texts.iter().zip([2, 0, 3]) {
        let all = running.alone(0, text)?;
        expected.extend_from_slice(&all[all.len() - rows..]);
    }
    let parts = [(0, 2), (1, 0), (2, 3)].map(|(at, rows)| Part {
        seq: at as u32,
        tokens: &texts[at],
        rows,
    });
    let found = running.driver.append(&parts)?.concat();
    let worst = same("rows of a batch with 2, 0 and 3 rows", &expected, &found)?;
    Ok(agreement(worst))
}

pub fn bad_start(subject: &Subject) -> Checked {
    let mut running = Running::with_sequences(subject, 2)?;
    let tokens = running.tokens(12);
    let expected = running.alone(1, &tokens)?;
    running.driver.append(&[Part::new(0, &tokens[..10])])?;
    for start in [0, 9, 11, 100] {
        let span = Span {
            start,
            len: 2,
            rows: 1,
            ..Span::default()
        };
        let outcome = forward_one(&mut running, span, &tokens[10..]);
        let what = format!("a span that begins at {start} in a sequence of 10 tokens");
        refused(&what, outcome, Code::BAD_POSITION)?;
    }
    let found = running
        .driver
        .append(&[Part::new(0, &tokens[10..])])?
        .concat();
    let worst = same("after refused spans", &expected[11..], &found)?;
    Ok(agreement(worst))
}

/// Computes one span without the driver, which does not count its tokens.
fn forward_one(running: &mut Running, span: Span, tokens: &[u32]) -> Result<()> {
    let mut out = [SpanOut::default()];
    let session = running.driver.session();
    session.forward(&Batch::new(tokens, &[span]), &mut out)?;
    match out[0].status {
        Code::OK => Ok(()),
        code => Err(code.into()),
    }
}

pub fn full_pool_changes_nothing(subject: &Subject) -> Checked {
    let small = SessionArgs {
        kv_tokens: 64,
        max_batch_tokens: 32,
        ..args()
    };
    let mut running = Running::with(subject, &small)?;
    let info = *running.driver.info();
    if info.kv_tokens > MAX_POOL || info.max_sequences < 3 {
        return Err(Finding::skipped(format!(
            "its smallest pool has {} tokens and {} sequences",
            info.kv_tokens, info.max_sequences
        )));
    }
    let texts = [running.tokens(9), running.tokens(MAX_POOL as usize)];
    let expected = running.alone(0, &texts[0])?;
    running.driver.append(&[Part::new(0, &texts[0][..8])])?;
    fill(&mut running, &texts[1])?;
    let refused = running.driver.append(&[Part::new(0, &texts[0][8..])]);
    // Pools may consist of blocks: the sequence may still have room for this token in its last block.
    let found = match refused {
        Ok(rows) => rows.concat(),
        Err(_) => {
            running.driver.free(1);
            running
                .driver
                .append(&[Part::new(0, &texts[0][8..])])?
                .concat()
        }
    };
    let worst = same("after a full pool", &expected[8..], &found)?;
    Ok(agreement(worst))
}

/// Fills the pool with the other sequences, until there is no room for a single token.
fn fill(running: &mut Running, tokens: &[u32]) -> Checked<()> {
    let info = *running.driver.info();
    let (mut left, mut most) = (tokens, info.max_batch_tokens);
    for seq in 1..info.max_sequences {
        while running.driver.stored(seq) < info.context_length && !left.is_empty() {
            let room = info.context_length - running.driver.stored(seq);
            let len = (room.min(most) as usize).min(left.len());
            match running.driver.append(&[Part::new(seq, &left[..len])]) {
                Ok(_) => left = &left[len..],
                Err(error) if error.code != Code::NO_KV_SPACE => {
                    return Err(Finding::failed(format!(
                        "a span without room is refused with {:?} ({}): answer NO_KV_SPACE",
                        error.code, error.message
                    )));
                }
                Err(_) if len == 1 => return Ok(()),
                Err(_) => most = len as u32 / 2,
            }
        }
    }
    Err(Finding::skipped(
        "the pool was not filled: it has room for every sequence",
    ))
}

pub fn failure_isolated(subject: &Subject) -> Checked {
    let mut running = Running::with_sequences(subject, 3)?;
    let tokens = running.tokens(6);
    let expected = running.alone(0, &tokens)?;
    let span = |seq, start| Span {
        seq,
        start,
        len: 6,
        rows: 2,
        ..Span::default()
    };
    // The span in the middle begins at 5, but its sequence is empty.
    let spans = [span(0, 0), span(1, 5), span(2, 0)];
    let mut outs = [SpanOut::default(); 3];
    let session = running.driver.session();
    session.forward(&Batch::new(&tokens.repeat(3), &spans), &mut outs)?;
    let statuses = outs.map(|out| out.status);
    ensure(statuses[0] == Code::OK && statuses[2] == Code::OK, || {
        format!(
            "with a bad span between two good ones the statuses are {statuses:?}: fail only the bad one"
        )
    })?;
    if statuses[1] == Code::OK {
        let bad = "a span after the end of its sequence was accepted";
        return Err(Finding::failed(bad).of("forward/bad-start"));
    }
    let mut rows: Vec<Row> = Vec::new();
    for row in 0..4 {
        rows.push(running.driver.session().logits(row)?.to_vec());
    }
    let worst = same(
        "beside a bad span",
        &[&expected[4..], &expected[4..]].concat(),
        &rows,
    )?;
    Ok(agreement(worst))
}

pub fn unknown_flag_refused(subject: &Subject) -> Checked {
    let mut running = Running::with_sequences(subject, 2)?;
    let tokens = running.tokens(5);
    let expected = running.alone(1, &tokens)?;
    let span = Span {
        len: 5,
        rows: 1,
        flags: 1 << 31,
        ..Span::default()
    };
    let outcome = forward_one(&mut running, span, &tokens);
    refused("a span with an unknown flag", outcome, Code::UNSUPPORTED)?;
    let found = running.driver.append(&[Part::new(0, &tokens)])?.concat();
    let worst = same("after a refused batch", &expected[4..], &found)?;
    Ok(agreement(worst))
}

pub fn reserved_zero(subject: &Subject) -> Checked {
    let mut running = Running::new(subject)?;
    let tokens = running.tokens(10);
    let mut at = 0;
    for (len, rows) in [(4, 0), (5, 5), (1, 1)] {
        let part = Part {
            seq: 0,
            tokens: &tokens[at..at + len],
            rows,
        };
        // The bridge checks the reserved words of every outcome.
        running.driver.append(&[part])?;
        at += len;
    }
    running.driver.sample(&[SampleRequest::new(0)])?;
    Ok("they are zero".to_owned())
}

pub fn interrupt_changes_nothing(subject: &Subject) -> Checked {
    let args = args();
    let mut running = Running::with(subject, &args)?;
    let tokens = running.tokens(30);
    let expected = running.last_row(0, &tokens)?;
    running.driver.append(&[Part::new(0, &tokens[..10])])?;
    args.interrupt.set(true);
    let interrupted = running.driver.append(&[Part::new(0, &tokens[10..])]);
    args.interrupt.set(false);
    match interrupted {
        // A step may be done before it checks the interrupt.
        Ok(rows) => {
            same(
                "an interrupted step that was done",
                &expected,
                &rows.concat(),
            )?;
            Ok("the step was done nevertheless: that is allowed".to_owned())
        }
        Err(error) if error.code == Code::CANCELLED => {
            let again = running.driver.append(&[Part::new(0, &tokens[10..])]);
            let again = again.map_err(|error| {
                Finding::failed(format!(
                    "after an interrupted step the same step fails ({error}): restore the lengths of all sequences"
                ))
            })?;
            let worst = same("after an interrupted step", &expected, &again.concat())?;
            Ok(format!(
                "it was interrupted, and afterwards {}",
                agreement(worst)
            ))
        }
        Err(error) => Err(Finding::failed(format!(
            "an interrupted step fails with {:?} ({}): answer CANCELLED",
            error.code, error.message
        ))),
    }
}
