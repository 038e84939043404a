//! Tests of calls through the vtables that no example makes.

use super::*;
use crate::{
    Descriptor, EmbedderInfo, KvLedger, Meta, ModelInfo, Span, Support, TokenKind, Vocabulary,
    abi::{HostObject, HostObject_TO, ProgressObject, ProgressObject_TO, RString, Reserved},
};

/// A backend whose objects panic in each call that the model's path names.
struct Told;

#[derive(Clone)]
struct ToldModel(String);

struct ToldSession(String, KvLedger);

impl ToldModel {
    fn call(&self, name: &str) {
        assert!(!self.0.contains(name), "told to panic in {name}");
    }
}

impl Backend for Told {
    fn descriptor() -> Descriptor {
        Descriptor::new("org.tenon.test", "Test", "1.0.0")
    }
    fn init(_host: Host, _options: &str) -> Result<Self> {
        Ok(Self)
    }
    fn supports(&self, _path: &Path) -> Support {
        Support::yes(1, "always")
    }
    fn load(&self, args: &LoadArgs, _progress: &Progress) -> Result<Box<dyn Model>> {
        let told = args.path.to_string_lossy().into_owned();
        Ok(Box::new(ToldModel(told)))
    }
}

impl Model for ToldModel {
    fn info(&self) -> ModelInfo {
        let mut info = ModelInfo::new("test", 64, 3);
        info.logits_width = 5;
        info
    }
    fn tokenizer(&self) -> Result<Box<dyn Tokenizer>> {
        Ok(Box::new(self.clone()))
    }
    fn session(&self, args: &SessionArgs) -> Result<Box<dyn Session>> {
        let ledger = KvLedger::new(args.max_sequences, 64);
        Ok(Box::new(ToldSession(self.0.clone(), ledger)))
    }
}

impl Tokenizer for ToldModel {
    fn encode(&self, _text: &str, _flags: EncodeFlags) -> Result<Vec<u32>> {
        self.call("encode");
        Ok(vec![0])
    }
    fn vocabulary(&self) -> Result<Vocabulary> {
        let mut vocabulary = Vocabulary::default();
        vocabulary.push(b"a", TokenKind::NORMAL);
        Ok(vocabulary)
    }
}

impl Session for ToldSession {
    fn info(&self) -> SessionInfo {
        ToldModel(self.0.clone()).call("info");
        SessionInfo::default()
    }
    fn forward(&mut self, batch: &Batch<'_>, out: &mut [SpanOut]) -> Result<()> {
        for (span, out) in batch.spans().iter().zip(out) {
            out.status = self.1.append(span).err().unwrap_or_default();
        }
        Ok(())
    }
    fn logits(&mut self, _row: u32) -> Result<&[f32]> {
        Ok(&[0.0, 1.0, 0.0, 9.0, f32::NAN])
    }
    fn set_threads(&mut self, _plan: ThreadPlan) -> Result<()> {
        Ok(())
    }
}

impl Drop for ToldSession {
    fn drop(&mut self) {
        ToldModel(self.0.clone()).call("drop");
    }
}

struct Nobody;

impl HostObject for Nobody {
    fn log(&self, _level: crate::LogLevel, _target: RStr<'_>, _message: RStr<'_>) {}
    fn threads(&self) -> u32 {
        1
    }
    fn cache_dir(&self) -> RString {
        RString::new()
    }
    fn extension(&self, _id: RStr<'_>) -> ROption<Extension> {
        ROption::RNone
    }
}

impl ProgressObject for Nobody {
    fn report(&self, _fraction: f32, _message: RStr<'_>) -> bool {
        true
    }
}

fn backend() -> BackendBox {
    let host = HostObject_TO::from_value(Nobody, TD_Opaque);
    module::<Told>().init()(host, "{}".into()).unwrap()
}

fn load(args: LoadArgs) -> RResult<ModelBox, ErrorRecord> {
    let progress = ProgressObject_TO::from_value(Nobody, TD_Opaque);
    backend().load(&args.into(), progress)
}

fn model(told: &str) -> ModelBox {
    let args = LoadArgs {
        path: told.into(),
        ..LoadArgs::default()
    };
    load(args).unwrap()
}

fn args() -> SessionArgs {
    SessionArgs {
        max_sequences: 1,
        ..SessionArgs::default()
    }
}

fn session(told: &str) -> RResult<SessionBox, ErrorRecord> {
    model(told).session(&args().into())
}

fn code<T>(result: RResult<T, ErrorRecord>) -> Code {
    result
        .into_result()
        .err()
        .map_or(Code::OK, |error| error.code)
}

#[test]
fn a_session_that_panics_in_its_first_call_and_in_its_drop_is_an_error() {
    assert_eq!(code(session("info drop")), Code::PANICKED);
    assert_eq!(code(session("drop")), Code::OK);
}

/// The payload of a panic. It panics in turn when it is dropped.
struct Payload;

impl Drop for Payload {
    fn drop(&mut self) {
        panic!("told to panic in the drop of a panic's payload");
    }
}

/// An embedder that panics in each call, and in its drop, with that payload.
struct Fragile;

