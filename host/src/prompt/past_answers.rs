//! Gives the answers in a prompt the tokens that the model wrote them with.
//!
//! A sampled answer does not always have the tokens that its text encodes to: `Hel` `lo` reads like `Hello`. When the
//! conversation goes on, the client sends the text, and from the first such place on no cached prefix would match. So the
//! last sequences are remembered, and a prompt whose text begins like one of them gets its tokens.
//!
//! This is exact if a control token follows. Tokenizers split the text there whatever comes before, so the text after it
//! has the same tokens either way. Control tokens must be equal themselves, because text may only look like one.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tenon_plugin_api::{TokenKind, Vocabulary};

/// The last sequences of prompt and answer, the latest one last.
#[derive(Debug, Default)]
pub struct PastAnswers(Mutex<VecDeque<Vec<u32>>>);

/// Most sequences to remember: about as many as the conversations that a server of this size has at a time.
const MOST: usize = 64;

impl PastAnswers {
    /// Replaces the beginning of a prompt by the tokens of the remembered sequence that it follows furthest.
    pub fn as_written(&self, prompt: Vec<u32>, vocabulary: &Vocabulary) -> Vec<u32> {
        let past = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seams = past
            .iter()
            .map(|written| (written, Seam::find(written, &prompt, vocabulary)));
        // If two reach equally far, the later one is taken.
        let furthest = seams.max_by_key(|(_, seam)| seam.in_prompt);
        match furthest {
            Some((written, seam)) if seam.is_rewritten => {
                [&written[..seam.in_written], &prompt[seam.in_prompt..]].concat()
            }
            _ => prompt,
        }
    }

    fn remember(&self, sequence: Vec<u32>) {
        let mut past = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        past.retain(|earlier| !sequence.starts_with(earlier));
        past.push_back(sequence);
        if past.len() > MOST {
            past.pop_front();
        }
    }
}

/// Records an answer while it is generated. The answer is remembered when the recorder is dropped.
#[derive(Debug)]
pub struct Recorder {
    past: Arc<PastAnswers>,
    sequence: Vec<u32>,
}

impl Recorder {
    /// Records an answer to this prompt.
    pub fn new(past: Arc<PastAnswers>, prompt: Vec<u32>) -> Self {
        Self {
            past,
            sequence: prompt,
        }
    }

    /// Records the next token of the answer.
    pub fn push(&mut self, token: u32) {
        self.sequence.push(token);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.past.remember(std::mem::take(&mut self.sequence));
    }
}

/// The end of the part in which a prompt reads like a remembered sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seam {
    in_written: usize,
    in_prompt: usize,
    /// Whether the tokens before this point differ.
    is_rewritten: bool,
}

impl Seam {
    fn find(written: &[u32], prompt: &[u32], vocabulary: &Vocabulary) -> Self {
        let common = written
            .iter()
            .zip(prompt)
            .take_while(|(a, b)| a == b)
            .count();
        let mut seam = Self {
            in_written: common,
            in_prompt: common,
            is_rewritten: false,
        };
        let (mut left, mut right) = (Side::new(written, common), Side::new(prompt, common));
        loop {
            if left.bytes.is_empty() && right.bytes.is_empty() {
                let next = right.control(vocabulary);
                if next.is_some() && right.at > common {
                    seam = Self {
                        in_written: left.at,
                        in_prompt: right.at,
                        is_rewritten: true,
                    };
                }
                if next.is_some() && next == left.control(vocabulary) {
                    left.at += 1;
                    right.at += 1;
                    continue;
                }
            }
            if !(left.fill(vocabulary) && right.fill(vocabulary) && left.agree(&mut right)) {
                return seam;
            }
        }
    }
}

/// A position in the text of some tokens.
struct Side<'a> {
    tokens: &'a [u32],
    /// Index of the next token.
    at: usize,
    /// Unread bytes of the token before.
    bytes: &'a [u8],
}

impl<'a> Side<'a> {
    fn new(tokens: &'a [u32], at: usize) -> Self {
        Self {
            tokens,
            at,
            bytes: &[],
        }
    }

    /// The next token, if it is a control token.
    fn control(&self, vocabulary: &Vocabulary) -> Option<u32> {
        let next = self.tokens.get(self.at).copied();
        let is_text = |kind| !matches!(kind, TokenKind::CONTROL | TokenKind::UNKNOWN);
        next.filter(|&token| !is_text(vocabulary.kind(token)))
    }

