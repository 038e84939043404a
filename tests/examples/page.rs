//! Prints how much the chat page sends, and how soon a browser shows it and can use it.
//!
//!     cargo run --release -p tenon-tests --example page

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use serde_json::Value;
use tenon_tests::{Browser, Client, HOST, ServerOptions};

/// Loads of the page. The times are medians.
const LOADS: usize = 9;

/// Times by the page's own clock, in milliseconds since the navigation began.
const TIMES: &str = r#"
const [page] = performance.getEntriesByType("navigation");
const [paint] = performance.getEntriesByName("first-contentful-paint");
return [paint?.startTime ?? null, page.domInteractive, page.loadEventEnd];
"#;
/// Waits until the model is shown: from then on a question can be sent.
const USABLE: &str = r#"
const isShown = () => document.getElementById("model")?.value;
return (async () => {
  while (!isShown()) await new Promise(requestAnimationFrame);
  return performance.now();
})();
"#;

#[tokio::main]
async fn main() {
    let config = format!("[server]\nallowed_hosts = ['{HOST}']\n");
    let mut server = ServerOptions::echo(0).config(&config).start();
    let address = server.address().replace("127.0.0.1", HOST);
    let browser = Browser::start().await.expect("chromedriver");
    browser.open(&format!("{address}/")).await;
    browser.run(USABLE).await;
    let requests = browser.requests().await;
    print_sizes(&server.client(), &address, &requests).await;

    let mut loads: Vec<[f64; 4]> = Vec::new();
    for _ in 0..LOADS {
        browser.open(&format!("{address}/")).await;
        let usable = browser.run(USABLE).await;
        let times = browser.run(TIMES).await;
        let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
        let [paint, interactive, loaded] = [0, 1, 2].map(|at| number(&times[at]));
        loads.push([paint, interactive, loaded, number(&usable)]);
    }
    let names = [
        "first contentful paint",
        "DOM interactive",
        "load event",
        "ready for a question",
    ];
    for (at, name) in names.into_iter().enumerate() {
        let mut times: Vec<f64> = loads.iter().map(|load| load[at]).collect();
        times.sort_by(f64::total_cmp);
        println!("{:8.0} ms  {name} (median of {LOADS})", times[LOADS / 2]);
    }
}

/// Prints the size of all files that the page loads, plain and compressed as the server would send them.
async fn print_sizes(client: &Client, address: &str, requests: &[String]) {
    let own = requests.iter().filter_map(|url| url.strip_prefix(address));
    let files = own.filter(|path| *path == "/" || path.starts_with("/page/"));
    let (mut count, mut plain, mut packed) = (0, 0, 0);
    for path in files {
        let request = client.request(reqwest::Method::GET, path);
        let response = request.header("accept", "text/html").send().await;
        let content = response.expect("an answer").bytes().await.expect("a file");
        count += 1;
        plain += content.len();
        packed += gzip(&content);
    }
    println!(
        "{count} files, {:.1} KB, {:.1} KB with gzip",
        plain as f64 / 1e3,
        packed as f64 / 1e3
    );
}

fn gzip(content: &[u8]) -> usize {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to memory does not fail.
    encoder.write_all(content).expect("memory");
    encoder.finish().expect("memory").len()
}
