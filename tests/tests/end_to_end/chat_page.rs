//! The chat page at `/`: who gets it, and how it works in a real browser.

use std::{fs::read_to_string, path::Path};

use reqwest::{Method, StatusCode};
use serde_json::json;
use tenon_tests::{Browser, HOST, Server, ServerOptions, has_node, packages};

pub const INPUT: &str = "#input";
pub const SEND: &str = "#send:not([hidden])";
const STOP: &str = "#stop:not([hidden])";
const AGAIN: &str = "[aria-label='Another answer']";
pub const ANSWER: &str = ".answer:last-child > .prose";
/// The figures under the last answer, once it is complete.
pub const FIGURES: &str = ".answer:last-child .figures:not(:empty)";

/// The header `Accept` that Chrome sends when it opens a page.
const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";

#[tokio::test]
async fn browsers_get_the_page_and_programs_the_health() {
    let mut server = ServerOptions::echo(0).start();
    let client = server.client();
    let ask = async |method: Method, accept: Option<&str>| {
        let request = client.request(method, "/");
        let request = match accept {
            Some(accept) => request.header("accept", accept),
            None => request,
        };
        request.send().await.expect("an answer")
    };
    for accept in [None, Some("*/*"), Some("application/json")] {
        let health = ask(Method::GET, accept).await;
        assert_eq!(health.headers()["content-type"], "application/json");
        assert!(!health.headers().contains_key("vary"));
        let expected = r#"{"status":"ok","models":[{"id":"echo","status":"ok"}]}"#;
        assert_eq!(health.text().await.unwrap(), expected);
    }
    let page = ask(Method::GET, Some(BROWSER)).await;
    assert_eq!(page.status(), StatusCode::OK);
    let headers = page.headers().clone();
    assert_eq!(headers["content-type"], "text/html; charset=utf-8");
    assert!(headers.contains_key("content-security-policy"));
    assert!(page.text().await.unwrap().starts_with("<!DOCTYPE html>"));
    let head = ask(Method::HEAD, Some(BROWSER)).await;
    assert_eq!(head.headers()["etag"], headers["etag"]);
    assert_eq!(head.headers()["content-length"], headers["content-length"]);
    assert_eq!(head.text().await.unwrap(), "");
}

#[tokio::test]
async fn an_answer_is_shown_and_kept_and_nothing_leaves_the_host() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let mut server = ServerOptions::echo(0).config(&allowed("")).start();
    let address = open_page(&browser, &mut server).await;
    // The model repeats the question. What looks like HTML stays text.
    ask(&browser, "Is **this** <b>bold</b>?").await;
    let figures = browser.text(FIGURES).await;
    assert!(figures.contains("prompt tokens cached"), "{figures}");
    assert_eq!(browser.text(ANSWER).await, "Is this <b>bold</b>?");
    assert_eq!(browser.text(&format!("{ANSWER} strong")).await, "this");
    // A second question makes it a conversation.
    ask(&browser, "And now?").await;
    browser
        .text(".answer:nth-child(4) .figures:not(:empty)")
        .await;
    assert_eq!(browser.text(ANSWER).await, "And now?");

    open_page(&browser, &mut server).await;
    let kept = browser.text(&format!("{ANSWER} > p:not(:empty)")).await;
    assert_eq!(kept, "And now?");
    assert_eq!(
        browser.text("#conversations .title").await,
        "Is **this** <b>bold</b>?"
    );
    let requests = browser.requests().await;
    for url in &requests {
        let stays = [address.as_str(), "data:", "chrome:"];
        let stays = stays.iter().any(|start| url.starts_with(start));
        assert!(stays, "{url}");
    }
}

#[tokio::test]
async fn an_answer_is_streamed_stopped_and_given_again() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    // The model is so slow that the answer cannot end before it is stopped.
    let mut server = ServerOptions::echo(500).config(&allowed("")).start();
    open_page(&browser, &mut server).await;
    let question = "word ".repeat(150);
    ask(&browser, question.trim()).await;
    // The first words are there while the rest is still being computed.
    browser.text(".running > .prose > p").await;
    browser.click(STOP).await;
    let figures = browser.text(FIGURES).await;
    assert_eq!(figures, "stopped");
    let stopped = browser.text(ANSWER).await;
    assert!(!stopped.is_empty() && stopped.len() < question.len() - 1);
    browser.click(AGAIN).await;
    browser.text(".running > .prose > p").await;
    browser.type_into(INPUT, "\u{e00c}").await;
    assert_eq!(browser.text(FIGURES).await, "stopped");
    let count = browser
        .run("return document.querySelectorAll('.message').length")
        .await;
    assert_eq!(count, json!(2));
}

#[tokio::test]
async fn smollm2_answers_the_examples_rightly() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let mut server = ServerOptions::smollm2().config(&allowed("")).start();
    open_page(&browser, &mut server).await;
    let expected = ["Tokyo", "Ag.", "num % 2 == 0"];
    for (index, expected) in expected.into_iter().enumerate() {
        browser
            .click(&format!(".card:nth-child({})", index + 1))
            .await;
        browser.text(FIGURES).await;
        let answer = browser.text(ANSWER).await;
        assert!(answer.contains(expected), "{answer}");
        browser.click("#new-chat").await;
    }
}

