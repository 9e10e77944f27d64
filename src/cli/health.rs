//! `backstop health`: does the gateway take events? For whoever watches it and can only run a command.

use std::path::Path;
use std::time::Duration;

use super::client::{self, Gateway};
use super::exit::Failure;
use super::screen::print;

/// Longest time for the answer: whoever watches asks often.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Ask whether the gateway takes events; needs no token
///
/// It asks /readyz of the admin listener, as the health check of a container does: 0 if new events are taken, 1 with the
/// reason if not (the disk is full, the gateway is being stopped, the journal failed), 3 if nobody answers. With --live it
/// asks /livez: 1 only if the process should be started again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  backstop health
  backstop health --admin http://127.0.0.1:8081        without reading the config
  HEALTHCHECK CMD [\"backstop\", \"health\"]")]
pub(crate) struct Args {
    /// Only whether the process should be started again
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    gateway: Gateway,
}

/// Asks, and says what was answered.
pub(crate) async fn run(args: &Args, config: &Path) -> Result<(), Failure> {
    let (mut url, asked, http) = client::anonymous(&args.gateway, config)?;
    let path = if args.live { "livez" } else { "readyz" };
    let mut parts = url.path_segments_mut().map_err(|()| Failure::usage("the admin URL cannot have a path"))?;
    parts.pop_if_empty().push(path);
    drop(parts);
    let response = http.get(url).timeout(TIMEOUT).send().await.map_err(|error| asked.silent(&error))?;
    let status = response.status();
    let body = response.bytes().await.map_err(|error| asked.silent(&error))?;
    if !status.is_success() {
        return Err(asked.refused(status.as_u16(), &body));
    }
    print(if args.live { b"live\n" } else { b"ready\n" })
}
