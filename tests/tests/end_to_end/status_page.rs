//! The status page: who gets it, what it shows, and how it looks in a real browser.

use std::time::Duration;

use regex::Regex;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tenon_tests::{Browser, Client, HOST, Held, ServerOptions, chat, has_node, kill};
use tokio::time::sleep;

const STATUS: &str = "/status";
const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn it_shows_models_workers_and_what_went_wrong() {
    let config = "[[models]]\npath = 'echo.echo'\n[[models]]\nid = 'lazy'\npath = 'echo.echo'\nload = 'on-demand'\n\
                  [[models]]\nid = '<b>gone</b>'\npath = 'gone.echo'\n";
    let mut server = ServerOptions::new(&["tenon_plugin_echo"])
        .file("echo.echo", "0")
        .config(config)
        .start();
    server.wait_for_log("model failed");
    let client = server.client();
    let response = get(&client, STATUS).await;
    assert_eq!(response.status(), StatusCode::OK);
    let headers = response.headers().clone();
    assert_eq!(headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["refresh"], "10");
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-"),
        "{policy}"
    );
    let page = response.text().await.unwrap();
    let (_, models) = client.get("/admin/models").await;
    let worker = &models["data"][0]["loaded"]["process_id"];
    for text in [
        "answers requests, but not with all models",
        "<code>echo</code></th><td class=\"words\">answers</td>",
        "<code>lazy</code></th><td class=\"words\">is not loaded; a request loads it</td>",
        "<code>&lt;b&gt;gone&lt;&#x2f;b&gt;</code></th><td class=\"words bad\">failed: ",
        &format!("<td class=\"number\">{worker}</td>"),
        &format!("process {}", server.pid()),
        " ago</time> model failed: ",
    ] {
        assert!(page.contains(text), "no {text} in {page}");
    }
    assert!(
        !page.contains("<script") && !page.contains("http://") && !page.contains("https://"),
        "{page}"
    );
    let still = get(&client, "/status?refresh=off").await;
    assert!(!still.headers().contains_key("refresh"));
}

#[tokio::test]
async fn it_shows_how_many_tokens_are_made() {
    let mut server = ServerOptions::echo(0).start();
    let client = server.client();
    assert!(
        client
            .get_text(STATUS)
            .await
            .contains("answers, 0 in the last minute")
    );
    // Samples are taken every 5 seconds. The first one was taken at the start.
    let mut page = String::new();
    for _ in 0..100 {
        client
            .chat(&"x".repeat(500), json!({"temperature": 0}))
            .await;
        page = client.get_text(STATUS).await;
        if !page.contains("answers, 0 in the last minute") {
            break;
        }
        sleep(Duration::from_millis(200)).await;
    }
    assert!(!page.contains("answers, 0 in the last minute"), "{page}");
    // The line's right end is the last sample, which is at most 10 seconds old: 600 is now, 1 is a second.
    let (_, line) = page
        .split_once("<polyline class=\"answers\" points=\"")
        .unwrap();
    let (right, _) = line.split_once(',').unwrap();
    assert!(right.parse::<f64>().unwrap() > 590.0, "{page}");
    assert!(
        !page.contains("<dt>Requests in 10 minutes</dt><dd>0</dd>"),
        "{page}"
    );
}

/// A worker is killed, then one request runs and one waits, and two others fail.
#[tokio::test]
async fn its_numbers_are_those_of_the_server() {
    let config = "[engine]\nmax_sequences = 1\nkv_tokens = 4096\nmax_draft_tokens = 0\n\
                  [[models]]\npath = 'slow.echo'\n[[models]]\nid = 'gone'\npath = 'gone.echo'\n";
    let mut server = ServerOptions::new(&["tenon_plugin_echo"])
        .file("slow.echo", "20")
        .config(config)
        .start();
    server.wait_for_log("model ready model=\"slow\"");
    let client = server.client();
    let process = async || {
        let (_, models) = client.get("/admin/models").await;
        let process = models["data"][0]["loaded"]["process_id"].as_u64();
        process.and_then(|process| u32::try_from(process).ok())
    };
    let killed = process().await.unwrap();
    kill(killed);
    let worker = loop {
        match process().await {
            Some(process) if process != killed => break process,
            _ => sleep(Duration::from_millis(20)).await,
        }
    };
    let long = chat(&"x".repeat(2000), json!({"temperature": 0}));
    let mut running = client.open(CHAT, &long).await;
    running.next_text().await;
    let waiting = tokio::spawn({
        let (client, long) = (client.clone(), long.clone());
        async move { client.post(CHAT, &long).await }
    });
    client
        .wait_for_metric("tenon_engine_waiting_sequences", 1.0)
        .await;

    let used = async || client.metric("tenon_engine_kv_running_tokens").await / 40.96;
    let before = used().await;
    let page = client.get_text(STATUS).await;
    let after = used().await;
    for text in ["<dd id=\"running\">1</dd>", "<dd id=\"waiting\">1</dd>"] {
        assert!(page.contains(text), "no {text} in {page}");
    }
    let numbers = |row: &str| {
        let row = Regex::new(&format!("<code>slow</code></th>{row}</tr>")).unwrap();
        let found = row.captures(&page).expect("a row");
        [&found[1], &found[2]].map(|number| number.parse::<f64>().unwrap())
    };
    let number = "<td class=\"number\">";
    let [waits, share] = numbers(&format!(
        "<td class=\"words\">answers</td><td>[^<]*</td>{number}1</td>{number}(\\d+)</td>{number}(\\d+) %</td>"
    ));
    assert_eq!(waits, 1.0);
    assert!((before - 0.5..=after + 0.5).contains(&share), "{page}");
    let [process, memory] = numbers(&format!(
        "<td class=\"words\">[^<]*echo[^<]*</td>{number}(\\d+)</td>{number}(\\d+) MiB</td>{number}\\d+ s</td>{number}1</td>"
    ));
    assert_eq!(process, f64::from(worker));
    let held = Held::by_process(worker).resident_mb as f64;
    assert!((memory * 1.048 - held).abs() < 10.0, "{memory}, {held}");

    // Samples are taken every 5 seconds.
    for _ in 0..2 {
        let request = chat("Hi", json!({"model": "gone"}));
        assert_eq!(client.post(CHAT, &request).await.0, 503);
    }
    let failures = "<dt>Failed of them</dt><dd class=\"bad\">2</dd>";
    for _ in 0..100 {
        if client.get_text(STATUS).await.contains(failures) {
            break;
        }
        sleep(Duration::from_millis(200)).await;
    }
    let page = client.get_text(STATUS).await;
    assert!(page.contains(failures), "{page}");
    waiting.abort();
}

