//! `backstop serve`: runs the gateway until it is told to stop.

use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};

use super::client;
use super::exit::Failure;
use crate::gateway::Gateway;
use crate::telemetry;

/// Serves until SIGTERM or SIGINT, then drains and ends.
pub(crate) async fn run(config: &Path) -> Result<(), Failure> {
    let config = client::load(config)?;
    telemetry::init(config.log.format == crate::config::LogFormat::Json, &config.log.level)
        .map_err(|error| Failure::usage(format!("log.level: {error}")))?;
    for warning in &config.warnings {
        tracing::warn!(%warning, "config");
    }
    let mut terminate = listen_for(SignalKind::terminate())?;
    let mut interrupt = listen_for(SignalKind::interrupt())?;
    let gateway = Gateway::start(config).await.map_err(|error| Failure::failed(error.to_string()))?;
    let asked = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    gateway.run(asked).await.map_err(|error| Failure::failed(error.to_string()))
}

fn listen_for(kind: SignalKind) -> Result<tokio::signal::unix::Signal, Failure> {
    signal(kind).map_err(|error| Failure::failed(format!("signals cannot be received: {error}")))
}
