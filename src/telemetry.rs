//! Traces of requests (W3C Trace Context): spans of the steps from a request to its answer, for requests
//! whose sender traces them. `cli::traces` exports them; without an exporter, a span costs a check of a flag.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::HeaderMap;
use opentelemetry::{Context, propagation::TextMapPropagator as _};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Level, Span, field, span::EnteredSpan};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Target of all spans. Lines of the log have others.
pub(crate) const TARGET: &str = "rialto::trace";

const TRACE_PARENT: &str = "traceparent";

/// A span of a step of the request whose span is current.
macro_rules! step {
    ($name:literal $(, $($field:tt)+)?) => {
        tracing::info_span!(target: $crate::telemetry::TARGET, $name $(, $($field)+)?)
    };
}
pub(crate) use step;

/// Whether spans go anywhere.
pub(crate) fn is_on() -> bool {
    tracing::span_enabled!(target: TARGET, Level::INFO)
}

/// The span of the sender that a request belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Parent(Context);

impl Parent {
    /// Reads `traceparent` and `tracestate`. `None` where there is no `traceparent`, or one that is not
    /// well-formed: such a trace ends here (W3C Trace Context section 2.2.2), which is no error of the request.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut given = headers.get_all(TRACE_PARENT).iter();
        let (first, second) = (given.next()?, given.next());
        let is_one = second.is_none() && first.to_str().is_ok_and(is_well_formed);
        is_one.then(|| Self(TraceContextPropagator::new().extract(&HeaderExtractor(headers))))
    }

    /// The same from the parts that a `<traceparent/>` of an IQ has.
    pub(crate) fn from_parts(trace_id: &str, parent_id: &str, flags: &str) -> Option<Self> {
        let value = format!("00-{trace_id}-{parent_id}-{flags}").parse().ok()?;
        Self::from_headers(&HeaderMap::from_iter([(TRACE_PARENT.parse().ok()?, value)]))
    }

    /// Makes a span that has not been entered yet a child of the sender's. Does nothing without an exporter.
    fn adopt(self, span: &Span) {
        let _ = span.set_parent(self.0);
    }
}

/// Whether a `traceparent` has the form of its version (section 2.2): the library takes numbers that are too
/// short, and some with signs.
fn is_well_formed(text: &str) -> bool {
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let zero = |part: &str| part.bytes().all(|b| b == b'0');
    let mut parts = text.splitn(5, '-');
    let mut next = || parts.next().unwrap_or_default();
    let (version, trace, parent, flags) = (next(), next(), next(), next());
    let rest = parts.next();
    // Later versions may have more after the flags.
    let length = hex(version, 2) && version != "ff" && (version != "00" || rest.is_none());
    length && hex(trace, 32) && !zero(trace) && hex(parent, 16) && !zero(parent) && hex(flags, 2)
}

/// Fuzz target: an accepted `traceparent` of any bytes gives a valid span.
pub(crate) fn fuzz(data: &[u8]) {
    use opentelemetry::trace::TraceContextExt as _;

    let Ok(value) = axum::http::HeaderValue::from_bytes(data) else { return };
    let name = axum::http::HeaderName::from_static(TRACE_PARENT);
    let parent = Parent::from_headers(&HeaderMap::from_iter([(name, value)]));
    if let Some(Parent(context)) = parent {
        assert!(context.span().span_context().is_valid());
    }
    let text = String::from_utf8_lossy(data);
    let mut parts = text.split('-');
    let mut next = || parts.next().unwrap_or_default();
    let _ = Parent::from_parts(next(), next(), next());
}

/// The span of an HTTP request; `path` is the route's, without ids.
pub(crate) fn http_request(parent: Parent, method: &str, path: &str) -> Span {
    let span = step!(
        "http",
        otel.name = format!("{method} {path}"),
        otel.kind = "server",
        http.request.method = method,
        http.route = path,
        http.response.status_code = field::Empty
    );
    parent.adopt(&span);
    span
}

/// The spans of an allocation request, from its conference's queue to its answer.
#[derive(Clone, Debug)]
pub(crate) struct RequestSpans {
    request: Span,
    queue: Span,
}

