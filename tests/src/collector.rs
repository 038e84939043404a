//! An OpenTelemetry collector: a server of OTLP over HTTP that keeps what it gets.

use std::{
    convert::Infallible,
    future::pending,
    net::{SocketAddr, TcpListener as Listener},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Instant,
};

use futures_util::StreamExt;
use hyper::{
    HeaderMap, Request, Response,
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{AnyValue, KeyValue, any_value::Value as Otlp},
    metrics::v1::{HistogramDataPoint, metric::Data},
    resource::v1::Resource,
    trace::v1::Span,
};
use prost::Message;
use serde_json::{Map, Value, json};
use tokio::{net::TcpListener, runtime};

use crate::PATIENCE;

/// How a collector treats the batches that it gets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Takes,
    /// Reads batches and never answers.
    IsSilent,
}

/// A running collector.
pub struct Collector {
    address: SocketAddr,
    batches: Receiver<Batch>,
    spans: Vec<Value>,
    points: Vec<Value>,
    /// The bytes of everything that the collector has received.
    raw: Vec<u8>,
    /// The headers of the last batch.
    pub headers: HeaderMap,
}

/// The path, the headers and the body of a request.
type Batch = (String, HeaderMap, Vec<u8>);

impl Collector {
    /// Starts a collector at a free port.
    pub fn start() -> Self {
        Self::at(0, Manner::Takes)
    }

    /// Starts a collector at this port.
    pub fn at(port: u16, manner: Manner) -> Self {
        let listener = Listener::bind(("127.0.0.1", port)).expect("a port");
        listener.set_nonblocking(true).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let (sender, batches) = channel();
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            runtime
                .expect("a runtime")
                .block_on(serve(listener, sender, manner));
        });
        Self {
            address,
            batches,
            spans: Vec::new(),
            points: Vec::new(),
            raw: Vec::new(),
            headers: HeaderMap::new(),
        }
    }

    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits for a span for which this is true, and returns it: `name`, `kind`, `trace`, `id`, `parent`, `state`, `is_error`,
    /// `attributes` and the `resource`'s attributes.
    pub fn wait_for_span(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        self.wait(|all| all.spans.iter().find(|span| is_it(span)).cloned())
    }

    /// Waits for a histogram for which this is true, and returns it: `name`, `unit`, `bounds`, `count`, `sum` and `attributes`.
    pub fn wait_for_histogram(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        self.wait(|all| all.points.iter().rfind(|point| is_it(point)).cloned())
    }

    /// All spans up to now.
    pub fn spans(&mut self) -> &[Value] {
        while let Ok(batch) = self.batches.try_recv() {
            self.take(batch);
        }
        &self.spans
    }

    /// Whether anything that was received contains this text.
    pub fn has_seen(&self, text: &str) -> bool {
        let text = text.as_bytes();
        self.raw.windows(text.len()).any(|bytes| bytes == text)
    }

    fn wait(&mut self, find: impl Fn(&Self) -> Option<Value>) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = find(self) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.batches.recv_timeout(left) {
                Ok(batch) => self.take(batch),
                Err(_) => panic!("it is not in {:#?} {:#?}", self.spans, self.points),
            }
        }
    }

    fn take(&mut self, (path, headers, body): Batch) {
        match path.as_str() {
            "/v1/traces" => {
                let batch = ExportTraceServiceRequest::decode(&*body).expect("spans");
                for of_resource in batch.resource_spans {
                    let resource = resource(of_resource.resource);
                    let spans = of_resource.scope_spans.into_iter().flat_map(|of| of.spans);
                    self.spans.extend(spans.map(|seen| span(seen, &resource)));
                }
            }
            "/v1/metrics" => {
                let batch = ExportMetricsServiceRequest::decode(&*body).expect("metrics");
                let scopes = batch.resource_metrics.into_iter();
                let metrics = scopes
                    .flat_map(|of| of.scope_metrics)
                    .flat_map(|of| of.metrics);
                for metric in metrics {
                    let Some(Data::Histogram(histogram)) = metric.data else {
                        panic!("{} is no histogram", metric.name);
                    };
                    let points = histogram.data_points.into_iter();
                    let points = points.map(|seen| point(&metric.name, &metric.unit, seen));
                    self.points.extend(points);
                }
            }
            _ => panic!("{path} is no path of OTLP"),
        }
        self.headers = headers;
        self.raw.extend(body);
    }
}

async fn serve(listener: Listener, batches: Sender<Batch>, manner: Manner) {
    let listener = TcpListener::from_std(listener).expect("a listener");
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let batches = batches.clone();
        let service = service_fn(move |request| take(request, batches.clone(), manner));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
}

async fn take(
    request: Request<Incoming>,
    batches: Sender<Batch>,
    manner: Manner,
) -> Result<Response<String>, Infallible> {
    let (head, mut body) = request.into_parts();
    let mut whole = Vec::new();
    let mut frames =
        futures_util::stream::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context));
    while let Some(frame) = frames.next().await {
        let data = frame.expect("a body").into_data();
        whole.extend_from_slice(&data.unwrap_or_default());
    }
    // When the test is over, nobody reads any more.
    let _ = batches.send((head.uri.path().to_owned(), head.headers, whole));
    match manner {
        Manner::Takes => Ok(Response::new(String::new())),
        Manner::IsSilent => pending().await,
    }
}

fn span(span: Span, resource: &Value) -> Value {
    let error = 2;
    json!({
        "name": span.name,
        "kind": span.kind().as_str_name(),
        "trace": hex(&span.trace_id),
        "id": hex(&span.span_id),
        "parent": hex(&span.parent_span_id),
        "state": span.trace_state,
        "is_error": span.status.is_some_and(|status| status.code == error),
        "milliseconds": (span.end_time_unix_nano - span.start_time_unix_nano) / 1_000_000,
        "attributes": attributes(span.attributes),
        "resource": resource,
    })
}

fn point(name: &str, unit: &str, point: HistogramDataPoint) -> Value {
    json!({
        "name": name,
        "unit": unit,
        "bounds": point.explicit_bounds,
        "count": point.count,
        "sum": point.sum,
        "attributes": attributes(point.attributes),
    })
}

fn resource(resource: Option<Resource>) -> Value {
    attributes(resource.unwrap_or_default().attributes)
}

fn attributes(attributes: Vec<KeyValue>) -> Value {
    let attributes = attributes.into_iter();
    let attributes: Map<_, _> = attributes
        .map(|attribute| (attribute.key, plain(attribute.value)))
        .collect();
    Value::Object(attributes)
}

fn plain(value: Option<AnyValue>) -> Value {
    match value.and_then(|value| value.value) {
        Some(Otlp::StringValue(text)) => json!(text),
        Some(Otlp::BoolValue(value)) => json!(value),
        Some(Otlp::IntValue(number)) => json!(number),
        Some(Otlp::DoubleValue(number)) => json!(number),
        Some(Otlp::ArrayValue(list)) => list
            .values
            .into_iter()
            .map(|value| plain(Some(value)))
            .collect(),
        other => panic!("{other:?} is not expected"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