#[tokio::test]
async fn it_needs_an_admin_key_which_a_browser_sends_as_a_password() {
    let config = "[server]\napi_keys = ['user']\nadmin_keys = ['ops']\n";
    let mut server = ServerOptions::echo(0).config(config).start();
    let client = server.client();
    let refused = get(&client, STATUS).await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        refused.headers()["www-authenticate"],
        "Basic realm=\"Tenon\", charset=\"UTF-8\""
    );
    let of_user = get(&client.with_key("user"), STATUS).await;
    assert_eq!(of_user.status(), StatusCode::FORBIDDEN);
    assert_eq!(
        get(&client.with_key("ops"), STATUS).await.status(),
        StatusCode::OK
    );
    for (password, expected) in [("ops", 200), ("user", 403), ("wrong", 401)] {
        let request = client
            .request(Method::GET, STATUS)
            .basic_auth("anybody", Some(password));
        assert_eq!(
            request.send().await.unwrap().status(),
            expected,
            "{password}"
        );
    }
    // Browsers send a password by themselves, also for pages of others. So it changes nothing.
    for path in ["/admin/models/echo/unload", CHAT] {
        let request = client
            .request(Method::POST, path)
            .basic_auth("anybody", Some("ops"));
        let refused = request.json(&chat("x", json!({}))).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(refused.headers()["www-authenticate"], "Bearer");
    }
}

#[tokio::test]
async fn without_an_admin_key_it_is_for_this_machine() {
    let mut server = ServerOptions::echo(0).start();
    let request = server.client().request(Method::GET, STATUS);
    let forwarded = request.header("x-forwarded-for", "192.0.2.1").send().await;
    assert_eq!(forwarded.unwrap().status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn it_is_with_administration() {
    let mut server = ServerOptions::new(&["tenon_plugin_echo"])
        .file("echo.echo", "0")
        .config("[server]\nlisten = '127.0.0.1:0'\nadmin_listen = 'unix:admin.sock'\n[[models]]\npath = 'echo.echo'\n")
        .addresses_of_config()
        .start();
    assert_eq!(
        get(&server.client(), STATUS).await.status(),
        StatusCode::NOT_FOUND
    );
    let admin = Client::of_socket(&server.home().join("admin.sock"));
    assert_eq!(get(&admin, STATUS).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn everybody_can_read_it() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    if !has_node() {
        return;
    }
    let config = format!("[server]\nallowed_hosts = ['{HOST}']\nadmin_keys = ['ops']\n");
    let mut server = ServerOptions::echo(0).config(&config).start();
    let address = server.address().replace("127.0.0.1", HOST);
    let with_password = address.replace("http://", "http://anybody:ops@");
    browser
        .open(&format!("{with_password}/status?refresh=off"))
        .await;
    assert_eq!(browser.text("h1").await, "Tenon answers requests");
    assert_eq!(browser.text("tbody th").await, "echo");
    browser.check_access("the page").await;
    let light = background(&browser).await;
    browser.prefer("dark").await;
    assert_ne!(background(&browser).await, light);
    browser.check_access("the page in dark colours").await;
    browser.resize(360, 740).await;
    browser.check_access("the page on a phone").await;
    for url in browser.requests().await {
        let stays = [address.as_str(), with_password.as_str(), "data:", "chrome:"];
        assert!(stays.iter().any(|start| url.starts_with(start)), "{url}");
    }
    let link = browser.text("header a").await;
    assert_eq!(link, "Refresh every 10 seconds");
}

async fn background(browser: &Browser) -> Value {
    browser
        .run("return getComputedStyle(document.body).backgroundColor")
        .await
}

async fn get(client: &Client, path: &str) -> Response {
    client
        .request(Method::GET, path)
        .send()
        .await
        .expect("an answer")
}
