//! llama.cpp with a purely recurrent model and with a hybrid of recurrent layers and attention. Both have random weights and
//! compute in f32, so that rounding changes no text.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use tenon_plugin_api::{Code, EncodeFlags};
use tenon_tests::{
    Backend, Client, LoadedModel, Row, RowReader, Server, ServerOptions, largest_difference,
    models::{LANGUAGES, Recurrent},
    text,
};

const CHAT: &str = "/v1/chat/completions";
/// Largest allowed difference of logits, which are between -10 and 10.
const TOLERANCE: f32 = 1e-3;
const TEMPLATE: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

#[test]
fn only_whole_sequences_fork_and_nothing_is_taken_back() {
    on_all(|loaded, tokens| {
        let mut reader = RowReader::new(loaded, 2);
        reader.append_one(0, tokens);
        let (session, len) = (reader.session(), tokens.len() as u32);
        let info = session.info();
        assert!(!info.fork_any_len && info.max_rollback == 0, "{info:?}");
        for error in [session.fork(0, 1, len - 1), session.truncate(0, len - 1)] {
            assert_eq!(error.unwrap_err().code, Code::UNSUPPORTED);
        }
        session.fork(0, 1, len).unwrap();
    });
}

#[test]
fn batches_chunks_and_checkpoints_are_as_the_whole() {
    on_all(|loaded, tokens| {
        let mut reader = RowReader::new(loaded, 4);
        let whole = reader.append_one(0, tokens);
        let chunks = tokens.chunks(7);
        let chunks: Vec<_> = chunks
            .flat_map(|chunk| reader.append_one(1, chunk))
            .collect();
        check(&chunks, &whole);

        // A checkpoint in the middle, from which two others go on in one batch, after its source went on.
        let (head, tail) = tokens.split_at(tokens.len() / 2);
        reader.free(0);
        reader.free(1);
        reader.append_one(0, head);
        reader.fork(0, 1, head.len() as u32);
        check(
            &reader.append_one(0, &tail[1..]),
            &reader_of(loaded, head, &tail[1..]),
        );
        reader.fork(1, 2, head.len() as u32);
        let forked = reader.append(&[(1, tail), (2, &tail[..9])]);
        check(&forked[0], &whole[head.len()..]);
        check(&forked[1], &whole[head.len()..][..9]);
    });
}

#[tokio::test]
async fn mamba_s_next_turn_computes_only_its_message() {
    check_turns(Recurrent::Mamba).await;
}

#[tokio::test]
async fn lfm2_s_next_turn_computes_only_its_message() {
    check_turns(Recurrent::Lfm2).await;
}

async fn check_turns(model: Recurrent) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.gguf");
    model.write_gguf(&path);
    let (_server, client) = start(&path, "");
    let (_exact, exact) = start(&path, "max_cached_sequences = 0\n");
    let mut talk = vec![message("system", "You answer with letters.")];
    let mut stored = 0;
    for turn in 0..4 {
        talk.push(message(
            "user",
            &format!("Question number {turn}: what follows?"),
        ));
        let answer = check_answer(&client, &exact, &talk).await;
        let (prompt, cached) = prompt_tokens(&answer);
        assert!(cached >= stored, "turn {turn}: {answer}");
        // The last token of an answer need not be stored.
        stored = prompt + tokens(&answer["usage"]["completion_tokens"]) - 1;
        talk.push(message("assistant", text(&answer)));
    }
    // Another last message after the same earlier messages.
    talk.truncate(talk.len() - 2);
    talk.push(message("user", "Something else"));
    let answer = check_answer(&client, &exact, &talk).await;
    let (prompt, cached) = prompt_tokens(&answer);
    assert!(prompt - cached < 60, "{answer}");
}

fn start(path: &Path, engine: &str) -> (Server, Client) {
    let config = format!(
        "[engine]\nthreads = 1\n{engine}[[models]]\npath = {path:?}\nchat_template = 'chat.jinja'\n\
         options = {{ kv_type = 'f32', flash_attention = 'off' }}\n"
    );
    let mut server = ServerOptions::new(&[Backend::LlamaCpp.library()])
        .file("chat.jinja", TEMPLATE)
        .config(&config)
        .start();
    let client = server.client();
    (server, client)
}

/// The answer, which must be the one that a server without cached prefixes gives.
async fn check_answer(client: &Client, exact: &Client, talk: &[Value]) -> Value {
    // Random weights answer with half characters, so a grammar allows letters only.
    let body = json!({
        "messages": talk, "temperature": 1, "seed": 3, "max_tokens": 100,
        "grammar": {"type": "regex", "value": "[a-z ]{40}"},
    });
    let (_, answer) = client.post(CHAT, &body).await;
    let (_, expected) = exact.post(CHAT, &body).await;
    assert_eq!(text(&answer), text(&expected));
    assert_eq!(prompt_tokens(&expected).1, 0);
    answer
}

/// Number of the prompt's tokens, and how many of them were cached.
fn prompt_tokens(answer: &Value) -> (u64, u64) {
    let usage = &answer["usage"];
    let cached = &usage["prompt_tokens_details"]["cached_tokens"];
    (tokens(&usage["prompt_tokens"]), tokens(cached))
}

fn message(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

fn tokens(number: &Value) -> u64 {
    number.as_u64().expect("a number")
}

/// Runs `check` on both models, with about 100 tokens.
fn on_all(check: impl Fn(&LoadedModel, &[u32])) {
    for model in Recurrent::ALL {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("model.gguf");
        model.write_gguf(&path);
        let loaded = Backend::LlamaCpp.load(&path, &Backend::LlamaCpp.exact());
        let tokenizer = loaded.model.tokenizer().unwrap();
        let mut tokens = tokenizer
            .encode(&LANGUAGES.join(" "), EncodeFlags::NONE)
            .unwrap();
        tokens.truncate(100);
        check(&loaded, &tokens);
    }
}

/// The rows of `tail` after `head`, in a session of their own.
fn reader_of(loaded: &LoadedModel, head: &[u32], tail: &[u32]) -> Vec<Row> {
    let mut rows = RowReader::new(loaded, 1).append_one(0, &[head, tail].concat());
    rows.drain(..head.len());
    rows
}

fn check(rows: &[Row], expected: &[Row]) {
    let difference = largest_difference(rows, expected);
    assert!(difference <= TOLERANCE, "{difference}");
}
