//! Random operations on several sequences.

use std::ops::Range;

use tenon_plugin_api::{SampleRequest, UNLIMITED, testing::Part};

use crate::{
    finding::Checked,
    running::{Running, agreement, same},
    subject::Subject,
};

/// Number of operations.
const OPERATIONS: usize = 120;
/// Longest sequence in tokens.
const LONGEST: usize = 15;
/// Most tokens that a sequence gets in one operation.
const MOST: usize = 6;

/// The expected state of a session by the rules of the KV pool.
struct Expected(Vec<ExpectedSequence>);

/// The expected state of a sequence.
#[derive(Clone, Default)]
struct ExpectedSequence {
    tokens: Vec<u32>,
    /// How many of the tokens `truncate` may take back: those computed since the sequence was forked or truncated, and the ones
    /// that could be taken back before, but no more than `max_rollback`. Those that a fork begins with count only if there is no
    /// limit.
    rollback: usize,
}

impl ExpectedSequence {
    fn append(&mut self, tokens: &[u32], max_rollback: u32) {
        self.tokens.extend(tokens);
        self.rollback = (self.rollback + tokens.len()).min(max_rollback as usize);
    }

    fn truncate(&mut self, len: usize) {
        self.rollback -= self.tokens.len() - len;
        self.tokens.truncate(len);
    }
}

pub fn random_operations(subject: &Subject) -> Checked {
    let mut running = Running::with_sequences(subject, 3)?;
    let info = *running.driver.info();
    // The last sequence computes the expected rows.
    let spare = info.max_sequences.min(4) - 1;
    let mut expected = Expected(vec![ExpectedSequence::default(); spare as usize]);
    let mut worst = 0.0_f32;
    for operation in 0..OPERATIONS {
        let compared = expected.operate(&mut running, spare);
        let compared = compared.map_err(|finding| {
            finding.prefixed(&format!(
                "operation {operation} (repeat it with --seed {})",
                subject.seed
            ))
        })?;
        worst = worst.max(compared);
    }
    Ok(format!(
        "{OPERATIONS} operations with seed {}: {}",
        subject.seed,
        agreement(worst)
    ))
}

impl Expected {
    /// One random operation. Returns how far apart the rows are, if there are any.
    fn operate(&mut self, running: &mut Running, spare: u32) -> Checked<f32> {
        let seq = running.dice.u32(..spare);
        let len = self.0[seq as usize].tokens.len();
        match running.dice.u8(..10) {
            0 if len > 0 => {
                running.driver.free(seq);
                self.0[seq as usize] = ExpectedSequence::default();
                Ok(0.0)
            }
            1 if len > 1 => self.truncate(running, seq),
            2 | 3 if len > 0 => self.fork(running, seq, spare),
            4 | 5 if fits(running, spare) => self.append(running, 0..spare, spare),
            _ => self.append(running, seq..seq + 1, spare),
        }
    }

    /// Appends tokens to these sequences in one batch.
    fn append(&mut self, running: &mut Running, seqs: Range<u32>, spare: u32) -> Checked<f32> {
        let max_rollback = running.driver.info().max_rollback;
        let mut appended = Vec::new();
        for seq in seqs {
            let stored = &mut self.0[seq as usize];
            let most = MOST.min(LONGEST - stored.tokens.len());
            if most > 0 {
                let len = running.dice.usize(1..=most);
                let tokens = running.tokens(len);
                stored.append(&tokens, max_rollback);
                appended.push((seq, tokens));
            }
        }
        if appended.is_empty() {
            return Ok(0.0);
        }
        let parts = appended.iter().map(|(seq, tokens)| Part::new(*seq, tokens));
        let parts: Vec<_> = parts.collect();
        let found = running.driver.append(&parts)?.concat();
        // What is picked does not count, only that picking changes nothing.
        if running.dice.bool() {
            let requests = (0..parts.len() as u32).map(SampleRequest::new);
            running.driver.sample(&requests.collect::<Vec<_>>())?;
        }
        let mut expected = Vec::new();
        for (seq, _) in &appended {
            expected.extend(running.last_row(spare, &self.0[*seq as usize].tokens)?);
        }
        same("a sequence computed anew", &expected, &found)
    }

    fn truncate(&mut self, running: &mut Running, seq: u32) -> Checked<f32> {
        let stored = &mut self.0[seq as usize];
        let stored_len = stored.tokens.len();
        let most = stored.rollback.min(stored_len - 1);
        if most > 0 {
            let len = stored_len - running.dice.usize(1..=most);
            running.driver.truncate(seq, len as u32)?;
            stored.truncate(len);
        }
        Ok(0.0)
    }

    fn fork(&mut self, running: &mut Running, src: u32, spare: u32) -> Checked<f32> {
        let empty = (0..spare).find(|&seq| self.0[seq as usize].tokens.is_empty());
        let Some(dst) = empty else { return Ok(0.0) };
        let stored = &self.0[src as usize].tokens;
        let len = match running.driver.info().fork_any_len {
            true => running.dice.usize(1..=stored.len()),
            false => stored.len(),
        };
        let forked = stored[..len].to_vec();
        running.driver.fork(src, dst, len as u32)?;
        let rollback = match running.driver.info().max_rollback {
            UNLIMITED => len,
            _ => 0,
        };
        self.0[dst as usize] = ExpectedSequence {
            tokens: forked,
            rollback,
        };
        Ok(0.0)
    }
}

/// Whether a batch may have tokens for all of these sequences, and a row of each.
fn fits(running: &Running, sequences: u32) -> bool {
    let info = running.driver.info();
    info.max_rows >= sequences && info.max_batch_tokens >= sequences * MOST as u32
}
