//! A real browser: headless Chromium or Chrome, driven by chromedriver over WebDriver.

use std::{
    env,
    fs::read_to_string,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{PATIENCE, packages, plain_http};

/// The browser's name for this machine. With `localhost`, Swagger UI would send fewer requests to other hosts.
pub const HOST: &str = "tenon.test";

/// A browser with one open page. Dropping it closes the browser.
pub struct Browser {
    http: reqwest::Client,
    driver: Driver,
    /// Path for the driver's commands.
    session: String,
}

impl Browser {
    /// A new browser. None if chromedriver is not installed; CI does not accept that.
    pub async fn start() -> Option<Self> {
        let Some(driver) = Driver::start() else {
            assert!(env::var_os("CI").is_none(), "chromedriver is not installed");
            eprintln!("skipped: chromedriver is not installed (.ci/setup --ci installs it)");
            return None;
        };
        let sessions = format!("http://{}/session", driver.address);
        let mut browser = Self {
            http: plain_http().build().expect("a client"),
            session: sessions.clone(),
            driver,
        };
        let capabilities = json!({"alwaysMatch": browser.driver.capabilities()});
        let session = browser
            .post("", json!({"capabilities": capabilities}))
            .await;
        let id = session["sessionId"].as_str().expect("a session");
        browser.session = format!("{sessions}/{id}");
        Some(browser)
    }

    /// Opens a page.
    pub async fn open(&self, url: &str) {
        self.post("/url", json!({"url": url})).await;
    }

    /// Clicks on an element as soon as it exists.
    pub async fn click(&self, css: &str) {
        self.on(css, Method::POST, "click", json!({})).await;
    }

    /// Types into an element as soon as it exists.
    pub async fn type_into(&self, css: &str, text: &str) {
        self.on(css, Method::POST, "value", json!({"text": text}))
            .await;
    }

    /// The text of an element as soon as it exists.
    pub async fn text(&self, css: &str) -> String {
        let text = self.on(css, Method::GET, "text", json!(null)).await;
        text.as_str().expect("a text").to_owned()
    }

    /// Clears an element as soon as it exists.
    pub async fn clear(&self, css: &str) {
        self.on(css, Method::POST, "clear", json!({})).await;
    }

    /// Runs a script on the page, and returns what it returns. A promise is waited for.
    pub async fn run(&self, script: &str) -> Value {
        let script = json!({"script": script, "args": []});
        self.post("/execute/sync", script).await
    }

    /// Shows the page at this size, in pixels. The window itself cannot be narrower than 500.
    pub async fn resize(&self, width: u32, height: u32) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.command("Emulation.setDeviceMetricsOverride", size)
            .await;
    }

    /// Runs a script in every page that is opened from now on, before the page's own scripts.
    pub async fn run_first(&self, script: &str) {
        self.command(
            "Page.addScriptToEvaluateOnNewDocument",
            json!({"source": script}),
        )
        .await;
    }

    /// Makes the browser prefer `light` or `dark` colours.
    pub async fn prefer(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.command("Emulation.setEmulatedMedia", json!({"features": features}))
            .await;
    }

    /// Sends a command of the Chrome DevTools Protocol.
    async fn command(&self, name: &str, parameters: Value) {
        let command = json!({"cmd": name, "params": parameters});
        self.post("/goog/cdp/execute", command).await;
    }

    /// Checks that axe-core finds nothing serious on the page, and that nothing is wider than the window.
    pub async fn check_access(&self, what: &str) {
        let axe = packages("node").join("axe-core/axe.min.js");
        self.run(&read_to_string(axe).expect("axe-core")).await;
        let run = "return axe.run().then(({violations}) => violations.filter(({impact}) => ['serious', 'critical'].includes(impact)))";
        let found = self.run(run).await;
        assert_eq!(found, json!([]), "{what}: {found:#}");
        let beyond = "return document.documentElement.scrollWidth - innerWidth";
        let beyond = self.run(beyond).await;
        assert!(
            beyond.as_i64().is_some_and(|pixels| pixels <= 0),
            "{what}: {beyond}"
        );
    }

    /// The addresses of all requests since the last call.
    pub async fn requests(&self) -> Vec<String> {
        let entries = self.post("/se/log", json!({"type": "performance"})).await;
        let events = entries.as_array().expect("a log").iter().map(|entry| {
            let event = entry["message"].as_str().expect("an event");
            serde_json::from_str::<Value>(event).expect("JSON")["message"].take()
        });
        events
            .filter(|event| event["method"] == "Network.requestWillBeSent")
            .map(|event| {
                event["params"]["request"]["url"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect()
    }

    /// Does something with an element as soon as it exists.
    async fn on(&self, css: &str, method: Method, action: &str, body: Value) -> Value {
        loop {
            let path = format!("{}/{action}", self.find(css).await);
            match self.ask(method.clone(), &path, &body).await {
                Ok(answer) => return answer,
                // The page has put another element into its place since.
                Err(error) if error["error"] == "stale element reference" => {}
                Err(error) => panic!("{css} {action} {body}: {error:#}"),
            }
        }
    }

    async fn find(&self, css: &str) -> String {
        let selector = json!({"using": "css selector", "value": css});
        let element = self.post("/element", selector).await;
        let id = element
            .as_object()
            .and_then(|element| element.values().next());
        format!(
            "/element/{}",
            id.and_then(Value::as_str).expect("an element")
        )
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let answer = self.ask(Method::POST, path, &body).await;
        answer.unwrap_or_else(|error| panic!("{path} {body}: {error:#}"))
    }

    /// Sends a command. Returns the value of its answer, or the error.
    async fn ask(&self, method: Method, path: &str, body: &Value) -> Result<Value, Value> {
        let mut request = self.http.request(method, format!("{}{path}", self.session));
        if !body.is_null() {
            request = request.json(body);
        }
        let response = request.send().await.expect("chromedriver answers");
        let status = response.status();
        let mut answer: Value = response.json().await.expect("JSON");
        let value = answer["value"].take();
        if status.is_success() {
            Ok(value)
        } else {
            Err(value)
        }
    }
}

/// Chromedriver and the browser that it starts.
struct Driver {
    process: Child,
    address: String,
    profile: TempDir,
}

impl Driver {
    /// Most attempts to start. A driver takes a port that is free for IPv6, and ends if another program has it for IPv4.
    const ATTEMPTS: usize = 5;

    fn start() -> Option<Self> {
        for _ in 0..Self::ATTEMPTS {
            let mut process = Command::new("chromedriver")
                .arg("--port=0")
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .ok()?;
            let output = BufReader::new(process.stdout.take().expect("a pipe"));
            let started = output
                .lines()
                .map_while(Result::ok)
                .find(|line| line.contains("started successfully on port "));
            let Some(line) = started else {
                process.wait().expect("the end of chromedriver");
                continue;
            };
            let (_, port) = line.rsplit_once(' ').expect("a port");
            return Some(Self {
                process,
                address: format!("127.0.0.1:{}", port.trim_end_matches('.')),
                profile: TempDir::new().expect("a temporary directory"),
            });
        }
        panic!("chromedriver does not start");
    }

    fn capabilities(&self) -> Value {
        let profile = format!("--user-data-dir={}", self.profile.path().display());
        // No other host can be reached, so nothing else can fill the page.
        let hosts = format!("--host-resolver-rules=MAP {HOST} 127.0.0.1, MAP * ~NOTFOUND");
        let arguments = [
            "--headless",
            // Chromium refuses to run as root with its sandbox.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            // WebDriver finds no text in an element that is still fading in.
            "--force-prefers-reduced-motion",
            "--window-size=1200,1600",
            &hosts,
            &profile,
        ];
        json!({
            "browserName": "chrome",
            "timeouts": {"implicit": PATIENCE.as_millis(), "script": PATIENCE.as_millis()},
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"performance": "ALL"},
        })
    }
}

impl Drop for Driver {
    /// Asks the driver to shut down. Killing it would leave the browser running.
    fn drop(&mut self) {
        let request = format!("GET /shutdown HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        let asked = TcpStream::connect(&self.address)
            .and_then(|mut stream| stream.write_all(request.as_bytes()));
        if asked.is_err() {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}
