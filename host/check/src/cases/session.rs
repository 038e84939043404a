//! Sessions as a whole.

use tenon_plugin_api::{
    SessionArgs, SessionInfo,
    testing::{Driver, Part},
};

use crate::{
    finding::{Checked, Finding},
    running::{Running, agreement, args, same, session},
    subject::Subject,
};

/// Number of random operations.
const OPERATIONS: usize = 120;
/// Longest sequence in the random operations.
const LONGEST: usize = 15;

pub fn grants_in_bounds(subject: &Subject) -> Checked {
    let mut running = Running::new(subject)?;
    let mut granted = Vec::new();
    for (max_sequences, max_batch_tokens) in [(1, 16), (2, 64), (6, 32)] {
        let args = SessionArgs {
            max_sequences,
            max_batch_tokens,
            kv_tokens: max_sequences * 256,
            ..args()
        };
        let mut driver = session(&running.model, &args)?;
        use_all(&mut running, &mut driver)?;
        granted.push(format!(
            "{} of {max_sequences}",
            driver.info().max_sequences
        ));
    }
    Ok(format!("sequences are granted: {}", granted.join(", ")))
}

/// Fills a batch and its rows in the last sequence.
fn use_all(running: &mut Running, driver: &mut Driver) -> Checked<()> {
    let info: SessionInfo = *driver.info();
    let fits = [info.max_batch_tokens, info.context_length, info.kv_tokens];
    let len = fits.into_iter().min().unwrap_or_default().min(512);
    let tokens = running.tokens(len as usize);
    let part = Part {
        seq: info.max_sequences.min(64) - 1,
        tokens: &tokens,
        rows: info.max_rows.min(len),
    };
    let used = driver.append(&[part]);
    used.map(drop).map_err(|error| {
        Finding::failed(format!(
            "a batch of {len} tokens for sequence {} is within what was granted and fails ({error}): grant less, or make room",
            part.seq
        ))
    })
}

pub fn outlives_model(subject: &Subject) -> Checked {
    let mut running = Running::new(subject)?;
    let tokens = running.tokens(9);
    let expected = running.alone(0, &tokens)?;
    let Running {
        mut driver, model, ..
    } = running;
    drop(model);
    let found = driver.append(&[Part::with_all_rows(0, &tokens)]);
    let found = found.map_err(|error| {
        Finding::failed(format!(
            "a session fails once its model is dropped ({error}): let it own what it needs"
        ))
    })?;
    let worst = same("after the model is dropped", &expected, &found[0])?;
    Ok(agreement(worst))
}

/// The expected state of a session by the rules of the KV pool: the tokens of each sequence.
struct Expected(Vec<Vec<u32>>);

pub fn random_operations(subject: &Subject) -> Checked {
    let mut running = Running::with_sequences(subject, 3)?;
    let info = *running.driver.info();
    // The last sequence computes the expected rows.
    let spare = info.max_sequences.min(4) - 1;
    let mut expected = Expected(vec![Vec::new(); spare as usize]);
    let mut worst = 0.0_f32;
    for operation in 0..OPERATIONS {
        let seq = running.dice.u32(..spare);
        let compared = expected.operate(&mut running, seq, spare);
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
    /// One random operation on a sequence. Returns how far apart the rows are, if there are any.
    fn operate(&mut self, running: &mut Running, seq: u32, spare: u32) -> Checked<f32> {
        let len = self.0[seq as usize].len();
        match running.dice.u8(..8) {
            0 if len > 0 => {
                running.driver.free(seq);
                self.0[seq as usize].clear();
                Ok(0.0)
            }
            1 if len > 1 => self.truncate(running, seq),
            2 | 3 if len > 0 => self.fork(running, seq, spare),
            _ => self.append(running, seq, spare),
        }
    }

    fn append(&mut self, running: &mut Running, seq: u32, spare: u32) -> Checked<f32> {
        let stored = &mut self.0[seq as usize];
        let room = LONGEST - stored.len();
        if room == 0 {
            return Ok(0.0);
        }
        let len = running.dice.usize(1..=room.min(6));
        let tokens = running.tokens(len);
        stored.extend(&tokens);
        let found = running.driver.append(&[Part::new(seq, &tokens)])?.concat();
        let expected = running.last_row(spare, stored)?;
        same("a sequence computed anew", &expected, &found)
    }

    fn truncate(&mut self, running: &mut Running, seq: u32) -> Checked<f32> {
        let stored = &mut self.0[seq as usize];
        let most = (running.driver.info().max_rollback as usize).min(stored.len() - 1);
        if most > 0 {
            let len = stored.len() - running.dice.usize(1..=most);
            running.driver.truncate(seq, len as u32)?;
            stored.truncate(len);
        }
        Ok(0.0)
    }

    fn fork(&mut self, running: &mut Running, src: u32, spare: u32) -> Checked<f32> {
        let empty = (0..spare).find(|&seq| self.0[seq as usize].is_empty());
        let Some(dst) = empty else { return Ok(0.0) };
        let stored = &self.0[src as usize];
        let len = match running.driver.info().fork_any_len {
            true => running.dice.usize(1..=stored.len()),
            false => stored.len(),
        };
        let forked = stored[..len].to_vec();
        running.driver.fork(src, dst, len as u32)?;
        self.0[dst as usize] = forked;
        Ok(0.0)
    }
}
