//! Room in structs for what later versions add.

use abi_stable::StableAbi;

/// Words that the reader must understand. Zero means that a later field is absent. A reader refuses a struct with a word that
/// is not zero and that it does not know: who ignored it would compute something else than was asked for.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved<const N: usize>([u64; N]);

impl<const N: usize> Reserved<N> {
    /// Whether all words are zero, so that this version knows all that the struct says.
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }
}

impl<const N: usize> Default for Reserved<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

/// Words that a reader may ignore if it does not know them. Zero means that a later hint is absent.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hints<const N: usize>([u64; N]);

impl<const N: usize> Default for Hints<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

#[cfg(test)]
mod tests {
    use super::Reserved;
    use crate::{Batch, EncodeFlags, SampleRequest, Sampled, Span, SpanOut, ThreadPlan};

    /// A word that some later version has a meaning for.
    const LATER: Reserved<2> = Reserved([0, 1]);

    #[test]
    fn a_word_or_flag_of_a_later_version_is_not_understood() {
        let span = Span::default();
        let understood = |spans: &[Span]| Batch::new(&[], spans).is_understood();
        assert!(understood(&[span, span]));
        assert!(!understood(&[span, Span { flags: 1, ..span }]));
        let reserved = LATER;
        assert!(!understood(&[Span { reserved, ..span }, span]));

        let out = SpanOut::default();
        assert!(out.is_understood());
        assert!(!SpanOut { reserved, ..out }.is_understood());

        let plan = ThreadPlan::default();
        assert!(plan.is_understood());
        assert!(!ThreadPlan { reserved, ..plan }.is_understood());

        let flags = EncodeFlags::ADD_SPECIAL | EncodeFlags::CONTINUATION;
        assert!(flags.is_understood());
        assert!(!(flags | EncodeFlags(1 << 9)).is_understood());
    }

    #[test]
    fn a_request_with_a_word_of_a_later_version_is_not_understood() {
        let mut request = SampleRequest::new(0);
        assert!(request.is_understood());
        request.params.reserved = Reserved([0, 0, 0, 1]);
        assert!(!request.is_understood());

        let mut sampled = Sampled::new(&mut []);
        assert!(sampled.is_understood());
        sampled.reserved = LATER;
        assert!(!sampled.is_understood());
    }
}
