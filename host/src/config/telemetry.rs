//! `[telemetry]`: where traces and metrics are sent.

use hyper::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::refusals::Refusals;

/// Where traces and metrics are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// None: nothing is sent.
    pub otlp_endpoint: Option<String>,
    /// None: the one of `OTEL_RESOURCE_ATTRIBUTES`, else `tenon`.
    pub service_name: Option<String>,
}

/// Where traces and metrics are sent. Of OpenTelemetry's environment variables, `OTEL_EXPORTER_OTLP_HEADERS`,
/// `OTEL_EXPORTER_OTLP_COMPRESSION`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`, `OTEL_METRIC_EXPORT_INTERVAL` and those of
/// the batches (`OTEL_BSP_…`) count too.
#[derive(Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawTelemetry {
    /// Address of an OpenTelemetry collector that takes OTLP over HTTP, such as `http://127.0.0.1:4318`. Traces go to `/v1/traces`
    /// there, metrics to `/v1/metrics`. The environment variable `OTEL_EXPORTER_OTLP_ENDPOINT` sets it too. Default: nothing is sent.
    otlp_endpoint: Option<String>,
    /// Name of this service in traces and metrics. The environment variable `OTEL_SERVICE_NAME` sets it too. Default: `tenon`.
    service_name: Option<String>,
}

impl RawTelemetry {
    pub fn resolve(self, refusals: &mut Refusals) -> Telemetry {
        if self
            .otlp_endpoint
            .as_deref()
            .is_some_and(|url| !is_address(url))
        {
            refusals.refuse(
                &["telemetry", "otlp_endpoint"],
                "must be the address of a collector, such as http://127.0.0.1:4318",
            );
        }
        if let Some(name) = &self.service_name {
            refusals.check_not_empty(&["telemetry", "service_name"], name);
        }
        Telemetry {
            otlp_endpoint: self.otlp_endpoint,
            service_name: self.service_name,
        }
    }
}

/// Whether a text is the URL of an HTTP server, with or without a path, and without a query.
fn is_address(url: &str) -> bool {
    let url: Result<Uri, _> = url.parse();
    url.is_ok_and(|url| {
        matches!(url.scheme_str(), Some("http" | "https"))
            && url.host().is_some_and(|host| !host.is_empty())
            && url.query().is_none()
    })
}
