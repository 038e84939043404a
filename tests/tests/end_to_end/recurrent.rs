//! Models with a recurrent state: only whole sequences can be forked, and little or nothing can be taken back. Checkpoints,
//! chunks, batches and drafts change no answer, and the next turn of a chat computes only its last message.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tenon_tests::{Client, Server, ServerOptions, chat, text};

const CHAT: &str = "/v1/chat/completions";
const PLAIN: &str = "/v1/completions";
const COMPUTED: &str = "tenon_engine_computed_tokens_total";
const KEPT: &str = "tenon_engine_kept_sequences";
const ACCEPTED: &str = "tenon_engine_accepted_tokens_total";
const DRAFTED: &str = "tenon_engine_drafted_tokens_total";

/// Computes every prompt from its first token, in one piece.
const FROM_SCRATCH: &str = "max_cached_sequences = 0\nmax_draft_tokens = 0\n";
const SYSTEM: &str = "You answer with letters, and you never tell why you do so.";

#[tokio::test]
async fn chunks_and_crowds_change_no_answer() {
    let (_server, client) = start(0, FROM_SCRATCH);
    let expected = one_by_one(&client).await;
    for config in [
        "max_batch_tokens = 7\n",
        "max_batch_tokens = 16\nkv_tokens = 300\n",
        "max_sequences = 3\nmax_cached_sequences = 1\n",
    ] {
        let (_server, client) = start(0, config);
        assert_eq!(all_at_once(&client).await, expected, "{config}");
        assert_eq!(one_by_one(&client).await, expected, "{config}");
        assert_eq!(all_at_once(&client).await, expected, "{config}");
    }
}

#[tokio::test]
async fn drafts_stay_within_what_can_be_taken_back_and_change_no_answer() {
    let (_server, client) = start(0, FROM_SCRATCH);
    let expected = one_by_one(&client).await;
    for (max_rollback, drafts) in [(0, false), (3, true)] {
        let (_server, client) = start(max_rollback, "max_draft_tokens = 32\n");
        assert_eq!(one_by_one(&client).await, expected);
        assert_eq!(all_at_once(&client).await, expected);
        let (accepted, drafted) = (client.metric(ACCEPTED).await, client.metric(DRAFTED).await);
        assert_eq!(accepted > 0.0, drafts, "{accepted} of {drafted}");
        // Some drafts were rejected, so states were taken back.
        assert_eq!(drafted > accepted, drafts, "{accepted} of {drafted}");
    }
}

#[tokio::test]
async fn the_next_turn_computes_only_its_message() {
    let (_server, client) = start(0, "");
    let (_exact, exact) = start(0, FROM_SCRATCH);
    let mut talk = vec![message("system", SYSTEM)];
    let mut stored = 0;
    for turn in 0..5 {
        let question = format!("Question number {turn}: what follows, and what comes then?");
        let new = question.len() + MARKS;
        talk.push(message("user", &question));
        let answer = check_answer(&client, &exact, &talk).await;
        let (prompt, cached) = prompt_tokens(&answer);
        if turn > 0 {
            assert_eq!(cached, stored, "turn {turn}");
            assert_eq!(prompt - cached, new, "turn {turn}");
        }
        stored = prompt + tokens(&answer["usage"]["completion_tokens"]);
        talk.push(message("assistant", text(&answer)));
    }
}

/// Tokens of the template around a message: the end of the answer before it, its role, its end, and the next role.
const MARKS: usize = 4;
/// Tokens around the system message up to the user's words: the beginning, its role, its end, and the next role.
const BEFORE_USER: usize = 4;

#[tokio::test]
async fn another_last_message_computes_only_itself() {
    let (_server, client) = start(0, "");
    let (_exact, exact) = start(0, FROM_SCRATCH);
    let mut talk = vec![message("system", SYSTEM), message("user", "First")];
    let answer = check_answer(&client, &exact, &talk).await;
    let (prompt, _) = prompt_tokens(&answer);
    // The same request again.
    let again = check_answer(&client, &exact, &talk).await;
    assert_eq!(prompt_tokens(&again).1, prompt - 1);
    // Other chats that begin with the same system message.
    for other in ["Second", "Third"] {
        talk[1] = message("user", other);
        let answer = check_answer(&client, &exact, &talk).await;
        assert_eq!(prompt_tokens(&answer).1, SYSTEM.len() + BEFORE_USER);
    }
    // Other last messages in the first chat.
    let stored = prompt + text(&answer).len();
    talk[1] = message("user", "First");
    talk.push(message("assistant", text(&answer)));
    for other in ["Go on.", "Go back.", "Stay."] {
        talk.push(message("user", other));
        let answer = check_answer(&client, &exact, &talk).await;
        assert_eq!(prompt_tokens(&answer).1, stored, "{other}");
        talk.pop();
    }
}

