//! The parts of the chat page in a real browser: reasoning, tools, settings, conversations, files, copying and shortcuts.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tenon_tests::{Browser, PATIENCE, Server, ServerOptions};
use tokio::time::sleep;

use super::chat_page::{ANSWER, FIGURES, INPUT, allowed, ask, open_page};

/// Keys as WebDriver writes them. A second one releases the key.
const CONTROL: char = '\u{e009}';
const ALT: char = '\u{e00a}';
const SETTINGS: &str = "#settings[open]";
const TITLE: &str = "#conversations li:nth-child(1) .title";

#[tokio::test]
async fn reasoning_is_folded_and_calls_take_results() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let script = "=== answer\n<think>Rain matters here.</think><tool_call>\n\
                  {\"name\": \"weather\", \"arguments\": {\"city\": \"Bonn\"}}\n</tool_call>\n\
                  === answer\nIt stays dry.\n";
    let mut server = scripted(script);
    open_page(&browser, &mut server).await;
    let tools = json!([{"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
    }}}]);
    set(&browser, "tools", &tools.to_string()).await;
    assert_eq!(browser.text("#badge").await, "Tools");
    watch_requests(&browser).await;
    ask(&browser, "Do I need an umbrella?").await;
    assert_eq!(browser.text(".call .head code").await, "weather");
    let arguments = browser.text(".call pre").await;
    assert_eq!(arguments, "{\n  \"city\": \"Bonn\"\n}");
    let folded = "return document.querySelector('.reasoning').open";
    assert_eq!(browser.run(folded).await, false);
    browser.click(".reasoning summary").await;
    assert_eq!(
        browser.text(".reasoning .prose").await,
        "Rain matters here."
    );

    browser
        .type_into("[aria-label='Result of weather']", "dry")
        .await;
    browser.click(".rest .editor button").await;
    browser.text(".result + .answer .figures:not(:empty)").await;
    assert_eq!(browser.text(ANSWER).await, "It stays dry.");
    let sent = requests(&browser).await;
    let [first, second] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(first["tools"], tools);
    let [_, call, result] = &second["messages"].as_array().unwrap()[..] else {
        panic!("{second}")
    };
    assert_eq!(call["reasoning_content"], "Rain matters here.");
    assert_eq!(call["tool_calls"][0]["function"]["name"], "weather");
    assert_eq!(result["content"], "dry");
    assert_eq!(result["tool_call_id"], call["tool_calls"][0]["id"]);
}

#[tokio::test]
async fn an_answer_at_its_greatest_length_is_continued() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let mut server = scripted("=== answer\nThe end is not near.\n");
    open_page(&browser, &mut server).await;
    browser.click("#open-settings").await;
    let length = format!("{SETTINGS} [name=max_tokens]");
    browser.clear(&length).await;
    browser.type_into(&length, "7").await;
    close_settings(&browser).await;
    ask(&browser, "Is it?").await;
    let figures = browser.text(FIGURES).await;
    assert!(figures.ends_with("length limit"), "{figures}");
    assert_eq!(browser.text(ANSWER).await, "The end");
    browser.click("#open-settings").await;
    browser.clear(&length).await;
    browser.type_into(&length, "100").await;
    close_settings(&browser).await;
    browser.click("[aria-label='Continue this answer']").await;
    // The button is gone when the answer is complete.
    let complete = ".answer:last-child .actions button:last-of-type[aria-label='Another answer']";
    browser.text(complete).await;
    assert_eq!(browser.text(ANSWER).await, "The end is not near.");
}

#[tokio::test]
async fn settings_are_sent_and_json_is_shown_as_code() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let mut server = echo(&["echo"]);
    open_page(&browser, &mut server).await;
    set(&browser, "system", "Be brief.").await;
    set(&browser, "temperature", "0").await;
    let schema = json!({"type": "object", "properties": {"name": {"enum": ["Ada"]}}, "required": ["name"], "additionalProperties": false});
    let written = schema.to_string();
    let (begin, rest) = written.split_at(9);
    browser.click("#open-settings").await;
    let area = format!("{SETTINGS} [name=schema]");
    browser.type_into(&area, begin).await;
    let told = browser.text("#schema-error:not(:empty)").await;
    assert_eq!(told, "This is not JSON yet.");
    browser.type_into(&area, rest).await;
    browser.text("#schema-error:empty").await;
    close_settings(&browser).await;
    assert_eq!(browser.text("#badge").await, "System prompt, JSON schema");
    watch_requests(&browser).await;
    ask(&browser, "{\"name\":\"Ada\"}").await;
    browser.text(FIGURES).await;
    let shown = browser.text(&format!("{ANSWER} .code pre")).await;
    assert_eq!(shown, "{\n  \"name\": \"Ada\"\n}");
    let sent = &requests(&browser).await[0];
    let system = json!({"role": "system", "content": "Be brief."});
    assert_eq!(sent["messages"][0], system);
    assert_eq!(sent["temperature"], 0);
    assert_eq!(sent["response_format"]["json_schema"]["schema"], schema);
}