impl Embedder for Fragile {
    fn info(&self) -> EmbedderInfo {
        std::panic::panic_any(Payload)
    }
    fn embed(&mut self, _: &[&[u32]], _: &Interrupt, _: &mut [f32]) -> Result<()> {
        std::panic::panic_any(Payload)
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        std::panic::panic_any(Payload)
    }
}

#[test]
fn a_panic_whose_payload_panics_when_it_is_dropped_stays_inside() {
    let embedder = || Exported::<dyn Embedder>::new(Box::new(Fragile));
    assert_eq!(code(embedder().info()), Code::PANICKED);
    drop(EmbedderObject_TO::from_value(embedder(), TD_Opaque));
    drop(embeddings(Box::new(Fragile)));
}

#[test]
fn what_a_later_host_asks_for_is_unsupported_and_changes_nothing() {
    let mut session = session("").unwrap();
    let span = Span {
        len: 1,
        ..Span::default()
    };
    let mut forward = |span: Span| {
        let mut out = [SpanOut::default()];
        let batch = Batch::new(&[0], std::slice::from_ref(&span));
        let result = session.forward(batch, (&mut out[..]).into());
        (code(result), out[0].status)
    };
    assert_eq!(forward(Span { flags: 1, ..span }).0, Code::UNSUPPORTED);
    // SAFETY: the type is transparent over these words.
    let reserved = unsafe { std::mem::transmute::<[u64; 2], Reserved<2>>([0, 1]) };
    assert_eq!(forward(Span { reserved, ..span }).0, Code::UNSUPPORTED);
    // The sequence is still empty.
    assert_eq!(forward(span), (Code::OK, Code::OK));

    let plan = ThreadPlan {
        reserved,
        ..ThreadPlan::default()
    };
    assert_eq!(code(session.set_threads(plan)), Code::UNSUPPORTED);
    assert_eq!(code(session.set_threads(ThreadPlan::default())), Code::OK);
    let tokenizer = model("").tokenizer().unwrap();
    let encode = |flags| code(tokenizer.encode("a".into(), EncodeFlags(flags)));
    assert_eq!((encode(7), encode(8)), (Code::OK, Code::UNSUPPORTED));
}

/// The struct with this word from its end set. Batches and requests end with four words of `Reserved` and two of `Hints`.
fn with_word<T: Copy>(mut value: T, from_end: usize) -> T {
    let words = size_of::<T>() / size_of::<u64>();
    // SAFETY: the word is one of those at the end, which may have any value.
    unsafe {
        (&raw mut value)
            .cast::<u64>()
            .add(words - from_end)
            .write(1);
    }
    value
}

#[test]
fn words_of_a_later_host_are_unsupported_and_its_hints_are_ignored() {
    let mut session = session("").unwrap();
    let span = Span::default();
    let batch = Batch::new(&[], std::slice::from_ref(&span));
    let request = SampleRequest::new(0);
    for from_end in 1..=6 {
        let expected = match from_end {
            1..=2 => Code::OK,
            _ => Code::UNSUPPORTED,
        };
        let mut out = [SpanOut::default()];
        let result = session.forward(with_word(batch, from_end), (&mut out[..]).into());
        assert_eq!(code(result), expected, "word {from_end} of a batch");
        let requests = [with_word(request, from_end)];
        let mut sampled = [Sampled::new(&mut [])];
        let result = session.sample(requests[..].into(), (&mut sampled[..]).into());
        assert_eq!(code(result), expected, "word {from_end} of a request");
    }
    // SAFETY: the type is transparent over these words.
    let later = unsafe { std::mem::transmute::<[u64; 4], Reserved<4>>([0, 0, 0, 1]) };
    let mut request = request;
    request.params.reserved = later;
    let mut sampled = [Sampled::new(&mut [])];
    let result = session.sample([request][..].into(), (&mut sampled[..]).into());
    assert_eq!(code(result), Code::UNSUPPORTED);
}

#[test]
fn arguments_that_must_be_understood_are_unsupported() {
    let mut meta = Meta::default();
    meta.set("org.example.colour", "red");
    let known = LoadArgs {
        meta: meta.clone(),
        ..LoadArgs::default()
    };
    assert_eq!(code(load(known)), Code::OK);
    meta.set("!lora", "7");
    let unknown = LoadArgs {
        meta: meta.clone(),
        ..LoadArgs::default()
    };
    assert_eq!(code(load(unknown)), Code::UNSUPPORTED);
    let unknown = SessionArgs { meta, ..args() };
    assert_eq!(code(model("").session(&unknown.into())), Code::UNSUPPORTED);
}

#[test]
fn tokens_beyond_the_vocabulary_are_not_sampled() {
    let mut session = session("").unwrap();
    let mut sampled = [Sampled::new(&mut [])];
    let requests = [SampleRequest::new(0)];
    let result = session.sample(requests[..].into(), (&mut sampled[..]).into());
    assert_eq!(code(result), Code::OK);
    assert_eq!((sampled[0].status, sampled[0].token), (Code::OK, 1));
}
