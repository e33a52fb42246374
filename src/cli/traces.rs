//! Exports traces of requests to an OpenTelemetry collector, by OTLP over HTTP.
//!
//! Finished spans wait in a bounded queue for a thread of the library, which sends them in batches: a slow
//! or unreachable collector loses spans, which are counted, and never delays an answer.

mod client;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, Span,
        SpanData, SpanExporter, SpanProcessor,
    },
};
use rialto_media::{LogLimit, Rate};
use tracing::{Level, Subscriber};
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

use super::Failure;
use crate::{
    http,
    telemetry::{SPANS, TARGET},
};
use client::Client;

/// Maximum of spans that wait for the collector: those of some 300 requests. Each takes about a KiB.
const MAX_WAITING_SPANS: usize = 2_048;
/// Limit on the collector's answer, unless `OTEL_EXPORTER_OTLP_TIMEOUT` sets another.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Limit on sending the remaining spans at the end of the process.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);
/// The cause of lost spans is logged once a minute.
static FAULTS: LogLimit = LogLimit::new(Rate::each(Duration::from_secs(60), 1));

/// A trace exporter. Dropping it sends the remaining spans, unless that takes too long.
#[derive(Debug)]
pub(super) struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Starts an exporter to the collector at `endpoint`.
    pub(super) fn start(endpoint: &str) -> Result<Self, Failure> {
        let fault = Arc::<Fault>::default();
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(Client::new(TIMEOUT, fault.clone()))
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .build()
            .map_err(|error| Failure::Other(format!("rialto.tracing.otlp-endpoint: {error}")))?;
        let waiting = Arc::<AtomicUsize>::default();
        let exporter = Counted { to: exporter, fault, waiting: waiting.clone() };
        // More than [`Bounded`] lets in, so that the library's queue never drops an uncounted span.
        let config =
            BatchConfigBuilder::default().with_max_queue_size(2 * MAX_WAITING_SPANS).build();
        let to = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
        // The sender's `traceparent` decides whether a request is traced.
        let sampler = Sampler::ParentBased(Box::new(Sampler::AlwaysOff));
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler)
            .with_resource(resource())
            .with_span_processor(Bounded { to, waiting })
            .build();
        Ok(Self { provider })
    }

    /// Returns a layer that exports the spans of requests only.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let layer: OpenTelemetryLayer<S, SdkTracer> =
            OpenTelemetryLayer::new(self.provider.tracer("rialto"));
        // Source location and thread of a span change with each version.
        let layer = layer.with_location(false).with_threads(false).with_tracked_inactivity(false);
        layer.with_filter(Targets::new().with_target(TARGET, Level::INFO))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        let _ = self.provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT);
    }
}

/// The resource that identifies this process; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` override
/// it.
fn resource() -> Resource {
    let named = Resource::builder().build();
    let name = opentelemetry::Key::from_static_str("service.name");
    let is_named =
        named.get(&name).is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let builder =
        Resource::builder().with_attribute(KeyValue::new("service.version", http::VERSION));
    if is_named { builder.build() } else { builder.with_service_name("rialto").build() }
}

/// Lets spans through while fewer than [`MAX_WAITING_SPANS`] wait.
#[derive(Debug)]
struct Bounded {
    to: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &opentelemetry::Context) {
        self.to.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING_SPANS {
            self.to.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            SPANS.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.to.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.to.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.to.set_resource(resource);
    }
}

/// The last connection error, which the library does not report.
#[derive(Debug, Default)]
struct Fault(Mutex<Option<String>>);

impl Fault {
    fn set(&self, why: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Counts exported and lost spans.
#[derive(Debug)]
struct Counted<E> {
    to: E,
    fault: Arc<Fault>,
    waiting: Arc<AtomicUsize>,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let done = self.to.export(batch).await;
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        let fault = self.fault.take();
        match &done {
            Ok(()) => SPANS.exported.fetch_add(spans as u64, Ordering::Relaxed),
            Err(error) => {
                if let Some(suppressed) = FAULTS.allow(Instant::now()) {
                    let error = fault.unwrap_or_else(|| error.to_string());
                    tracing::warn!(
                        spans,
                        error,
                        suppressed,
                        "traces are lost: the collector did not take them"
                    );
                }
                SPANS.lost.fetch_add(spans as u64, Ordering::Relaxed)
            }
        };
        done
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.to.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.to.set_resource(resource);
    }
}
