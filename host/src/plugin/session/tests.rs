//! Wrong answers of a plugin's session.

use abi_stable::{
    sabi_trait::TD_Opaque,
    std_types::{
        RResult::{self, ROk},
        RSlice, RSliceMut,
    },
};
use tenon_plugin_api::{
    Span,
    abi::{ErrorRecord, Reserved, SessionInfoRecord, SessionObject, SessionObject_TO},
};

use super::*;

/// A plugin's session that exchanges the first two answers.
struct Exchanges;

type Outcome = RResult<(), ErrorRecord>;

impl SessionObject for Exchanges {
    fn info(&self) -> SessionInfoRecord {
        granted().into()
    }
    fn forward(&mut self, _batch: Batch<'_>, _out: RSliceMut<'_, SpanOut>) -> Outcome {
        ROk(())
    }
    fn sample(
        &mut self,
        _requests: RSlice<'_, SampleRequest<'_>>,
        mut out: RSliceMut<'_, Sampled<'_>>,
    ) -> Outcome {
        out.as_mut_slice().swap(0, 1);
        ROk(())
    }
    fn read_logits(&mut self, _row: u32, _out: RSliceMut<'_, f32>) -> Outcome {
        ROk(())
    }
    fn fork(&mut self, _src: u32, _dst: u32, _len: u32) -> Outcome {
        ROk(())
    }
    fn truncate(&mut self, _seq: u32, _len: u32) -> Outcome {
        ROk(())
    }
    fn free(&mut self, _seq: u32) {}
    fn kv_stats(&mut self) -> KvStats {
        KvStats::default()
    }
    fn set_threads(&mut self, _plan: ThreadPlan) -> Outcome {
        ROk(())
    }
}

fn granted() -> SessionInfo {
    let mut info = SessionInfo::default();
    (info.max_sequences, info.kv_tokens, info.context_length) = (1, 64, 64);
    (info.max_batch_tokens, info.max_rows) = (64, 64);
    info
}

/// A session whose `sample` fails, because the plugin exchanges the answers to the first two requests.
pub fn exchanging_session() -> Session {
    let object = SessionObject_TO::from_value(Exchanges, TD_Opaque);
    Session::new(object, &ModelInfo::new("test", 64, 260)).unwrap()
}

#[test]
fn exchanged_answers_are_the_plugins_fault() {
    let mut session = exchanging_session();
    let mut tops = [[TokenLogprob::default()]; 2];
    let mut out = tops.each_mut().map(|top| Sampled::new(top));
    let error = session.sample(&[0, 1].map(SampleRequest::new), &mut out);
    let error = error.unwrap_err();
    assert!(error.message.contains("exchanged the answers"), "{error}");
}

/// The statuses of three spans with 1, 3 and 2 rows after a plugin has said this.
fn checked(change: impl FnOnce(&mut [SpanOut; 3])) -> [Code; 3] {
    let spans = [1, 3, 2].map(|rows| Span {
        rows,
        ..Span::default()
    });
    let mut out = [0, 1, 4].map(|first_row| SpanOut {
        first_row,
        ..SpanOut::default()
    });
    change(&mut out);
    check_spans(&Batch::new(&[], &spans), &mut out);
    out.map(|out| out.status)
}

#[test]
fn rows_of_another_span_fail_their_span_only() {
    const BAD: Code = Code::INTERNAL;
    const FULL: Code = Code::NO_KV_SPACE;
    assert_eq!(checked(|_| {}), [Code::OK; 3]);
    assert_eq!(checked(|out| out.swap(0, 2)), [BAD, Code::OK, BAD]);
    assert_eq!(
        checked(|out| out[1].first_row = 0),
        [Code::OK, BAD, Code::OK]
    );
    assert_eq!(
        checked(|out| out[2].first_row = 5),
        [Code::OK, Code::OK, BAD]
    );
    // A span that was not computed has no rows.
    let failed = |out: &mut [SpanOut; 3]| {
        out[0].status = FULL;
        (out[1].first_row, out[2].first_row) = (0, 3);
    };
    assert_eq!(checked(failed), [FULL, Code::OK, Code::OK]);
    assert_eq!(checked(|out| out[0].status = FULL), [FULL, BAD, BAD]);
}

/// Words of which a later version knows one.
fn later_words() -> Reserved<2> {
    // SAFETY: the type is transparent over these words.
    unsafe { std::mem::transmute::<[u64; 2], Reserved<2>>([1, 0]) }
}

#[test]
fn what_a_later_plugin_says_of_a_span_fails_it() {
    let status = checked(|out| out[1].reserved = later_words());
    assert_eq!(status, [Code::OK, Code::INTERNAL, Code::OK]);
}

#[test]
fn what_a_later_plugin_says_of_an_answer_fails_it() {
    let mut out = [(); 2].map(|()| Sampled::new(&mut []));
    out[1].reserved = later_words();
    check_answers(&mut out, 260);
    assert_eq!(out.map(|out| out.status), [Code::OK, Code::INTERNAL]);
}

#[test]
fn unknown_tokens_fail_their_request_only() {
    let known = TokenLogprob::default();
    let unknown = TokenLogprob {
        token: 260,
        ..known
    };
    let mut tops = [[known], [known], [unknown], [unknown]];
    let mut out = tops.each_mut().map(|top| Sampled::new(top));
    out[1].token = 260;
    out[2].top_len = 1;
    out[3].status = Code::BAD_LOGITS;
    check_answers(&mut out, 260);
    let status = out.map(|out| out.status);
    let expected = [Code::OK, Code::INTERNAL, Code::INTERNAL, Code::BAD_LOGITS];
    assert_eq!(status, expected);
}

#[test]
fn a_session_without_room_is_refused() {
    let mut info = granted();
    info.max_rows = 0;
    let error = check_info(&info).unwrap_err();
    assert!(error.message.contains("no rows of logits"), "{error}");
}
