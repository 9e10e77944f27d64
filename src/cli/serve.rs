//! `backstop serve`: runs the gateway until it is told to stop.
//!
//! The first SIGTERM or SIGINT drains; a second one, or one while the gateway still starts, ends the process
//! at once, which the journal survives as it survives a kill.

use std::path::Path;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::client;
use super::exit::Failure;
use crate::gateway::{Gateway, GatewayError};
use crate::telemetry;

/// Serves until SIGTERM or SIGINT, then drains and ends.
pub(crate) async fn run(config: &Path) -> Result<(), Failure> {
    let config = client::load(config)?;
    telemetry::init(config.log.format == crate::config::LogFormat::Json, &config.log.level)
        .map_err(|error| Failure::usage(format!("log.level: {error}")))?;
    for warning in &config.warnings {
        tracing::warn!(%warning, "config");
    }
    let mut stop = Stop::listen()?;
    let gateway = tokio::select! {
        started = Gateway::start(config) => started.map_err(failed)?,
        () = stop.asked() => leave("told to stop while starting", 0),
    };
    let (asked, told) = oneshot::channel::<()>();
    let mut running = std::pin::pin!(gateway.run(async {
        // It ends when it is told, and if there is nobody left to tell it.
        let _told = told.await.is_ok();
    }));
    tokio::select! {
        ended = &mut running => return ended.map_err(failed),
        () = stop.asked() => drop(asked),
    }
    tokio::select! {
        ended = running => ended.map_err(failed),
        () = stop.asked() => leave("told to stop again: what is under way will be done again", 1),
    }
}

/// The signals that ask the process to stop.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn listen() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::failed(format!("signals cannot be received: {error}")));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Ends the process without waiting for anything.
fn leave(why: &str, code: i32) -> ! {
    tracing::warn!(why, "leaving at once");
    std::process::exit(code)
}

fn failed(error: GatewayError) -> Failure {
    Failure::failed(error.to_string())
}
