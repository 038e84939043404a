//! With candle's backends a seed has one answer, whatever else is computed, drafted, or cached: every token has the same
//! bits in every batch.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tenon_tests::{Backend, Client, Server, ServerOptions, with_backend};

const PLAIN: &str = "/v1/completions";

with_backend!(smollm2_candle, Candle, [a_seed_has_one_answer]);

with_backend!(
    smollm2_candle_quantized,
    CandleQuantized,
    [a_seed_has_one_answer_with_the_own_kernel]
);

/// On CPUs without the kernel's instructions candle multiplies, and it does so differently for few rows and for many.
async fn a_seed_has_one_answer_with_the_own_kernel(backend: Backend) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        a_seed_has_one_answer(backend).await;
    }
}

async fn a_seed_has_one_answer(backend: Backend) {
    let (_plain, plain) = start(backend, "max_draft_tokens = 0\nmax_cached_sequences = 0");
    let mut expected = Vec::new();
    for body in requests() {
        expected.push(plain.stream(PLAIN, &body).await.text());
    }
    let (_server, client) = start(backend, "max_batch_tokens = 40");
    let requests: Vec<_> = requests().collect();
    for _ in 0..2 {
        let together = requests.iter().map(|body| client.stream(PLAIN, body));
        let together = join_all(together).await;
        let together: Vec<_> = together.iter().map(|stream| stream.text()).collect();
        assert_eq!(together, expected);
    }
    // A request that runs alone gets drafts, and its prompt is cached by now.
    for (body, expected) in requests.iter().zip(expected) {
        assert_eq!(client.stream(PLAIN, body).await.text(), expected);
    }
    assert!(client.metric("tenon_engine_drafted_tokens_total").await > 0.0);
    assert!(client.metric("tenon_engine_accepted_tokens_total").await > 0.0);
}

fn start(backend: Backend, engine: &str) -> (Server, Client) {
    let path = backend.smollm2();
    let config = format!("[engine]\nthreads = 1\n{engine}\n[[models]]\npath = {path:?}\n");
    let options = ServerOptions::new(&[backend.library()]);
    let mut server = options.config(&config).start();
    let client = server.client();
    (server, client)
}

fn requests() -> impl Iterator<Item = Value> {
    let prompts = [
        "Once upon a time",
        &"one two three four five six seven eight nine ten ".repeat(8),
        "The three primary colours are",
        "A list of words, again and again:\nred green blue\nred green blue\nred",
    ];
    let prompts = prompts.map(str::to_owned);
    prompts.into_iter().enumerate().map(|(seed, prompt)| {
        json!({"prompt": prompt, "seed": seed, "temperature": 0.8, "max_tokens": 40})
    })
}