#[tokio::test]
async fn a_message_can_be_edited() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let mut server = ServerOptions::echo(0).config(&allowed("")).start();
    open_page(&browser, &mut server).await;
    ask(&browser, "First").await;
    browser.text(FIGURES).await;
    browser.click(".user [aria-label=Edit]").await;
    browser.clear(".user textarea").await;
    browser.type_into(".user textarea", "Second\n").await;
    browser.text(FIGURES).await;
    assert_eq!(browser.text(".bubble").await, "Second");
    assert_eq!(browser.text(ANSWER).await, "Second");
}

#[tokio::test]
async fn a_key_is_asked_for() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let config = allowed("api_keys = ['s3cret']");
    let mut server = ServerOptions::echo(0).config(&config).start();
    open_page(&browser, &mut server).await;
    browser.type_into("#key[open] input", "wrong\n").await;
    let refused = browser.text("#refused:not([hidden])").await;
    assert_eq!(refused, "The server refused the last one.");
    if has_node() {
        browser.check_access("the question for a key").await;
    }
    browser.type_into("#key[open] input", "s3cret\n").await;
    browser.text("#model option[value=echo]").await;
    ask(&browser, "Hello").await;
    browser.text(FIGURES).await;
    assert_eq!(browser.text(ANSWER).await, "Hello");
}

#[tokio::test]
async fn a_browser_that_forbids_storage_can_chat() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    for storage in ["localStorage", "sessionStorage"] {
        let forbid = format!(
            "Object.defineProperty(window, '{storage}', {{ get() {{ throw new Error('forbidden'); }} }});"
        );
        browser.run_first(&forbid).await;
    }
    let config = allowed("api_keys = ['s3cret']");
    let mut server = ServerOptions::echo(0).config(&config).start();
    open_page(&browser, &mut server).await;
    browser.type_into("#key[open] input", "s3cret\n").await;
    browser.text("#model option[value=echo]").await;
    ask(&browser, "Hello").await;
    browser.text(FIGURES).await;
    assert_eq!(browser.text(ANSWER).await, "Hello");
    let told = browser
        .run("return document.getElementById('toast').hidden")
        .await;
    assert_eq!(told, json!(true));
}

#[tokio::test]
async fn a_model_that_is_not_there_is_told() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let mut server = ServerOptions::new(&["tenon_plugin_echo"])
        .file("echo.echo", "0")
        .arguments(&["echo.echo", "--backend", "llama-cpp"])
        .config(&allowed(""))
        .spawn();
    open_page(&browser, &mut server).await;
    let state = browser.text("#model option").await;
    assert!(state.contains("libtenon_plugin_llama_cpp.so"), "{state}");
}

#[tokio::test]
async fn everybody_can_use_it() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    if !has_node() {
        return;
    }
    let mut server = ServerOptions::echo(0).config(&allowed("")).start();
    open_page(&browser, &mut server).await;
    browser.check_access("the empty page").await;
    ask(&browser, "# Title\n\n```\ncode\n```\n\n- item").await;
    browser.text(FIGURES).await;
    browser.check_access("an answer").await;
    browser.click("#theme").await;
    browser.check_access("the other colours").await;
    browser.click("#open-settings").await;
    browser.text("#settings[open] legend").await;
    browser.check_access("the settings").await;
    browser.click("#settings header button").await;
    browser.resize(360, 740).await;
    browser.check_access("a phone").await;
    browser.click("#open-sidebar").await;
    browser.text("#sidebar.open .title").await;
    browser.check_access("the list on a phone").await;
}

/// marked is part of the page. It is the file of its package, whose version is pinned beside the other packages of Node.
#[test]
fn marked_is_the_published_one() {
    if !has_node() {
        return;
    }
    let read = |path: &Path| read_to_string(path).expect("a file");
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/page/marked.js");
    let published = packages("node").join("marked/lib/marked.esm.js");
    assert!(
        read(&kept) == read(&published),
        "copy {published:?} to host/page/marked.js"
    );
}

/// Sends a message. Lines are typed with Shift and Enter.
pub async fn ask(browser: &Browser, message: &str) {
    let typed = message.replace('\n', "\u{e008}\n\u{e008}");
    browser.type_into(INPUT, &typed).await;
    browser.click(SEND).await;
}

/// A configuration in which the server accepts the browser's name for this machine.
pub fn allowed(more: &str) -> String {
    format!("[server]\nallowed_hosts = ['{HOST}']\n{more}")
}

/// Opens the page. Returns the address under which the browser finds the server.
pub async fn open_page(browser: &Browser, server: &mut Server) -> String {
    let address = server.address().replace("127.0.0.1", HOST);
    browser.open(&format!("{address}/")).await;
    address
}
