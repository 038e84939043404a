//! The span of a request, and the metrics that are recorded at its end.

use std::time::Instant;

use axum::{
    extract::Request,
    http::{header::HOST, uri::Authority},
};
use opentelemetry::{
    Array, Context, KeyValue, StringValue, Value,
    propagation::TextMapPropagator,
    trace::{Span as _, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer},
};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::trace::Span;

use super::{Otel, TENON};
use crate::{
    keys::{Account, AnswerEnd, StatedParameters},
    text::quoted,
};

/// The span of a request, from the arrival of its head to the end of its answer.
pub struct RequestSpan {
    span: Span,
    /// None: the request is for no model.
    operation: Option<&'static str>,
    started: Instant,
}

/// How a request ended.
pub struct RequestEnd<'a> {
    pub account: &'a Account,
    pub request_id: Option<&'a str>,
    pub status: u16,
    /// The kind of the error that the request was answered with.
    pub error: Option<&'static str>,
    /// Whether the whole answer was sent.
    pub is_complete: bool,
}

impl Otel {
    /// Begins the span of a request at a route. A request that only reads, such as a probe, has one only if its client traces it.
    pub fn begin(&self, request: &Request, route: &str) -> Option<RequestSpan> {
        let headers = HeaderExtractor(request.headers());
        let parent = self
            .propagator
            .extract_with_context(&Context::new(), &headers);
        let is_traced = parent.span().span_context().is_valid();
        if request.method().is_safe() && !is_traced {
            return None;
        }
        let method = quoted(request.method().as_str());
        let builder = SpanBuilder::from_name(format!("{method} {route}"))
            .with_kind(SpanKind::Server)
            .with_attributes(of_head(request, route));
        Some(RequestSpan {
            span: self.tracer.build_with_context(builder, &parent),
            operation: operation(route),
            started: Instant::now(),
        })
    }

    /// Ends a span.
    pub fn end(&self, span: RequestSpan, end: &RequestEnd) {
        let error = end.error();
        if let Some(operation) = span.operation {
            self.count(operation, span.started, end, error);
        }
        span.end(end, error);
    }

    fn count(
        &self,
        operation: &'static str,
        started: Instant,
        end: &RequestEnd,
        error: Option<&'static str>,
    ) {
        let RequestEnd { account, .. } = end;
        let mut labels = of_operation(operation);
        if let Some(model) = account.model() {
            // The model's id and not the requested name: a client could send any number of names, and each would be a series.
            labels.push(KeyValue::new("gen_ai.request.model", model.to_owned()));
            labels.push(KeyValue::new("gen_ai.response.model", model.to_owned()));
        }
        for answer in account
            .answers
            .ends()
            .iter()
            .filter(|end| end.is_finished())
        {
            if let Some(first) = answer.first_token {
                self.instruments.first_token(first - started, &labels);
            }
            if let Some(time) = answer.per_token {
                self.instruments.per_token(time, &labels);
            }
        }
        for (kind, tokens) in [
            ("input", account.prompt_tokens()),
            ("output", account.completion_tokens()),
        ] {
            if tokens > 0 {
                self.instruments.tokens(kind, tokens, &labels);
            }
        }
        labels.extend(error.map(|error| KeyValue::new("error.type", error)));
        self.instruments.request(started.elapsed(), &labels);
    }
}

impl RequestEnd<'_> {
    /// The class of the error. None if there was none.
    fn error(&self) -> Option<&'static str> {
        let failed = || {
            self.account
                .answers
                .ends()
                .iter()
                .any(|end| end.reason == "error")
        };
        match self.status {
            _ if !self.is_complete => Some("cancelled"),
            400.. => self.error.or(Some("_OTHER")),
            _ => failed().then_some("answer_failed"),
        }
    }
}

impl RequestSpan {
    fn end(mut self, end: &RequestEnd, error: Option<&'static str>) {
        let RequestEnd { account, .. } = end;
        let span = &mut self.span;
        span.set_attribute(KeyValue::new(
            "http.response.status_code",
            i64::from(end.status),
        ));
        if let Some(id) = end.request_id {
            let ids = Array::String(vec![StringValue::from(id.to_owned())]);
            span.set_attribute(KeyValue::new(
                "http.response.header.x-request-id",
                Value::Array(ids),
            ));
        }
        if let Some(key) = account.key() {
            span.set_attribute(KeyValue::new("tenon.key", key.name.clone()));
        }
        if let Some(error) = error {
            span.set_attribute(KeyValue::new("error.type", error));
            // By the conventions of HTTP, a client's mistake or cancellation is no error of the server.
            if end.is_complete && !(400..500).contains(&end.status) {
                span.set_status(Status::error(error));
            }
        }
        if let Some(operation) = self.operation {
            let asked = account.answers.asked_model().or(account.model());
            if let Some(model) = asked {
                span.update_name(format!("{operation} {}", quoted(model)));
            }
            span.set_attributes(of_operation(operation));
            span.set_attributes(of_answers(account, self.started));
        }
        span.end();
    }
}

