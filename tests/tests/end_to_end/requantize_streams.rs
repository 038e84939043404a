//! On each backend the level of a real model goes down and up again while streams run. No stream fails, no stream mixes two
//! models, and the old model's memory is freed.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::json;
use tempfile::TempDir;
use tenon_tests::{
    Backend, Client, Event, Events, Judge, PATIENCE, Server, ServerOptions, TOLERANCE, token_bytes,
};

const TOPICS: [&str; 8] = [
    "sea", "moon", "king", "rain", "road", "tree", "city", "bird",
];

#[tokio::test]
async fn smollm2_streams_are_of_one_model_with_llama_cpp() {
    check(Backend::LlamaCpp, ["Q8_0", "Q4_K_M"]).await;
}

#[tokio::test]
async fn smollm2_streams_are_of_one_model_with_candle() {
    check(Backend::Candle, ["Q8_0", "Q4_K"]).await;
}

#[tokio::test]
async fn smollm2_streams_are_of_one_model_with_candle_quantized() {
    check(Backend::CandleQuantized, ["Q8_0", "Q4_K"]).await;
}

async fn check(backend: Backend, levels: [&str; 2]) {
    let [high, low] = levels;
    let cache = TempDir::new().unwrap();
    let (server, client) = start(backend, cache.path(), high);
    fill_pool(&client).await;
    let first = memory_bytes(server.worker());
    let down = texts_during(&client, "Q4K", low).await;
    let up = texts_during(&client, "q8_0", high).await;
    fill_pool(&client).await;
    wait_for_memory(server.worker(), first).await;
    drop(server);

    let original = backend.load(&backend.smollm2(), &json!({}));
    let [mut high, mut low] = levels.map(|level| Judge::of(original.at(level)));
    check_texts(&down, &mut high, &mut low);
    check_texts(&up, &mut low, &mut high);
}

/// Writes more than the KV pool has room for, so that the whole pool is in memory: the system provides memory when it is
/// used.
async fn fill_pool(client: &Client) {
    for kind in ["old", "new", "last"] {
        texts(client, TOPICS.map(|topic| format!("{kind} {topic}"))).await;
    }
}

/// Checks that each text comes from one model only, and that some come from the old one, although they ended when the new
/// one was there.
fn check_texts(texts: &[Text], old: &mut Judge, new: &mut Judge) {
    let gap =
        |judge: &mut Judge, text: &Text| judge.worst_gap_of_tokens(&text.prompt, &text.tokens);
    let gaps: Vec<_> = texts
        .iter()
        .map(|text| (gap(old, text), gap(new, text)))
        .collect();
    assert!(
        gaps.iter().all(|(old, new)| old.min(*new) <= TOLERANCE),
        "{gaps:?}"
    );
    assert!(gaps.iter().any(|(_, new)| *new > TOLERANCE), "{gaps:?}");
}

fn start(backend: Backend, cache: &Path, level: &str) -> (Server, Client) {
    let config = format!(
        "[plugins]\ncache_directory = {cache:?}\n\
         [engine]\nthreads = 1\ncontext_length = 512\nkv_tokens = 4096\n\
         [[models]]\npath = {:?}\nquantize = '{level}'\n",
        backend.smollm2()
    );
    let mut server = ServerOptions::new(&[backend.library()])
        .config(&config)
        .start();
    let client = server.client();
    (server, client)
}

/// A prompt and the text written for it, token by token.
struct Text {
    prompt: String,
    tokens: Vec<Vec<u8>>,
}

/// A text that is being written.
struct Story<'a> {
    client: &'a Client,
    stream: Events,
    text: Text,
}

impl<'a> Story<'a> {
    /// Begins a story. It has begun when this returns.
    async fn begin(client: &'a Client, topic: &str) -> Self {
        let prompt = format!("A long story about the {topic}:\n\nOnce upon a time");
        let mut story = Self {
            client,
            stream: open(client, &prompt).await,
            text: Text {
                prompt,
                tokens: Vec::new(),
            },
        };
        while story.text.tokens.is_empty() && story.read().await {}
        story
    }

    /// Reads on. If the story ends too early, it begins again. Returns the text that was being written when `changed` became
    /// true.
    async fn written_during(mut self, changed: &AtomicBool) -> Text {
        loop {
            while self.read().await {}
            if changed.load(Ordering::Relaxed) {
                return self.text;
            }
            self.stream = open(self.client, &self.text.prompt).await;
            self.text.tokens.clear();
        }
    }

    /// Reads one event. Returns false at the end of the stream.
    async fn read(&mut self) -> bool {
        let event = self.stream.next().await;
        if let Some(Event::Chunk(chunk)) = &event {
            assert!(chunk.get("error").is_none(), "{chunk}");
            let tokens = chunk["choices"][0]["logprobs"]["tokens"].as_array();
            let tokens = tokens.into_iter().flatten();
            self.text.tokens.extend(tokens.map(token_bytes));
        }
        event.is_some()
    }
}

async fn open(client: &Client, prompt: &str) -> Events {
    let request = json!({"prompt": prompt, "temperature": 0, "max_tokens": 64, "logprobs": 0});
    client.open("/v1/completions", &request).await
}

/// Writes eight stories, whatever their text.
async fn texts(client: &Client, topics: [String; 8]) {
    let done = AtomicBool::new(true);
    let write = async |topic: String| {
        let story = Story::begin(client, &topic).await;
        story.written_during(&done).await
    };
    join_all(topics.map(write)).await;
}

/// Prompts and texts of eight streams that run while the level changes, and end after the change.
async fn texts_during(client: &Client, level: &str, named: &str) -> Vec<Text> {
    let stories = join_all(TOPICS.map(|topic| Story::begin(client, topic))).await;
    let changed = AtomicBool::new(false);
    let texts = stories
        .into_iter()
        .map(|story| story.written_during(&changed));
    let change = async {
        let (status, report) = client.post("/re_isq", &json!({"ggml_type": level})).await;
        assert_eq!(
            (status, &report["to"]),
            (StatusCode::OK, &json!(named)),
            "{report}"
        );
        changed.store(true, Ordering::Relaxed);
    };
    tokio::join!(join_all(texts), change).0
}

/// Bytes of the process's own memory, and of the model's file that is in memory.
fn memory_bytes(pid: u32) -> u64 {
    let kilobytes = |line: &str| line.split_whitespace().nth(1)?.parse::<u64>().ok();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let own = status
        .lines()
        .find(|line| line.starts_with("RssAnon:"))
        .and_then(kilobytes);
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut mapped = 0;
    let mut is_model = false;
    for line in maps.lines() {
        if line
            .split(' ')
            .next()
            .is_some_and(|first| first.contains('-'))
        {
            is_model = is_model_file(line.trim_end_matches(" (deleted)"));
        } else if is_model && line.starts_with("Rss:") {
            mapped += kilobytes(line).unwrap();
        }
    }
    (own.unwrap() + mapped) * 1024
}

fn is_model_file(path: &str) -> bool {
    [".gguf", ".safetensors"]
        .iter()
        .any(|end| path.ends_with(end))
}

/// Waits until the memory is freed: the old engine ends a moment after its last stream.
async fn wait_for_memory(pid: u32, first: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = memory_bytes(pid);
        if now <= first + first / 10 {
            return;
        }
        assert!(Instant::now() < deadline, "{now} bytes, at first {first}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
