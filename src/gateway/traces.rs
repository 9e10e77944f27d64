//! Who is told of our part in traces: a collector that the environment names, if the build has the feature `otlp`.

use crate::telemetry::spans::Spans;

#[cfg(feature = "otlp")]
use {
    crate::egress,
    crate::telemetry::otlp::{Exporter, Settings},
};

/// How long the collector may take at the end for what it was not told yet.
#[cfg(feature = "otlp")]
const DRAIN: std::time::Duration = std::time::Duration::from_secs(2);

/// Traces, as long as the gateway runs.
pub(super) struct Traces {
    pub(super) spans: Spans,
    #[cfg(feature = "otlp")]
    exporter: Option<Exporter>,
}

#[cfg(feature = "otlp")]
impl Traces {
    /// Begins to tell, on the current runtime. What cannot be used of the environment is logged, and nothing is told:
    /// events are taken in all the same.
    pub(super) fn start() -> Self {
        let off = Self { spans: Spans::default(), exporter: None };
        let settings = match Settings::from_environment(|name| std::env::var(name).ok()) {
            Ok(Some(settings)) => settings,
            Ok(None) => return off,
            Err(error) => {
                tracing::error!(%error, "traces are not told");
                return off;
            }
        };
        let collector = settings.origin();
        match Exporter::start(settings, egress::native_roots()) {
            Ok((spans, exporter)) => {
                tracing::info!(collector, "traces are told");
                Self { spans, exporter: Some(exporter) }
            }
            Err(error) => {
                tracing::error!(error, collector, "traces are not told");
                off
            }
        }
    }

    /// Tells the rest, and ends.
    pub(super) async fn stop(self) {
        if let Some(exporter) = self.exporter {
            exporter.stop(DRAIN).await;
        }
    }
}

#[cfg(not(feature = "otlp"))]
impl Traces {
    /// Nobody is told; who wants to be told should know.
    pub(super) fn start() -> Self {
        let names = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
        if names.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty())) {
            tracing::warn!("traces are not told: this build lacks the feature `otlp`");
        }
        Self { spans: Spans::default() }
    }

    #[allow(clippy::unused_async, reason = "with the feature it waits for the collector")]
    pub(super) async fn stop(self) {
        drop(self);
    }
}