    /// Loads the next token's bytes if none are left. False if no text follows.
    fn fill(&mut self, vocabulary: &'a Vocabulary) -> bool {
        while self.bytes.is_empty() {
            let Some(&token) = self.tokens.get(self.at) else {
                return false;
            };
            if self.control(vocabulary).is_some() {
                return false;
            }
            self.bytes = vocabulary.bytes(token);
            self.at += 1;
        }
        true
    }

    /// Skips the bytes that both sides have. False if they differ.
    fn agree(&mut self, other: &mut Self) -> bool {
        let len = self.bytes.len().min(other.bytes.len());
        let ((mine, rest), (theirs, others)) =
            (self.bytes.split_at(len), other.bytes.split_at(len));
        (self.bytes, other.bytes) = (rest, others);
        mine == theirs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 9] = ["<user>", "<end>", "He", "l", "lo", "Hello", "!", "?", "<"];
    const USER: u32 = 0;
    const END: u32 = 1;
    const HE: u32 = 2;
    const L: u32 = 3;
    const LO: u32 = 4;
    const HELLO: u32 = 5;
    const OUT: u32 = 6;
    const ASK: u32 = 7;

    fn vocabulary() -> Vocabulary {
        let mut vocabulary = Vocabulary::default();
        for (text, token) in TEXTS.iter().zip(0..) {
            let kind = if token <= END {
                TokenKind::CONTROL
            } else {
                TokenKind::NORMAL
            };
            vocabulary.push(text.as_bytes(), kind);
        }
        vocabulary
    }

    #[track_caller]
    fn check(written: &[&[u32]], prompt: &[u32], expected: &[u32]) {
        let past = Arc::new(PastAnswers::default());
        for sequence in written {
            let mut recorder = Recorder::new(past.clone(), sequence[..1].to_vec());
            sequence[1..].iter().for_each(|&token| recorder.push(token));
        }
        assert_eq!(past.as_written(prompt.to_vec(), &vocabulary()), expected);
    }

    #[test]
    fn a_prompt_gets_the_tokens_of_the_answer_that_it_goes_on_with() {
        let written: &[u32] = &[USER, ASK, END, HE, L, LO];
        check(
            &[written],
            &[USER, ASK, END, HELLO, END, USER, OUT],
            &[USER, ASK, END, HE, L, LO, END, USER, OUT],
        );
        // The same holds if the answer went on after the part that the client kept.
        let longer = [written, &[OUT, OUT]].concat();
        check(
            &[&longer],
            &[USER, ASK, END, HELLO, OUT, END],
            &[USER, ASK, END, HE, L, LO, OUT, END],
        );
        // The same holds in later turns.
        let turns = [written, &[END, USER, OUT, END, HELLO]].concat();
        check(
            &[&turns],
            &[
                USER, ASK, END, HELLO, END, USER, OUT, END, HE, L, LO, END, ASK,
            ],
            &[
                USER, ASK, END, HE, L, LO, END, USER, OUT, END, HELLO, END, ASK,
            ],
        );
    }

    #[test]
    fn another_text_stays_as_it_is() {
        let written: &[u32] = &[USER, ASK, END, HE, L, LO, OUT];
        for prompt in [
            &[USER, ASK, END, HELLO, ASK, END][..],
            // The seam is within a token, or no control token follows.
            &[USER, ASK, END, HE, END],
            &[USER, ASK, END, HELLO],
            &[USER, ASK, END, HELLO, OUT, ASK],
            &[ASK],
            &[],
        ] {
            check(&[written], prompt, prompt);
        }
        check(&[], &[HELLO, END], &[HELLO, END]);
    }

    #[test]
    fn the_sequence_that_reaches_furthest_is_taken() {
        check(
            &[&[USER, HE, L, LO, END, OUT], &[USER, HELLO, END, OUT, ASK]],
            &[USER, HELLO, END, OUT, ASK, END],
            &[USER, HELLO, END, OUT, ASK, END],
        );
    }

    #[test]
    fn what_goes_on_replaces_its_beginning_and_the_oldest_goes() {
        let past = PastAnswers::default();
        past.remember(vec![1]);
        past.remember(vec![1, 2]);
        assert_eq!(past.0.lock().unwrap().len(), 1);
        (0..100).for_each(|token| past.remember(vec![7, token]));
        let past = past.0.lock().unwrap();
        assert_eq!((past.len(), &past[0]), (MOST, &vec![7, 36]));
    }
}