impl RequestSpans {
    /// The request enters the queue. Its span is a child of the current one, or, where there is none, of
    /// `parent`.
    pub(crate) fn new(
        parent: impl FnOnce() -> Option<Parent>,
        meeting: &str,
        endpoints: usize,
    ) -> Self {
        let none = Self { request: Span::none(), queue: Span::none() };
        if !is_on() {
            return none;
        }
        let is_within = !Span::current().is_none();
        let parent = if is_within { None } else { parent() };
        if !is_within && parent.is_none() {
            return none;
        }
        let request = step!(
            "conference-modify",
            otel.kind = if is_within { "internal" } else { "server" },
            meeting,
            endpoints,
            otel.status_code = field::Empty,
            otel.status_description = field::Empty
        );
        if let Some(parent) = parent {
            parent.adopt(&request);
        }
        let queue = request.in_scope(|| step!("queue"));
        Self { request, queue }
    }

    /// The span of the whole.
    pub(crate) fn request(&self) -> &Span {
        &self.request
    }

    /// Begins the span of the request's handling, which ends when the returned value is dropped. Ends the
    /// queue's span if this is the last clone.
    pub(crate) fn handle(self) -> EnteredSpan {
        drop(self.queue);
        if self.request.is_none() {
            return Span::none().entered();
        }
        self.request.in_scope(|| step!("handle")).entered()
    }
}

/// Notes on the span of a request that it was refused.
pub(crate) fn refused(span: &Span, error: &dyn std::fmt::Display) {
    span.record("otel.status_code", "ERROR");
    span.record("otel.status_description", field::display(error));
}

/// Counts of exported and lost spans of this process.
#[derive(Debug, Default)]
pub(crate) struct SpanCounters {
    /// The collector took them.
    pub exported: AtomicU64,
    /// The collector did not take them, or too many waited for it.
    pub lost: AtomicU64,
}

/// One for the process, as there is one subscriber.
pub(crate) static SPANS: SpanCounters =
    SpanCounters { exported: AtomicU64::new(0), lost: AtomicU64::new(0) };

impl SpanCounters {
    pub(crate) fn exported(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TraceContextExt as _;
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn parent(values: &[&str]) -> Option<Parent> {
        let name: axum::http::HeaderName = TRACE_PARENT.parse().unwrap();
        let values = values.iter().map(|value| (name.clone(), value.parse().unwrap()));
        Parent::from_headers(&values.collect())
    }

    #[test]
    fn a_traceparent_is_read() {
        let Parent(context) = parent(&[GOOD]).unwrap();
        let span = context.span();
        let span = span.span_context();
        assert_eq!(span.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(span.span_id().to_string(), "b7ad6b7169203331");
        assert!(span.is_remote() && span.is_sampled());
        let later = GOOD.replacen("00", "cc", 1) + "-what-comes-later";
        assert!(parent(&[&later]).is_some(), "a version to come");
        let parts =
            Parent::from_parts("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00");
        assert!(!parts.unwrap().0.span().span_context().is_sampled());
    }

    #[test]
    fn what_is_not_well_formed_is_ignored() {
        for bad in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01",
        ] {
            assert!(parent(&[bad]).is_none(), "{bad}");
        }
        assert!(parent(&[]).is_none() && parent(&[GOOD, GOOD]).is_none());
        // What a Jicofo without an exporter sends.
        assert!(Parent::from_parts(&"0".repeat(32), &"0".repeat(16), "00").is_none());
        assert!(Parent::from_parts("\r\n", "", "").is_none());
    }

    proptest! {
        #[test]
        fn any_traceparent_is_read_or_ignored(text in "(00-)?[0-9a-f]{0,33}-?[ -~]{0,24}-?0?1?") {
            fuzz(text.as_bytes());
        }

        #[test]
        fn so_are_bytes(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            fuzz(&bytes);
        }
    }

    #[test]
    fn without_an_exporter_there_are_no_spans() {
        assert!(!is_on());
        let never = || -> Option<Parent> { panic!("nothing is read") };
        let spans = RequestSpans::new(never, "meeting", 1);
        assert!(spans.request().is_none());
        assert!(spans.handle().is_none());
    }
}
