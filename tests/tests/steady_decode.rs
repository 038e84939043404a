//! The model thread does not allocate during decode. The plugin has an allocator of its own and is not counted here.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus::Registry as Metrics;
use tenon::{
    engine::{
        ClientId, Engine, EngineLimits, EngineMetrics, EngineOptions, Event, Generation, Loader,
        PromptTokens, Request, Steering,
    },
    markup::{Frame, InPrompt, Reasoning, ReasoningTags},
    plugin::{CurrentFacts, Registry, RegistryOptions, TokenizedFacts},
    reasoning_budget::ReasoningBudget,
};
use tenon_plugin_api::{EncodeFlags, LoadArgs, SampleParams, SessionArgs};
use tenon_tests::artifacts;

/// The system's allocator, which also counts the model thread's allocations.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_MODEL_THREAD: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if IS_MODEL_THREAD.get() {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Tokens after which all buffers have their size, and tokens that are counted after that.
const WARM_UP: usize = 500;
const COUNTED: usize = 1000;
/// Much longer than it takes to fill the channels.
const UNREAD: Duration = Duration::from_millis(200);

#[test]
fn decoding_allocates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, facts) = engine(&folder);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(check(&engine, &facts.get()));
}

async fn check(engine: &Engine, facts: &TokenizedFacts) {
    let message = "The answer is as long as the question. ".repeat(60);
    let prompt = format!("<|user|>{message}<|end|><|assistant|>");
    let prompt = facts
        .tokenizer
        .encode(&prompt, EncodeFlags::PARSE_CONTROL)
        .unwrap();
    let request = |temperature| Request {
        client: ClientId::default(),
        priority: 0,
        deadline: None,
        cache_prompt: true,
        max_tokens: u32::MAX,
        min_tokens: 0,
        params: SampleParams {
            temperature,
            top_p: 0.9,
            frequency_penalty: temperature / 100.0,
            ..SampleParams::default()
        },
        seed: 1,
        bias: Vec::new(),
        scoring: None,
    };
    let budget = || Steering {
        reasoning: Some(budget(facts)),
        ..Steering::default()
    };
    let submit = |(temperature, steering)| {
        let generations = engine.submit(
            &Arc::new(request(temperature)),
            &steering,
            vec![PromptTokens::new(prompt.clone())],
        );
        generations.unwrap()
    };
    let submitted = [
        (0.0, Steering::default()),
        (0.0, Steering::default()),
        (0.1, Steering::default()),
        (0.0, budget()),
    ];
    let mut generations: Vec<_> = submitted.into_iter().flat_map(submit).collect();
    read(&mut generations, WARM_UP / 2).await;
    // When a thread waits for requests for the first time, the standard library allocates the means to wait. The model
    // thread waits if nobody reads.
    tokio::time::sleep(UNREAD).await;
    read(&mut generations, WARM_UP / 2).await;
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    assert!(before > 0, "nothing is counted");
    let tokens = read(&mut generations, COUNTED).await;
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0);
    let of_tag = tokens.contains(&b'>'.into());
    assert!(of_tag, "no reasoning was closed while tokens were counted");
}

/// A budget of reasoning that is used up in the middle of the counted tokens. Reasoning may begin again, so the answer behind it
/// is searched for its tag.
fn budget(facts: &TokenizedFacts) -> ReasoningBudget {
    let plain = ReasoningTags::new("<think>", "</think>");
    let tags = ReasoningTags {
        frame: Frame {
            reasons_again: true,
            ..plain.frame
        },
        ..plain
    };
    let close = facts.tokenizer.encode(&tags.close, EncodeFlags::NONE);
    ReasoningBudget {
        tokens: (WARM_UP + COUNTED / 2) as u32,
        marks: [].into(),
        close: close.unwrap(),
        behind: Vec::new(),
        reasoning: Reasoning {
            tags,
            in_prompt: InPrompt::Opened,
        },
    }
}

/// Reads this many events of each generation. Returns their tokens.
async fn read(generations: &mut [Generation], events: usize) -> Vec<u32> {
    let mut tokens = Vec::new();
    for generation in generations {
        for _ in 0..events {
            match generation.next().await {
                Some(Event::Token { token, .. }) => tokens.push(token),
                Some(Event::Started { .. }) => {}
                event => panic!("{event:?}"),
            }
        }
    }
    tokens
}

fn engine(folder: &tempfile::TempDir) -> (Engine, CurrentFacts) {
    let library = artifacts().library("tenon_plugin_echo");
    std::os::unix::fs::symlink(library, folder.path().join("echo.so")).unwrap();
    let mut options = RegistryOptions::new(vec![folder.path().to_path_buf()]).unwrap();
    options.executable = artifacts().tenon.clone();
    let model = folder.path().join("a.echo");
    std::fs::write(&model, "0").unwrap();
    options.models = vec![model.clone()];
    let backend = Registry::load(&options).choose(&model, None).unwrap();
    let loader: Loader = Box::new(move || {
        IS_MODEL_THREAD.set(true);
        let args = LoadArgs {
            path: model.clone(),
            ..LoadArgs::default()
        };
        backend.load(&args, Box::new(|_, _| true))
    });
    let options = EngineOptions {
        name: "echo".into(),
        session: SessionArgs {
            max_sequences: 8,
            context_length: 8192,
            max_batch_tokens: 512,
            threads: 1,
            ..SessionArgs::default()
        },
        max_queue: 8,
        max_reloads: 0,
        limits: EngineLimits {
            max_running: 4,
            max_draft_tokens: 16,
            max_step: Some(Duration::from_millis(200)),
            min_priority: 0,
            write_timeout: Duration::from_secs(60),
        },
        calibration: None,
    };
    let metrics = EngineMetrics::register(&Metrics::new(), "echo").unwrap();
    Engine::start(options, loader, metrics, Arc::new(|| {})).unwrap()
}