/// The name of a route's operation in the GenAI conventions. None if the route is for no model.
fn operation(route: &str) -> Option<&'static str> {
    match route {
        "/v1/chat/completions" | "/v1/messages" | "/v1/responses" => Some("chat"),
        "/v1/completions" => Some("text_completion"),
        "/v1/embeddings" => Some("embeddings"),
        "/v1/rerank" | "/rerank" => Some("rerank"),
        "/v1/score" => Some("score"),
        _ => None,
    }
}

fn of_operation(operation: &'static str) -> Vec<KeyValue> {
    vec![
        KeyValue::new("gen_ai.operation.name", operation),
        KeyValue::new("gen_ai.provider.name", TENON),
    ]
}

/// The attributes that are known when a request's head has arrived.
fn of_head(request: &Request, route: &str) -> Vec<KeyValue> {
    let text = |text: &str| quoted(text).into_owned();
    let uri = request.uri();
    let mut attributes = vec![
        KeyValue::new("http.request.method", text(request.method().as_str())),
        KeyValue::new("http.route", route.to_owned()),
        KeyValue::new("url.path", text(uri.path())),
    ];
    let host = request
        .headers()
        .get(HOST)
        .and_then(|host| host.to_str().ok());
    let host: Option<Authority> = host.and_then(|host| host.parse().ok());
    if let Some(host) = uri.authority().or(host.as_ref()) {
        attributes.push(KeyValue::new("server.address", text(host.host())));
        let port = host.port_u16().map(i64::from);
        attributes.extend(port.map(|port| KeyValue::new("server.port", port)));
    }
    attributes
}

/// The attributes of a request to a model that are known at its end.
fn of_answers(account: &Account, started: Instant) -> Vec<KeyValue> {
    let answers = &account.answers;
    let mut attributes = Vec::new();
    let mut add = |name: &'static str, value: Option<Value>| {
        attributes.extend(value.map(|value| KeyValue::new(name, value)));
    };
    let text = |text: &str| Value::from(quoted(text).into_owned());
    add(
        "gen_ai.request.model",
        answers.asked_model().or(account.model()).map(text),
    );
    add("gen_ai.response.model", account.model().map(text));
    add("gen_ai.response.id", answers.response_id().map(text));
    let tokens = |tokens: u64| (tokens > 0).then(|| Value::from(tokens as i64));
    add("gen_ai.usage.input_tokens", tokens(account.prompt_tokens()));
    add(
        "gen_ai.usage.output_tokens",
        tokens(account.completion_tokens()),
    );
    let ends = answers.ends();
    add("gen_ai.response.finish_reasons", reasons(&ends));
    let first = ends.iter().filter_map(|end| end.first_token).min();
    let seconds = first.map(|first| Value::from((first - started).as_secs_f64()));
    // The conventions name this time only for streams. This is vLLM's name for it.
    add("gen_ai.latency.time_to_first_token", seconds.clone());
    if let Some(parameters) = answers.parameters() {
        add_parameters(parameters, &mut add);
        let is_streamed = parameters.is_streamed;
        add(
            "gen_ai.response.time_to_first_chunk",
            seconds.filter(|_| is_streamed),
        );
    }
    attributes
}

fn add_parameters(asked: &StatedParameters, add: &mut impl FnMut(&'static str, Option<Value>)) {
    // As the client wrote it: 0.7 and not 0.699999988.
    let exact = |number: f32| number.to_string().parse().unwrap_or(f64::from(number));
    let float = |number: Option<f32>| number.map(|number| Value::from(exact(number)));
    let whole = |number: Option<i64>| number.map(Value::from);
    add("gen_ai.request.max_tokens", whole(asked.max_tokens));
    add("gen_ai.request.temperature", float(asked.temperature));
    add("gen_ai.request.top_p", float(asked.top_p));
    add("gen_ai.request.top_k", whole(asked.top_k));
    add(
        "gen_ai.request.frequency_penalty",
        float(asked.frequency_penalty),
    );
    add(
        "gen_ai.request.presence_penalty",
        float(asked.presence_penalty),
    );
    add("gen_ai.request.seed", whole(asked.seed));
    add(
        "gen_ai.request.choice.count",
        whole(asked.answers.map(i64::from)),
    );
    add(
        "gen_ai.request.stream",
        asked.is_streamed.then_some(Value::from(true)),
    );
}

fn reasons(ends: &[AnswerEnd]) -> Option<Value> {
    let reasons: Vec<_> = ends
        .iter()
        .map(|end| StringValue::from(end.reason))
        .collect();
    (!reasons.is_empty()).then_some(Value::Array(Array::String(reasons)))
}
