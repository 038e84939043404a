//! Traces and metrics for an OpenTelemetry collector, sent by OTLP over HTTP.
//!
//! [`Otel`] exists only if a collector is configured. Each request that asks for work has a [`RequestSpan`], and its end is
//! recorded in the metrics of the GenAI conventions. Threads of the SDK collect batches and send them. If they cannot, spans
//! beyond a bounded queue are dropped: no request waits. Invariant: neither spans nor metrics have texts of requests and answers,
//! nor keys.

mod collector;
mod instruments;
mod request;

use std::{thread, time::Duration};

use anyhow::Context as _;
use opentelemetry::{KeyValue, metrics::MeterProvider, trace::TracerProvider};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider},
    propagation::TraceContextPropagator,
    resource::EnvResourceDetector,
    trace::{SdkTracer, SdkTracerProvider},
};
use tokio::{sync::oneshot, time::timeout};
use uuid::Uuid;

pub use self::request::{RequestEnd, RequestSpan};
use self::{collector::Collector, instruments::Instruments};
use crate::config::Telemetry;

/// The name of this program for collectors, and for the GenAI conventions.
const TENON: &str = "tenon";
/// The time that the last batches get at the end of the server.
const LAST_BATCHES: Duration = Duration::from_secs(2);

/// Traces and metrics, which are sent to a collector.
pub struct Otel {
    traces: SdkTracerProvider,
    metrics: SdkMeterProvider,
    tracer: SdkTracer,
    instruments: Instruments,
    propagator: TraceContextPropagator,
}

impl Otel {
    /// Starts to send traces and metrics, if there is a collector. Must be called in a runtime.
    ///
    /// # Errors
    /// An environment variable of OpenTelemetry has a wrong value, or the system has no certificates for `https://`.
    pub fn start(config: &Telemetry) -> anyhow::Result<Option<Self>> {
        let Some(endpoint) = &config.otlp_endpoint else {
            return Ok(None);
        };
        let otel = Self::new(endpoint, config.service_name.as_deref());
        let otel = otel.context("traces and metrics cannot be sent ([telemetry])")?;
        tracing::info!("traces and metrics are sent to {endpoint}");
        Ok(Some(otel))
    }

    fn new(endpoint: &str, service_name: Option<&str>) -> anyhow::Result<Self> {
        let base = endpoint.trim_end_matches('/');
        let spans = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::new("traces", endpoint)?)
            .with_endpoint(format!("{base}/v1/traces"))
            .build()?;
        let metrics = MetricExporter::builder()
            .with_http()
            .with_http_client(Collector::new("metrics", endpoint)?)
            .with_endpoint(format!("{base}/v1/metrics"))
            .build()?;
        let resource = resource(service_name);
        let traces = SdkTracerProvider::builder()
            .with_batch_exporter(spans)
            .with_resource(resource.clone())
            .build();
        let metrics = SdkMeterProvider::builder()
            .with_reader(PeriodicReader::builder(metrics).build())
            .with_resource(resource)
            .build();
        Ok(Self {
            tracer: traces.tracer(TENON),
            instruments: Instruments::new(&metrics.meter(TENON)),
            traces,
            metrics,
            propagator: TraceContextPropagator::new(),
        })
    }

    /// Sends what is still waiting, and waits for that at most two seconds.
    pub async fn shut_down(&self) {
        let (traces, metrics) = (self.traces.clone(), self.metrics.clone());
        let (done, is_done) = oneshot::channel();
        // On a thread of its own, because the shutdown blocks and may take longer.
        thread::spawn(move || {
            // Whether a batch is taken is logged where it is sent.
            let _ = traces.shutdown_with_timeout(LAST_BATCHES);
            let _ = metrics.shutdown_with_timeout(LAST_BATCHES);
            let _ = done.send(());
        });
        let _ = timeout(LAST_BATCHES, is_done).await;
    }
}

/// The attributes of this server. Those of `OTEL_RESOURCE_ATTRIBUTES` override the defaults, and the configured name overrides
/// both.
fn resource(service_name: Option<&str>) -> Resource {
    let instance = Uuid::new_v4().to_string();
    let defaults = [
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", instance),
    ];
    let resource = Resource::builder_empty()
        .with_service_name(TENON)
        .with_attributes(defaults)
        .with_detector(Box::new(EnvResourceDetector::new()));
    match service_name {
        Some(name) => resource.with_service_name(name.to_owned()).build(),
        None => resource.build(),
    }
}