#[tokio::test]
async fn conversations_have_their_models_and_can_be_deleted() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let mut server = echo(&["one", "two"]);
    open_page(&browser, &mut server).await;
    watch_requests(&browser).await;
    browser.click("#model option[value=two]").await;
    ask(&browser, "Of the second").await;
    browser.text(FIGURES).await;
    press(&browser, ALT, "n").await;
    browser.text(".welcome").await;
    browser.click("#model option[value=one]").await;
    ask(&browser, "Of the first").await;
    browser.text(FIGURES).await;
    let asked = requests(&browser).await;
    let models: Vec<_> = asked.iter().map(|body| &body["model"]).collect();
    assert_eq!(models, ["two", "one"]);

    wait_for(&browser, TITLE, "Of the first").await;
    browser.click("#conversations li:nth-child(2) .title").await;
    wait_for(&browser, ANSWER, "Of the second").await;
    let model = "return document.querySelector('#model').value";
    assert_eq!(browser.run(model).await, "two");
    browser.click("[aria-label='Delete Of the second']").await;
    browser.text(".welcome").await;
    let titles = "return [...document.querySelectorAll('#conversations .title')].map((title) => title.textContent)";
    assert_eq!(browser.run(titles).await, json!(["Of the first"]));
    browser.click("#toast button").await;
    wait_for(&browser, ANSWER, "Of the second").await;
    let both = json!(["Of the second", "Of the first"]);
    assert_eq!(browser.run(titles).await, both);
    // A deleted conversation stays deleted.
    browser.click("[aria-label='Delete Of the second']").await;
    open_page(&browser, &mut server).await;
    wait_for(&browser, TITLE, "Of the first").await;
    assert_eq!(browser.run(titles).await, json!(["Of the first"]));
}

/// Waits until an element has this text. The page may be drawing it.
async fn wait_for(browser: &Browser, css: &str, text: &str) {
    let script = format!("return document.querySelector({})?.innerText", json!(css));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = browser.run(&script).await;
        if found.as_str().is_some_and(|found| found.trim() == text) {
            return;
        }
        assert!(Instant::now() < deadline, "{found} instead of {text}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn files_are_attached_and_code_is_copied() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let [text, binary] = ["notes.txt", "image.bin"].map(|name| folder.path().join(name));
    std::fs::write(&text, "alpha beta").unwrap();
    std::fs::write(&binary, [0; 9]).unwrap();
    let mut server = echo(&["echo"]);
    open_page(&browser, &mut server).await;
    browser
        .type_into("#files", &binary.display().to_string())
        .await;
    let refused = browser.text("#toast:not([hidden])").await;
    assert!(refused.contains("image.bin is not attached"), "{refused}");
    browser
        .type_into("#files", &text.display().to_string())
        .await;
    assert_eq!(browser.text("#attachments span").await, "notes.txt");
    watch_requests(&browser).await;
    ask(&browser, "Read this").await;
    browser.text(FIGURES).await;
    let sent = &requests(&browser).await[0]["messages"][0]["content"];
    assert_eq!(sent, "notes.txt:\n```\nalpha beta\n```\n\nRead this");
    assert_eq!(browser.text(".user .file summary").await, "notes.txt");

    browser
        .click(&format!("{ANSWER} [aria-label='Copy code']"))
        .await;
    press(&browser, CONTROL, "v").await;
    let typed = "return document.querySelector('#input').value";
    assert_eq!(browser.run(typed).await, "alpha beta");
}

/// A server of the model `scripted`, which gives these answers and thinks in `<think>`.
fn scripted(script: &str) -> Server {
    let models = "[[models]]\nid = 'scripted'\npath = 'model.scripted'\nreasoning_tags = ['<think>', '</think>']\n";
    ServerOptions::new(&["tenon_fixture_scripted"])
        .file("model.scripted", script)
        .config(&allowed(models))
        .start()
}

/// A server of echo models with these names.
fn echo(names: &[&str]) -> Server {
    let models = names.iter();
    let models = models.map(|name| format!("[[models]]\nid = '{name}'\npath = 'echo.echo'\n"));
    ServerOptions::new(&["tenon_plugin_echo"])
        .file("echo.echo", "0")
        .config(&allowed(&models.collect::<String>()))
        .start()
}

/// Types into a field of the settings.
async fn set(browser: &Browser, field: &str, value: &str) {
    browser.click("#open-settings").await;
    let field = format!("{SETTINGS} [name={field}]");
    browser.type_into(&field, value).await;
    close_settings(browser).await;
}

async fn close_settings(browser: &Browser) {
    browser.click(&format!("{SETTINGS} header button")).await;
}

/// Presses a key with another one held, in the box for messages.
async fn press(browser: &Browser, held: char, key: &str) {
    browser
        .type_into(INPUT, &format!("{held}{key}{held}"))
        .await;
}

/// Keeps the bodies of the requests that the page sends from now on.
async fn watch_requests(browser: &Browser) {
    let watch = "window.sent = [];\
        const send = window.fetch;\
        window.fetch = (path, options) => {\
            if (options?.body) window.sent.push(JSON.parse(options.body));\
            return send(path, options);\
        }";
    browser.run(watch).await;
}

async fn requests(browser: &Browser) -> Vec<Value> {
    let sent = browser.run("return window.sent").await;
    sent.as_array().unwrap().clone()
}
