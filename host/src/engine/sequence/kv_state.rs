/// Fewest tokens between a checkpoint and the tokens that are stored before it. A prompt's last checkpoint may be nearer.
const CHECKPOINT_TOKENS: u32 = 32;

/// The part of a sequence whose KV the session has stored.
pub struct KvState {
    /// The sequence's id in the session. Valid only while the sequence runs.
    pub seq: u32,
    /// How many tokens have their KV stored.
    pub computed: u32,
    /// How many times the backend lost the sequence, so that it was computed again.
    pub losses: u32,
    /// Length from which on the sequence decodes. The tokens known at its start are prefilled like a prompt.
    prefill_len: u32,
    /// Lengths of the beginnings that are still to be cached by themselves, longer ones first.
    checkpoints: Vec<u32>,
}

impl KvState {
    /// The state of a sequence that has no KV. `checkpoints` are the lengths of the beginnings that are to be cached by themselves.
    pub fn new(prompt_len: u32, mut checkpoints: Vec<u32>) -> Self {
        checkpoints.reverse();
        Self {
            seq: u32::MAX,
            computed: 0,
            losses: 0,
            prefill_len: prompt_len,
            checkpoints,
        }
    }

    /// A sequence of `len` tokens starts under this id, which already has the KV of the first `stored` ones.
    pub fn start(&mut self, seq: u32, stored: u32, len: u32) {
        self.seq = seq;
        self.computed = stored;
        self.prefill_len = len;
        let last = self.checkpoints.first().copied();
        self.checkpoints
            .retain(|&len| len >= stored + CHECKPOINT_TOKENS || Some(len) == last);
    }

    /// Whether the prefill is done.
    pub fn is_decoding(&self) -> bool {
        self.computed + 1 >= self.prefill_len
    }

    /// How many tokens there are up to the next checkpoint. None if there is none.
    pub fn to_checkpoint(&self) -> Option<u32> {
        let &end = self.checkpoints.last()?;
        (end > self.computed).then(|| end - self.computed)
    }

    /// Whether the stored tokens are exactly a beginning that is to be cached by itself. True only once for each.
    pub fn take_checkpoint(&mut self) -> bool {
        let computed = self.computed;
        let mut reached = None;
        while let Some(end) = self.checkpoints.pop_if(|end| *end <= computed) {
            reached = Some(end);
        }
        computed > 0 && reached == Some(computed)
    }

    /// Length of the longest beginning of at most `len` tokens that is still to be cached by itself; 0 if there is none.
    pub fn next_checkpoint_within(&self, len: u32) -> u32 {
        let within = self.checkpoints.iter().find(|&&end| end <= len);
        within.copied().unwrap_or(0)
    }
}
