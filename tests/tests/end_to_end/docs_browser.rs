//! The documentation at `/docs`, used in a real browser.

use tenon_tests::{Browser, HOST, Server, ServerOptions};

const CHAT: &str = "#operations-Generation-chat_completions .opblock-summary-control";
const AUTHORIZE: &str = ".auth-wrapper .authorize";
const KEY: &str = ".auth-container input";
const SAVE_KEY: &str = ".auth-container .authorize";
const CLOSE: &str = ".auth-container .btn-done";
const TRY: &str = ".try-out__btn";
const STREAM: &str = ".examples-select option[value=Stream]";
const EXECUTE: &str = ".execute";
const CLEAR: &str = ".btn-clear";
const STATUS: &str = ".live-responses-table .response .response-col_status";
const ANSWER: &str = ".live-responses-table .response .response-col_description";

#[tokio::test]
async fn a_chat_can_be_tried_and_nothing_leaves_the_host() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let mut server = ServerOptions::echo(0).config(&allowed("")).start();
    let address = open_docs(&browser, &mut server).await;
    browser.click(CHAT).await;
    browser.click(TRY).await;
    browser.click(EXECUTE).await;
    assert_eq!(browser.text(STATUS).await, "200");
    let answer = browser.text(ANSWER).await;
    // The model repeats the question.
    let expected = r#""content": "What is the capital of Japan?""#;
    assert!(answer.contains(expected), "{answer}");

    browser.click(CLEAR).await;
    browser.click(STREAM).await;
    browser.click(EXECUTE).await;
    assert_eq!(browser.text(STATUS).await, "200");
    let answer = browser.text(ANSWER).await;
    assert!(answer.contains("data: [DONE]"), "{answer}");

    let requests = browser.requests().await;
    let chats = format!("{address}/v1/chat/completions");
    let chats = requests.iter().filter(|url| **url == chats);
    assert_eq!(chats.count(), 2, "{requests:#?}");
    for url in &requests {
        // Requests of the other two kinds never reach the network.
        let stays = [address.as_str(), "data:", "chrome:"];
        let stays = stays.iter().any(|start| url.starts_with(start));
        assert!(stays, "{url}");
    }
}

#[tokio::test]
async fn a_key_can_be_given() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let config = allowed("api_keys = ['s3cret']");
    let mut server = ServerOptions::echo(0).config(&config).start();
    open_docs(&browser, &mut server).await;
    browser.click(CHAT).await;
    browser.click(TRY).await;
    browser.click(EXECUTE).await;
    assert_eq!(browser.text(STATUS).await, "401");

    browser.click(CLEAR).await;
    browser.click(AUTHORIZE).await;
    browser.type_into(KEY, "s3cret").await;
    browser.click(SAVE_KEY).await;
    browser.click(CLOSE).await;
    browser.click(EXECUTE).await;
    assert_eq!(browser.text(STATUS).await, "200");
}

/// A configuration in which the server accepts the browser's name for this machine.
fn allowed(keys: &str) -> String {
    format!("[server]\nallowed_hosts = ['{HOST}']\n{keys}")
}

/// Opens the page. Returns the address under which the browser finds the server.
async fn open_docs(browser: &Browser, server: &mut Server) -> String {
    let address = server.address().replace("127.0.0.1", HOST);
    browser.open(&format!("{address}/docs")).await;
    address
}
