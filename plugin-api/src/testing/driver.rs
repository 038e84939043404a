//! Calls a session as the server does.

use std::iter::zip;

use crate::{
    Batch, Code, CpuSampler, Error, Model, ModelInfo, Result, SampleParams, SampleRequest, Sampled,
    Session, SessionArgs, SessionInfo, Span, SpanOut,
};

/// Logits of one position: `[logits_width]`.
pub type Row = Vec<f32>;

/// Tokens to append to one sequence in a step.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The sequence.
    pub seq: u32,
    /// Its next tokens.
    pub tokens: &'a [u32],
    /// Number of trailing positions whose logits are wanted.
    pub rows: u32,
}

impl<'a> Part<'a> {
    /// Wants the logits of the last position.
    pub fn new(seq: u32, tokens: &'a [u32]) -> Self {
        Self {
            seq,
            tokens,
            rows: 1,
        }
    }

    /// Wants the logits of every position.
    pub fn with_all_rows(seq: u32, tokens: &'a [u32]) -> Self {
        let rows = tokens.len() as u32;
        Self { seq, tokens, rows }
    }
}

/// A session, driven as the server drives it. It knows the length of each sequence.
pub struct Driver {
    session: Box<dyn Session>,
    info: SessionInfo,
    model: ModelInfo,
    sampler: CpuSampler,
    /// Number of stored tokens of each sequence.
    lengths: Vec<u32>,
}

impl Driver {
    /// Makes a session of the model.
    ///
    /// # Errors
    /// Those of [`Model::session`].
    pub fn new(model: &dyn Model, args: &SessionArgs) -> Result<Self> {
        Ok(Self::over(model.session(args)?, model.info()))
    }

    /// Drives a session of the model with these facts.
    pub fn over(session: Box<dyn Session>, model: ModelInfo) -> Self {
        let info = session.info();
        Self {
            session,
            info,
            sampler: CpuSampler::for_tokens(model.vocab_size),
            lengths: vec![0; info.max_sequences as usize],
            model,
        }
    }

    /// What the session grants.
    pub fn info(&self) -> &SessionInfo {
        &self.info
    }

    /// The session itself, for calls that the driver does not make. The driver does not learn of changes to sequences.
    pub fn session(&mut self) -> &mut dyn Session {
        &mut *self.session
    }

    /// Stored length of a sequence; 0 for ids that do not exist.
    pub fn stored(&self, seq: u32) -> u32 {
        self.lengths.get(seq as usize).copied().unwrap_or_default()
    }

