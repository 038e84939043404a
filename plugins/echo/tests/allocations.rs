//! In the steady decode loop, neither the SDK nor this backend allocates. The test runs inside the plugin, with an allocator
//! that counts.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use tenon_plugin_api::{
    Batch, Code, LoadArgs, LogLevel, SampleParams, SampleRequest, Sampled, SessionArgs, Span,
    SpanOut, TokenLogprob,
    abi::{
        Extension, HostObject, HostObject_TO, PluginModule_Ref, ProgressObject, ProgressObject_TO,
        ROption, RStr, RString, SessionBox, TD_Opaque,
    },
};

// A library with one exported symbol cannot be linked into a test, so its source is a part of the test.
#[path = "../src/lib.rs"]
mod echo;

/// The system's allocator, which also counts this thread's allocations.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

const SEQUENCES: u32 = 3;
/// Steps of a run. The first run gives all buffers their size, and the second one is counted.
const STEPS: u32 = 500;

#[test]
fn decoding_allocates_nothing() {
    let mut session = session();
    let before = ALLOCATIONS.get();
    decode(&mut session);
    assert!(ALLOCATIONS.get() > before, "nothing is counted");
    let before = ALLOCATIONS.get();
    decode(&mut session);
    assert_eq!(ALLOCATIONS.get() - before, 0);
}

/// Decodes with everything that a step of the host may use, and leaves the session empty.
fn decode(session: &mut SessionBox) {
    let mut next = [u32::from(b'a'); SEQUENCES as usize];
    for position in 0..STEPS {
        let spans: [_; SEQUENCES as usize] = std::array::from_fn(|seq| Span {
            seq: seq as u32,
            start: position,
            len: 1,
            rows: 1,
            ..Span::default()
        });
        let mut outs = [SpanOut::default(); SEQUENCES as usize];
        let batch = Batch::new(&next, &spans);
        session.forward(batch, (&mut outs[..]).into()).unwrap();
        next = sample(session, &outs.map(|out| out.first_row));
        // A part of a draft is rolled back, and a new sequence begins as the fork of another.
        session.truncate(0, position + 1).unwrap();
        session.fork(0, SEQUENCES, position).unwrap();
        session.free(SEQUENCES);
    }
    (0..SEQUENCES).for_each(|seq| session.free(seq));
}

/// One token from each row: greedy, random, and random with penalties and a mask.
fn sample(session: &mut SessionBox, rows: &[u32; 3]) -> [u32; 3] {
    let random = SampleParams {
        temperature: 1.0,
        top_p: 0.9,
        top_k: 40,
        ..SampleParams::default()
    };
    let penalized = SampleParams {
        frequency_penalty: 0.5,
        min_p: 0.01,
        ..random
    };
    let mask = [u32::MAX; 9];
    let mut requests = rows.map(SampleRequest::new);
    for (request, params) in requests
        .iter_mut()
        .zip([SampleParams::default(), random, penalized])
    {
        request.params = params;
        request.draw = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(request.row.into());
        request.logprob = 1;
        request.top_logprobs = 5;
    }
    requests[2] = requests[2].with_mask(&mask);
    let mut top = [[TokenLogprob::default(); 5]; 3];
    let mut sampled = top.each_mut().map(|top| Sampled::new(top));
    session
        .sample(requests[..].into(), (&mut sampled[..]).into())
        .unwrap();
    sampled.map(|sampled| {
        assert_eq!(sampled.status, Code::OK);
        sampled.token
    })
}

fn session() -> SessionBox {
    let module = echo::TENON_PLUGIN
        .init_root_module::<PluginModule_Ref>()
        .unwrap();
    let host = HostObject_TO::from_value(Nobody, TD_Opaque);
    let backend = module.init()(host, "{}".into()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.echo");
    std::fs::write(&path, "").unwrap();
    let load = LoadArgs {
        path,
        ..LoadArgs::default()
    };
    let progress = ProgressObject_TO::from_value(Nobody, TD_Opaque);
    let model = backend.load(&load.into(), progress).unwrap();
    let args = SessionArgs {
        max_sequences: SEQUENCES + 1,
        context_length: STEPS,
        kv_tokens: STEPS * (SEQUENCES + 1),
        max_batch_tokens: STEPS,
        ..SessionArgs::default()
    };
    model.session(&args.into()).unwrap()
}

/// A host without services.
struct Nobody;

impl HostObject for Nobody {
    fn log(&self, _level: LogLevel, _target: RStr<'_>, _message: RStr<'_>) {}
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
