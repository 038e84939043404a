//! The ledger of a KV pool: which sequence holds how many positions, and which positions are shared.

use crate::{Code, Error, KvStats, Result, Span};

/// Assigns the cells of a KV pool to sequences. [`fork`](Self::fork) shares cells between them. The ledger holds no KV
/// itself. Cells are numbered, so that a backend can store a cell's keys and values at its number.
///
/// Allocates only when a sequence becomes longer than every earlier sequence of the same id.
#[derive(Debug)]
pub struct KvLedger {
    /// For each sequence, the cells of its positions.
    sequences: Vec<Vec<u32>>,
    /// For each cell, how many sequences hold it.
    references: Vec<u32>,
    free: Vec<u32>,
}

impl KvLedger {
    /// An empty pool of `kv_tokens` cells for sequences with ids below `max_sequences`.
    pub fn new(max_sequences: u32, kv_tokens: u32) -> Self {
        Self {
            sequences: vec![Vec::new(); max_sequences as usize],
            references: vec![0; kv_tokens as usize],
            free: (0..kv_tokens).rev().collect(),
        }
    }

    /// Stored length of a sequence; 0 for ids that do not exist.
    pub fn len(&self, seq: u32) -> u32 {
        self.cells(seq).len() as u32
    }

    /// Whether no sequence stores anything.
    pub fn is_empty(&self) -> bool {
        self.free.len() == self.references.len()
    }

    /// Cells of a sequence in the order of its positions; empty for ids that do not exist.
    pub fn cells(&self, seq: u32) -> &[u32] {
        self.sequences.get(seq as usize).map_or(&[], Vec::as_slice)
    }

    /// Cells that no sequence holds.
    pub fn free_tokens(&self) -> u32 {
        self.free.len() as u32
    }

    /// How full the pool is.
    pub fn stats(&self) -> KvStats {
        let total_tokens = self.references.len() as u32;
        KvStats {
            used_tokens: total_tokens - self.free_tokens(),
            total_tokens,
            ..KvStats::default()
        }
    }

    /// Takes cells for a span's positions.
    ///
    /// # Errors
    /// `INVALID` for an unknown sequence, `BAD_POSITION` if the span does not begin at the stored length, `NO_KV_SPACE` if
    /// too few cells are free. An error changes nothing.
    pub fn append(&mut self, span: &Span) -> std::result::Result<(), Code> {
        let Some(sequence) = self.sequences.get_mut(span.seq as usize) else {
            return Err(Code::INVALID);
        };
        if sequence.len() != span.start as usize {
            return Err(Code::BAD_POSITION);
        }
        let Some(kept) = self.free.len().checked_sub(span.len as usize) else {
            return Err(Code::NO_KV_SPACE);
        };
        for cell in self.free.drain(kept..).rev() {
            self.references[cell as usize] = 1;
            sequence.push(cell);
        }
        Ok(())
    }

    /// Shares the first `len` positions of `src` with the empty sequence `dst`.
    ///
    /// # Errors
    /// `INVALID` if `dst` is not empty or does not exist, or `src` is shorter than `len`. An error changes nothing.
    pub fn fork(&mut self, src: u32, dst: u32, len: u32) -> Result<()> {
        if dst as usize >= self.sequences.len() || self.len(dst) != 0 || self.len(src) < len {
            return Err(Error::invalid(format!(
                "cannot fork {len} positions of sequence {src} (length {}) to sequence {dst} (length {})",
                self.len(src),
                self.len(dst),
            )));
        }
        let mut shared = std::mem::take(&mut self.sequences[dst as usize]);
        shared.extend_from_slice(&self.cells(src)[..len as usize]);
        for &cell in &shared {
            self.references[cell as usize] += 1;
        }
        self.sequences[dst as usize] = shared;
        Ok(())
    }

    /// Drops the positions of `seq` from `len` on. Does nothing if `seq` is not longer or does not exist.
    pub fn truncate(&mut self, seq: u32, len: u32) {
        let Some(sequence) = self.sequences.get_mut(seq as usize) else {
            return;
        };
        while sequence.len() > len as usize {
            let Some(cell) = sequence.pop() else { return };
            let references = &mut self.references[cell as usize];
            *references -= 1;
            if *references == 0 {
                self.free.push(cell);
            }
        }
    }

    /// Drops a sequence: its length becomes 0.
    pub fn free(&mut self, seq: u32) {
        self.truncate(seq, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(seq: u32, start: u32, len: u32) -> Span {
        Span {
            seq,
            start,
            len,
            ..Span::default()
        }
    }

    #[test]
    fn shared_cells_count_once_and_are_freed_with_their_last_holder() {
        let mut ledger = KvLedger::new(3, 10);
        ledger.append(&span(0, 0, 6)).unwrap();
        ledger.fork(0, 1, 4).unwrap();
        ledger.append(&span(1, 4, 2)).unwrap();
        assert_eq!(ledger.stats().used_tokens, 8);
        assert_eq!(ledger.cells(0)[..4], ledger.cells(1)[..4]);

        ledger.free(0);
        assert_eq!(ledger.stats().used_tokens, 6);
        ledger.truncate(1, 4);
        assert_eq!(ledger.len(1), 4);
        ledger.free(1);
        assert!(ledger.is_empty());
    }

    #[test]
    fn a_refused_span_changes_nothing() {
        let mut ledger = KvLedger::new(1, 4);
        ledger.append(&span(0, 0, 3)).unwrap();
        assert_eq!(ledger.append(&span(0, 3, 2)), Err(Code::NO_KV_SPACE));
        assert_eq!(ledger.append(&span(0, 2, 1)), Err(Code::BAD_POSITION));
        assert_eq!(ledger.append(&span(1, 0, 1)), Err(Code::INVALID));
        assert_eq!((ledger.len(0), ledger.free_tokens()), (3, 1));
        assert!(ledger.fork(0, 0, 1).is_err());
        assert!(ledger.fork(0, 7, 1).is_err());
    }
}