#[tokio::test]
async fn answers_to_one_prompt_compute_it_once() {
    let (_server, client) = start(0, "max_draft_tokens = 0\n");
    let prompt = "A prompt that is long enough to be worth waiting for. ".repeat(4);
    let body = json!({"prompt": prompt, "n": 4, "max_tokens": 8, "seed": 1, "temperature": 1});
    let (_, answer) = client.post(PLAIN, &body).await;
    let computed = client.metric(COMPUTED).await as usize;
    let (prompt, _) = prompt_tokens(&answer);
    // Each answer computes the prompt's last token, and all of its own tokens but the last.
    assert_eq!(computed, prompt - 1 + 4 * 8, "{answer}");
}

/// A prompt's checkpoints are of no use to the other prompts, which differ from it before its end.
#[tokio::test]
async fn prompts_that_begin_alike_change_no_answer_of_each_other() {
    let common = "The same beginning for all of them. ".repeat(8);
    let bodies = ["one", "two", "three"]
        .map(|end| json!({"prompt": format!("{common}{end}"), "max_tokens": 16, "temperature": 0}));
    let answers = async |engine: &str| {
        let (_server, client) = start(0, engine);
        let answers = join_all(bodies.iter().map(|body| client.post(PLAIN, body))).await;
        let texts = answers.iter().map(|(_, answer)| text(answer).to_owned());
        texts.collect::<Vec<_>>()
    };
    let expected = answers(FROM_SCRATCH).await;
    assert_eq!(answers("max_batch_tokens = 64\n").await, expected);
}

#[tokio::test]
async fn checkpoints_are_bounded_and_the_least_recently_used_goes_first() {
    let (_server, client) = start(0, "max_cached_sequences = 3\n");
    let cached = async |question: &str| {
        let talk = [message("system", SYSTEM), message("user", question)];
        prompt_tokens(&answer(&client, &talk).await).1
    };
    let system = SYSTEM.len() + BEFORE_USER;
    assert_eq!(cached("one").await, 0);
    // Each chat keeps its prompt and its answer. The checkpoint of the system message is used each time, so it stays.
    for question in ["two", "three", "four", "five"] {
        assert_eq!(cached(question).await, system, "{question}");
        client.wait_for_metric(KEPT, 3.0).await;
    }
    assert_eq!(cached("one").await, system);
}

/// Starts a server of a model that can take this many positions back.
fn start(max_rollback: u32, engine: &str) -> (Server, Client) {
    let mut server = ServerOptions::new(&["tenon_fixture_recurrent"])
        .file("model.recurrent", &max_rollback.to_string())
        .config(&format!(
            "[engine]\n{engine}[[models]]\npath = 'model.recurrent'\n"
        ))
        .start();
    let client = server.client();
    (server, client)
}

fn message(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

async fn answer(client: &Client, talk: &[Value]) -> Value {
    let body = json!({"messages": talk, "temperature": 0.8, "seed": 7, "max_tokens": 200});
    client.post(CHAT, &body).await.1
}

/// The answer, which must be the one that `exact` gives.
async fn check_answer(client: &Client, exact: &Client, talk: &[Value]) -> Value {
    let (found, expected) = (answer(client, talk).await, answer(exact, talk).await);
    assert_eq!(text(&found), text(&expected));
    assert_eq!(prompt_tokens(&expected).1, 0);
    assert_eq!(found["choices"][0]["finish_reason"], "stop", "{found}");
    found
}

async fn one_by_one(client: &Client) -> Vec<String> {
    let mut answers = Vec::new();
    for (path, body) in requests() {
        answers.push(client.stream(path, &body).await.text());
    }
    answers
}

async fn all_at_once(client: &Client) -> Vec<String> {
    let answers = requests().into_iter();
    let answers =
        answers.map(|(path, body)| async move { client.stream(path, &body).await.text() });
    join_all(answers).await
}

/// Requests of which several begin alike.
fn requests() -> Vec<(&'static str, Value)> {
    let mut requests = Vec::new();
    for (seed, name) in ["Ada", "Grace", "Ada", "Barbara"].into_iter().enumerate() {
        let question = format!("The same words come first, and then the name of {name}.");
        let chance = json!({"temperature": 0.9, "seed": seed, "max_tokens": 200});
        requests.push((CHAT, chat(&question, chance)));
        let plain = json!({"prompt": question, "temperature": 0, "max_tokens": 90});
        requests.push((PLAIN, plain));
    }
    requests
}

/// Number of the prompt's tokens, and how many of them were cached.
fn prompt_tokens(answer: &Value) -> (usize, usize) {
    let usage = &answer["usage"];
    let cached = &usage["prompt_tokens_details"]["cached_tokens"];
    (tokens(&usage["prompt_tokens"]), tokens(cached))
}

fn tokens(number: &Value) -> usize {
    number.as_u64().expect("a number") as usize
}
