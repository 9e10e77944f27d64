//! `backstop serve`: runs the gateway until it is told to stop.
//!
//! The first SIGTERM or SIGINT drains; a second one, or one while the gateway still starts, ends the process
//! at once, which the journal survives as it survives a kill. SIGHUP has the config read again; one that comes while the
//! gateway starts or ends does nothing.

use std::path::Path;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::client;
use super::exit::Failure;
use crate::gateway::notify::Notifier;
use crate::gateway::{Gateway, GatewayError, Origin};
use crate::telemetry;

/// Serves until SIGTERM or SIGINT, then drains and ends.
pub(crate) async fn run(file: &Path) -> Result<(), Failure> {
    // First of all: from here on SIGHUP does not end the process.
    let mut signals = Signals::listen()?;
    let config = client::load(file)?;
    telemetry::init(config.log.format == crate::config::LogFormat::Json, &config.log.level)
        .map_err(|error| Failure::usage(format!("log.level: {error}")))?;
    for warning in &config.warnings {
        tracing::warn!(%warning, "config");
    }
    let origin = Origin { file: file.to_owned(), notifier: Notifier::from_environment() };
    let gateway = tokio::select! {
        started = Gateway::start(config, Some(origin)) => started.map_err(failed)?,
        () = signals.stop() => leave("told to stop while starting", 0),
    };
    let reloads = gateway.reloads();
    let (asked, told) = oneshot::channel::<()>();
    let mut running = std::pin::pin!(gateway.run(async {
        // It ends when it is told, and if there is nobody left to tell it.
        let _told = told.await.is_ok();
    }));
    loop {
        tokio::select! {
            ended = &mut running => return ended.map_err(failed),
            asked = signals.next() => match asked {
                Asked::Stop => break,
                Asked::Reload => {
                    let reloads = reloads.clone();
                    tokio::spawn(async move { reloads.by_signal().await });
                }
            }
        }
    }
    drop(asked);
    tokio::select! {
        ended = running => ended.map_err(failed),
        () = signals.stop() => leave("told to stop again: what is under way will be done again", 1),
    }
}

/// The signals that ask the process for something.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Stop,
    Reload,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::failed(format!("signals cannot be received: {error}")));
        let (terminate, interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, hangup: listen(SignalKind::hangup())? })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    /// Somebody wants it to end; what else anybody wants has no time any more, or not yet.
    async fn stop(&mut self) {
        while self.next().await != Asked::Stop {}
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
