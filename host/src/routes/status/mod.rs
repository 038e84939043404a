//! The status page. The server renders all of it: the page has no script and loads nothing.

mod plot;
mod words;

use std::{
    process,
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use axum::{
    extract::{Query, State},
    http::{
        HeaderName,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, REFRESH,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::{Html, IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use minijinja::{Environment, value::Serde};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::{
    plot::Plot,
    words::{age, bytes, number, share, state, time},
};
use super::{health::server_status, metrics::refresh};
use crate::{
    app::App,
    error::{AdminError, AnyError, ApiError},
    metrics::{Gauges, Slice, Totals},
    models::{ModelState, ServedModel},
    system::memory::resident_bytes,
    telemetry::recent_problems,
};

const PAGE: &str = "status.html";
const STYLE: &str = include_str!("status.css");

/// With this policy a browser loads nothing for the page, and applies no style but the page's own.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

const HEADERS: [(HeaderName, &str); 3] = [
    (CACHE_CONTROL, "no-store"),
    (REFERRER_POLICY, "no-referrer"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

/// The query parameters of the page.
#[derive(Deserialize)]
pub struct Wanted {
    /// `off`: the browser does not ask again by itself.
    refresh: Option<String>,
}

/// Shows the state of the server to people: models, workers, queue, tokens a second and recent problems.
///
/// If the server has admin keys, a browser asks for one as a password; the user name does not matter. The page is loaded again
/// every 10 seconds, but not with `refresh=off`.
#[utoipa::path(
    get,
    path = "/status",
    tag = "Administration",
    params(("refresh" = Option<String>, Query, description = "`off`: a browser does not ask again by itself.")),
    responses(
        (status = 200, description = "The page.", body = String, content_type = "text/html"),
        AnyError,
        AdminError,
    ),
)]
pub async fn status(
    State(app): State<Arc<App>>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, ApiError> {
    refresh(&app).await;
    let refreshes = wanted.refresh.as_deref() != Some("off");
    let html = render(&Page::new(&app, refreshes))?;
    let policy = [(CONTENT_SECURITY_POLICY, POLICY.as_str())];
    let again = refreshes.then_some([(REFRESH, "10")]);
    Ok((HEADERS, policy, again, Html(html)).into_response())
}

fn render(page: &Page) -> Result<String, ApiError> {
    // Because the template's name ends with `.html`, values are escaped as HTML.
    let mut templates = Environment::new();
    let html = templates.add_template(PAGE, include_str!("status.html"));
    let html = html.and_then(|()| templates.get_template(PAGE)?.render(Serde(page)));
    html.map_err(|error| {
        ApiError::internal(format!("the status page cannot be written: {error:#}"))
    })
}

/// The values of the template.
#[derive(Serialize)]
struct Page {
    style: &'static str,
    version: &'static str,
    refreshes: bool,
    now: String,
    status: &'static str,
    is_well: bool,
    process: ProcessRow,
    running: u64,
    waiting: u64,
    requests: u64,
    failures: u64,
    models: Vec<ModelRow>,
    workers: Vec<WorkerRow>,
    last_minute: Rates,
    plot: Plot,
    problems: Vec<ShownProblem>,
}

#[derive(Serialize)]
struct ProcessRow {
    id: u32,
    age: String,
    memory: String,
}

#[derive(Serialize)]
struct ModelRow {
    id: String,
    state: String,
    is_well: bool,
    level: String,
    running: u64,
    waiting: u64,
    kv: String,
}

#[derive(Serialize)]
struct WorkerRow {
    model: String,
    plugin: String,
    process: String,
    memory: String,
    age: String,
    restarts: u32,
}

/// Tokens a second.
#[derive(Serialize)]
struct Rates {
    answers: String,
    prompts: String,
}

#[derive(Serialize)]
struct ShownProblem {
    at: String,
    age: String,
    text: String,
}

impl Page {
    fn new(app: &App, refreshes: bool) -> Self {
        let now = app.now();
        let gauges = app.metrics.gauges();
        let models: Vec<_> = now
            .models
            .iter()
            .map(|served| ModelRow::new(served, &gauges))
            .collect();
        let slices = app.metrics.history.slices();
        let counted = |count: fn(&Totals) -> f64| {
            slices
                .iter()
                .map(|slice| count(&slice.counted))
                .sum::<f64>() as u64
        };
        let (status, is_well) = server_status(app);
        let since = app.started.elapsed();
        let process = process::id();
        Self {
            style: STYLE,
            version: env!("CARGO_PKG_VERSION"),
            refreshes,
            now: time(SystemTime::now()),
            status,
            is_well,
            process: ProcessRow {
                id: process,
                age: age(since),
                memory: bytes(resident_bytes(process)),
            },
            running: models.iter().map(|model| model.running).sum(),
            waiting: models.iter().map(|model| model.waiting).sum(),
            requests: counted(|counted| counted.requests),
            failures: counted(|counted| counted.failures),
            models,
            workers: now
                .models
                .iter()
                .filter_map(|served| WorkerRow::new(served))
                .collect(),
            last_minute: Rates::new(&slices),
            plot: Plot::new(&slices),
            problems: problems(),
        }
    }
}

impl ModelRow {
    fn new(served: &ServedModel, gauges: &Gauges) -> Self {
        let (state, is_well, level) = state(served);
        let gauge = |name| gauges.of(name, &served.id);
        Self {
            state,
            is_well,
            level,
            running: gauge("tenon_engine_running_sequences") as u64,
            waiting: gauge("tenon_engine_waiting_sequences") as u64,
            kv: share(
                gauge("tenon_engine_kv_running_tokens"),
                gauge("tenon_engine_kv_total_tokens"),
            ),
            id: served.id.clone(),
        }
    }
}

impl WorkerRow {
    /// None if the model is not loaded.
    fn new(served: &ServedModel) -> Option<Self> {
        let ModelState::Ready(model) = served.state() else {
            return None;
        };
        let (spec, process) = (&model.spec, model.runner.process_id());
        let since = model.created.elapsed().unwrap_or_default();
        Some(Self {
            model: served.id.clone(),
            plugin: format!("{} {}", spec.backend, spec.plugin_version),
            process: process.map_or("the server's".to_owned(), |process| process.to_string()),
            memory: bytes(process.and_then(resident_bytes)),
            age: age(since),
            restarts: served.restarts(),
        })
    }
}

impl Rates {
    /// The rates of the last minute.
    fn new(slices: &[Slice]) -> Self {
        let minute = Duration::from_secs(60);
        let last: Vec<_> = slices.iter().filter(|slice| slice.age < minute).collect();
        let seconds: f64 = last.iter().map(|slice| slice.length.as_secs_f64()).sum();
        let rate = |tokens: fn(&Totals) -> f64| {
            let tokens: f64 = last.iter().map(|slice| tokens(&slice.counted)).sum();
            number(tokens / seconds.max(1.0))
        };
        Self {
            answers: rate(|counted| counted.completion_tokens),
            prompts: rate(|counted| counted.prompt_tokens),
        }
    }
}

fn problems() -> Vec<ShownProblem> {
    let problems = recent_problems().into_iter();
    let shown = problems.map(|problem| ShownProblem {
        at: time(problem.at),
        age: age(problem.at.elapsed().unwrap_or_default()),
        text: problem.text,
    });
    shown.collect()
}