    /// Appends tokens to sequences in one batch. Returns the rows of each part.
    ///
    /// # Errors
    /// The error of the call, or of the first part that was refused. Parts that were not refused are stored.
    pub fn append(&mut self, parts: &[Part<'_>]) -> Result<Vec<Vec<Row>>> {
        self.append_each(parts)?.into_iter().collect()
    }

    /// Like [`append`](Self::append), with an outcome for each part.
    ///
    /// # Errors
    /// The error of the call.
    pub fn append_each(&mut self, parts: &[Part<'_>]) -> Result<Vec<Result<Vec<Row>>>> {
        let outs = self.forward(parts)?;
        let rows = zip(parts, outs).map(|(part, out)| match out.status {
            Code::OK => self.rows(out.first_row, part.rows),
            code => Err(code.into()),
        });
        Ok(rows.collect())
    }

    /// Appends a prompt to a sequence, in chunks that fit into a batch. Returns the row of its last position.
    ///
    /// # Errors
    /// The error of the first chunk that was refused.
    pub fn prompt(&mut self, seq: u32, tokens: &[u32]) -> Result<Row> {
        let chunk = self.info.max_batch_tokens as usize;
        let mut row = Row::new();
        for tokens in tokens.chunks(chunk.max(1)) {
            let mut rows = self.append(&[Part::new(seq, tokens)])?.concat();
            row = rows.pop().unwrap_or_default();
        }
        Ok(row)
    }

    /// Picks one token for each request from the rows of the last step, which are numbered in the order of its parts.
    ///
    /// # Errors
    /// The error of the call, or of the first request that failed.
    pub fn sample(&mut self, requests: &[SampleRequest<'_>]) -> Result<Vec<u32>> {
        let mut sampled: Vec<_> = requests.iter().map(|_| Sampled::new(&mut [])).collect();
        self.session
            .sample(&mut self.sampler, requests, &mut sampled)?;
        let tokens = sampled.iter().map(|sampled| match sampled.status {
            Code::OK => Ok(sampled.token),
            code => Err(code.into()),
        });
        tokens.collect()
    }

    /// Answers prompts as the server does, all at once: a step has the next token of each sequence that is being answered, and
    /// then prompts in chunks. An answer ends after `max_tokens` tokens, or with a token that ends a generation. The same `seed`
    /// gives the same answers. Every sequence is empty before and after.
    ///
    /// # Errors
    /// `INVALID` for an empty prompt, and for more prompts than the session has sequences; those of the session.
    pub fn generate(
        &mut self,
        prompts: &[&[u32]],
        params: &SampleParams,
        seed: u64,
        max_tokens: usize,
    ) -> Result<Vec<Vec<u32>>> {
        if prompts.len() > self.lengths.len() || prompts.iter().any(|prompt| prompt.is_empty()) {
            let message = "each prompt needs a sequence of its own and at least one token";
            return Err(Error::invalid(message));
        }
        (0..self.info.max_sequences).for_each(|seq| self.free(seq));
        let mut answers: Vec<_> = prompts.iter().map(|prompt| Answer::new(prompt)).collect();
        while max_tokens > 0 && !answers.iter().all(|answer| answer.done) {
            self.step(&mut answers, params, seed)?;
            for answer in &mut answers {
                let last = answer.tokens.last();
                let ended = last.is_some_and(|last| self.model.eos.contains(last));
                answer.done = ended || answer.tokens.len() >= max_tokens;
            }
        }
        (0..self.info.max_sequences).for_each(|seq| self.free(seq));
        Ok(answers.into_iter().map(|answer| answer.tokens).collect())
    }

    /// Shares the first `len` positions of `src` with the empty sequence `dst`.
    ///
    /// # Errors
    /// Those of [`Session::fork`].
    pub fn fork(&mut self, src: u32, dst: u32, len: u32) -> Result<()> {
        self.session.fork(src, dst, len)?;
        self.note(dst, len);
        Ok(())
    }

    /// Drops the positions of `seq` from `len` on.
    ///
    /// # Errors
    /// Those of [`Session::truncate`].
    pub fn truncate(&mut self, seq: u32, len: u32) -> Result<()> {
        self.session.truncate(seq, len)?;
        self.note(seq, len.min(self.stored(seq)));
        Ok(())
    }

    /// Drops a sequence.
    pub fn free(&mut self, seq: u32) {
        self.session.free(seq);
        self.note(seq, 0);
    }

    fn note(&mut self, seq: u32, len: u32) {
        if let Some(length) = self.lengths.get_mut(seq as usize) {
            *length = len;
        }
    }

    /// Puts the parts through the model. As in the server, the rows must be numbered in the order of the parts.
    fn forward(&mut self, parts: &[Part<'_>]) -> Result<Vec<SpanOut>> {
        let spans: Vec<_> = parts.iter().map(|part| self.span(part)).collect();
        let tokens: Vec<_> = parts.iter().flat_map(|part| part.tokens).copied().collect();
        let mut outs = vec![SpanOut::default(); spans.len()];
        let batch = Batch::new(&tokens, &spans);
        self.session.forward(&batch, &mut outs)?;
        let mut next_row = 0;
        let computed = zip(&spans, &outs).filter(|(_, out)| out.status == Code::OK);
        for (span, out) in computed {
            if span.rows > 0 && out.first_row != next_row {
                let message = format!("a span has row {} instead of {next_row}", out.first_row);
                return Err(Error::new(Code::INTERNAL, message));
            }
            next_row += span.rows;
            self.note(span.seq, span.start + span.len);
        }
        Ok(outs)
    }

    fn span(&self, part: &Part<'_>) -> Span {
        Span {
            seq: part.seq,
            start: self.stored(part.seq),
            len: part.tokens.len() as u32,
            rows: part.rows,
            ..Span::default()
        }
    }

    fn rows(&mut self, first: u32, count: u32) -> Result<Vec<Row>> {
        let rows = first..first + count;
        let read = rows.map(|row| self.session.logits(row).map(<[f32]>::to_vec));
        read.collect()
    }

    /// One step: the sequences that are being answered first, then prompts, as far as they fit into the batch.
    fn step(&mut self, answers: &mut [Answer<'_>], params: &SampleParams, seed: u64) -> Result<()> {
        let mut order: Vec<u32> = (0..answers.len() as u32).collect();
        order.sort_by_key(|&seq| answers[seq as usize].tokens.is_empty());
        let (mut tokens, mut rows) = (self.info.max_batch_tokens, self.info.max_rows);
        let mut parts = Vec::new();
        for seq in order {
            let left = answers[seq as usize].left(self.stored(seq));
            let chunk = &left[..left.len().min(tokens as usize)];
            let ends = chunk.len() == left.len();
            if !chunk.is_empty() && (!ends || rows > 0) {
                tokens -= chunk.len() as u32;
                rows -= u32::from(ends);
                let rows = ends.into();
                parts.push((seq, chunk.to_vec(), rows));
            }
        }
        let borrowed = parts.iter().map(|(seq, tokens, rows)| Part {
            seq: *seq,
            tokens,
            rows: *rows,
        });
        let outs = self.forward(&borrowed.collect::<Vec<_>>())?;
        let refused = outs.iter().find(|out| out.status != Code::OK);
        refused.map_or(Ok(()), |out| Err(Error::from(out.status)))?;
        let sampled = parts.iter().filter(|(.., rows)| *rows > 0);
        let sampled: Vec<u32> = sampled.map(|(seq, ..)| *seq).collect();
        let requests = zip(0.., &sampled).map(|(row, &seq)| {
            let mut request = SampleRequest::new(row);
            request.params = *params;
            request.draw = draw(seed, seq, self.stored(seq));
            request
        });
        let chosen = self.sample(&requests.collect::<Vec<_>>())?;
        for (seq, token) in zip(sampled, chosen) {
            answers[seq as usize].tokens.push(token);
        }
        Ok(())
    }
}

/// A prompt and the answer to it so far.
struct Answer<'a> {
    prompt: &'a [u32],
    tokens: Vec<u32>,
    done: bool,
}

impl<'a> Answer<'a> {
    fn new(prompt: &'a [u32]) -> Self {
        Self {
            prompt,
            tokens: Vec::new(),
            done: false,
        }
    }

    /// The tokens that are not stored yet.
    fn left(&self, stored: u32) -> &[u32] {
        let (stored, prompt) = (stored as usize, self.prompt.len());
        match self.done {
            true => &[],
            false if stored < prompt => &self.prompt[stored..],
            false => &self.tokens[stored - prompt..],
        }
    }
}

/// The random bits of a position: a function of the seed, the sequence and the position alone. (The finalizer of SplitMix64.)
fn draw(seed: u64, seq: u32, position: u32) -> u64 {
    let mut bits = seed ^ (u64::from(seq) << 32 | u64::from(position));
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
