//! A session that reads the logits of every position.

use tenon::plugin::Session;
use tenon_plugin_api::{Batch, Code, SessionArgs, Span, SpanOut};

use crate::LoadedModel;

/// Logits of one position: `[logits_width]`.
pub type Row = Vec<f32>;

/// Puts tokens through a model and reads all rows of logits.
pub struct RowReader {
    session: Session,
    width: usize,
    /// Number of stored tokens of each sequence.
    lengths: Vec<u32>,
}

impl RowReader {
    /// A session with an empty KV pool for this many sequences.
    pub fn new(loaded: &LoadedModel, sequences: u32) -> Self {
        let args = SessionArgs {
            max_sequences: sequences,
            kv_tokens: 256 * sequences,
            context_length: 256,
            max_batch_tokens: 256,
            threads: 1,
            ..SessionArgs::default()
        };
        let session = loaded.model.session(&args).expect("a session");
        assert!(session.info().max_rows >= 256, "{:?}", session.info());
        Self {
            session,
            width: loaded.model.info().logits_width as usize,
            lengths: vec![0; sequences as usize],
        }
    }

    /// The session, for other calls.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Appends tokens to sequences in one batch, and reads the rows of all positions. The rows of each part are returned
    /// separately.
    pub fn append(&mut self, parts: &[(u32, &[u32])]) -> Vec<Vec<Row>> {
        let mut tokens = Vec::new();
        let mut spans = Vec::new();
        for &(seq, part) in parts {
            let length = &mut self.lengths[seq as usize];
            spans.push(Span {
                seq,
                start: *length,
                len: part.len() as u32,
                rows: part.len() as u32,
                ..Span::default()
            });
            *length += part.len() as u32;
            tokens.extend_from_slice(part);
        }
        let mut out = vec![SpanOut::default(); spans.len()];
        let batch = Batch::new(&tokens, &spans);
        self.session.forward(&batch, &mut out).expect("a forward");
        let rows = spans.iter().zip(&out).map(|(span, out)| {
            assert_eq!(out.status, Code::OK);
            (out.first_row..out.first_row + span.rows).collect::<Vec<_>>()
        });
        let rows: Vec<_> = rows.collect();
        let mut read = |row| {
            let mut logits = vec![0.0; self.width];
            self.session.read_logits(row, &mut logits).expect("logits");
            logits
        };
        rows.into_iter()
            .map(|rows| rows.into_iter().map(&mut read).collect())
            .collect()
    }

    /// Like [`append`](Self::append), for one sequence.
    pub fn append_one(&mut self, seq: u32, tokens: &[u32]) -> Vec<Row> {
        self.append(&[(seq, tokens)]).remove(0)
    }

    pub fn fork(&mut self, src: u32, dst: u32, len: u32) {
        self.session.fork(src, dst, len).expect("a fork");
        self.lengths[dst as usize] = len;
    }

    pub fn truncate(&mut self, seq: u32, len: u32) {
        self.session.truncate(seq, len).expect("a truncation");
        self.lengths[seq as usize] = len;
    }

    pub fn free(&mut self, seq: u32) {
        self.session.free(seq);
        self.lengths[seq as usize] = 0;
    }
}

/// The largest difference of two logits at the same place.
pub fn largest_difference(a: &[Row], b: &[Row]) -> f32 {
    assert_eq!(a.len(), b.len());
    let differences = a
        .iter()
        .flatten()
        .zip(b.iter().flatten())
        .map(|(a, b)| (a - b).abs());
    // A NaN counts as a difference.
    differences.fold(0.0, |largest, difference| {
        if difference <= largest {
            largest
        } else {
            difference
        }
    })
}
