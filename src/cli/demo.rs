//! `backstop demo`: the whole story in under a minute, on a temporary directory and loopback only.
//!
//! A real gateway, three real endpoints — one healthy, one flaky, one dead — and a few calls' worth of
//! Flyflow events over HTTP. It narrates, repairs the dead endpoint, replays, and reconciles the counters;
//! it fails if they do not.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use tokio::sync::watch;

use super::client::Client;
use super::exit::Failure;
use super::failed::listed;
use super::screen::{Screen, print};
use super::send::Sample;
use super::table::Table;
use crate::admin::wire::{Audit, Counters, Delivery, OpenReplay, Page, Replay, Selection, Tally};
use crate::config::Config;
use crate::engine::{Clock as _, SystemClock};
use crate::gateway::Gateway;
use crate::listener::{Limits, Listener};
use crate::upload::Upload;

/// See it work: a gateway, three endpoints, a few calls; fails, replays, reconciles
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many calls are made, three events each
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    calls: u32,
}

/// The longest that the demo waits for anything.
const PATIENCE: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(50);

/// An endpoint of the demo, and what has arrived there.
#[derive(Clone)]
struct Sink {
    seen: Arc<Mutex<Seen>>,
    /// Answers 503 to the first post of each event.
    flaky: bool,
}

#[derive(Default)]
struct Seen {
    posts: usize,
    delivered: BTreeSet<String>,
    refused: BTreeSet<String>,
}

/// Runs the demo.
pub(crate) async fn run(args: &Args) -> Result<(), Failure> {
    let folder = temporary_folder()?;
    let told = tell(args, folder.as_path()).await;
    let removed = std::fs::remove_dir_all(&folder);
    told.and_then(|()| removed.map_err(|error| Failure::failed(format!("{}: {error}", folder.display()))))
}

async fn tell(args: &Args, folder: &Path) -> Result<(), Failure> {
    let (_stop, stopped) = watch::channel(false);
    let healthy = Sink::new(false);
    let crm = healthy.serve(listen(0).await?, stopped.clone());
    let flaky = Sink::new(true);
    let billing = flaky.serve(listen(0).await?, stopped.clone());
    // Bound once to have an address, then closed: nothing listens there.
    let analytics = addr_of(&listen(0).await?)?;
    let gateway = Gateway::start(config(folder, crm?, billing?, analytics)?, None).await.map_err(failed)?;
    let client = Client::at(&format!("http://{}", gateway.admin_addr), &gateway.token)?;
    say(&format!(
        "A gateway on {}, its journal in {}.\nThree endpoints: crm is healthy, billing answers 503 to the first \
         attempt of every event, and nothing listens where analytics should be.\n",
        gateway.ingest_addr,
        folder.display()
    ))?;

    let events = post_calls(args.calls, gateway.ingest_addr).await?;
    say(&format!(
        "Posted {events} events of {} calls, and one of them twice. Each was acknowledged only after it was synced \
         to disk; the repeat was recognised and got the first one's id.\n",
        args.calls
    ))?;

    let settled = |tally: &Tally| tally.scheduled + tally.retrying == 0;
    let counters = wait(&client, |counters| counters.endpoints.values().all(settled)).await?;
    say(&format!("Every delivery has an end:\n\n{}", standing(&counters)))?;
    let failed_now: Page<Delivery> = client.get(&["deliveries"], &[("limit", "3".to_owned())]).await?;
    say(&format!(
        "The failed ones are listed with their reason (`backstop failed`), here the newest three:\n\n{}",
        listed(&failed_now.items, "none").on(Screen::stdout())
    ))?;

    say("Somebody repairs analytics. Replaying what it missed (`backstop replay --endpoint analytics`):\n")?;
    let repaired = Sink::new(false);
    let listener = listen(analytics.port()).await?;
    let _addr = repaired.serve(listener, stopped)?;
    let filter = Selection { endpoint: Some("analytics".to_owned()), ..Selection::default() };
    let asked = OpenReplay { filter, ..OpenReplay::default() };
    let replay: Replay = client.post(&["replays"], &asked).await?;
    let counters = wait(&client, |counters| {
        counters.endpoints.get("analytics").is_some_and(|tally| tally.delivered == events && tally.failed == 0)
    })
    .await?;
    let replay: Replay = client.get(&["replays", &replay.id], &[]).await?;
    say(&format!("Replay {} queued {} deliveries.\n\n{}", replay.id, replay.queued, standing(&counters)))?;
    reconcile(&client, &counters, events, [&healthy, &flaky, &repaired]).await?;
    gateway.stop().await.map_err(failed)?;
    say("Stopped in order; the journal is closed. That was the whole story.\n")
}

/// The ledger and the endpoints' own counts must agree.
async fn reconcile(client: &Client, counters: &Counters, events: u64, sinks: [&Sink; 3]) -> Result<(), Failure> {
    let audit: Audit = client.get(&["audit"], &[]).await?;
    let arrived: Vec<u64> = sinks.iter().map(|sink| sink.lock().delivered.len() as u64).collect();
    let duplicates = counters.turned_away.get("duplicate").copied().unwrap_or_default();
    let agrees = audit.ok && counters.accepted == events && duplicates == 1 && arrived == [events; 3];
    if !agrees {
        return Err(Failure::failed(format!(
            "the counters do not reconcile: {} accepted, {duplicates} duplicates, {arrived:?} of {events} arrived, audit {}",
            counters.accepted, audit.ok
        )));
    }
    let posts: usize = sinks.iter().map(|sink| sink.lock().posts).sum();
    say(&format!(
        "Reconciled: {events} events accepted, 1 duplicate recognised, each of the three endpoints has all {events}, \
         in {posts} posts; accepted × routed = delivered + dead + cancelled + expired + scheduled (`backstop audit`).\n"
    ))
}

/// Three events a call, and the very last one again.
async fn post_calls(calls: u32, to: SocketAddr) -> Result<u64, Failure> {
    let http = super::client::http(None)?;
    let url = format!("http://{to}/in/flyflow");
    let post = |body: String| {
        let request = http.post(&url).header("content-type", "application/json").body(body);
        async move {
            let answer = request.send().await.map_err(|error| Failure::failed(format!("posting: {error}")))?;
            let status = answer.status();
            if status == StatusCode::ACCEPTED {
                Ok(())
            } else {
                Err(Failure::failed(format!("posting was answered {status}")))
            }
        }
    };
    let (mut events, mut last) = (0, String::new());
    for call in 1..=calls {
        for sample in [Sample::CallStarted, Sample::ToolCall, Sample::CallEnded] {
            last = sample.payload(&format!("demo-call-{call}"), &SystemClock.now().to_string()).to_string();
            post(last.clone()).await?;
            events += 1;
        }
    }
    post(last).await?;
    Ok(events)
}

/// Waits until the counters are as they should be.
async fn wait(client: &Client, are_right: impl Fn(&Counters) -> bool) -> Result<Counters, Failure> {
    let waiting = async {
        loop {
            let counters: Counters = client.get(&["counters"], &[]).await?;
            if are_right(&counters) {
                return Ok(counters);
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| Err(Failure::failed("the deliveries did not come to their end in time")))
}

fn standing(counters: &Counters) -> String {
    let mut table = Table::new(&["ENDPOINT", "ROUTED", "REPLAYED", "ATTEMPTS", "DELIVERED", "DEAD", "FAILED NOW"]);
    for (name, tally) in &counters.endpoints {
        let counts = [tally.routed, tally.replayed, tally.attempts, tally.delivered, tally.dead, tally.failed];
        let [routed, replayed, attempts, delivered, dead, failed] = counts.map(|count| count.to_string());
        table.row([name, &routed, &replayed, &attempts, &delivered, &dead, &failed]);
    }
    table.text("").on(Screen::stdout())
}

fn config(folder: &Path, crm: SocketAddr, billing: SocketAddr, analytics: SocketAddr) -> Result<Config, Failure> {
    let text = format!(
        r#"
[server]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[journal]
dir = "journal"
segment_mib = 4
ballast_mib = 1
disk_free_min_mib = 1
[sources.flyflow]
preset = "flyflow"
[endpoints.crm]
url = "http://{crm}/"
[endpoints.billing]
url = "http://{billing}/"
breaker = "off" # its failures are the demo's, not an outage
retry = {{ initial = "100ms" }}
[endpoints.analytics]
url = "http://{analytics}/"
breaker = "off" # or nothing would become a dead letter: an open circuit spends no attempt
retry = {{ initial = "100ms", attempts_max = 3 }}
[[routes]]
endpoints = ["crm", "billing", "analytics"]
"#
    );
    let nothing = |_: &str| None;
    let unread = |path: &Path| std::fs::read_to_string(path);
    Config::parse(&text, &folder.join("gateway.toml"), &nothing, &unread)
        .map_err(|errors| Failure::failed(errors.to_string()))
}

impl Sink {
    fn new(flaky: bool) -> Self {
        Self { seen: Arc::new(Mutex::new(Seen::default())), flaky }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves in the background until the end of the demo.
    fn serve(&self, listener: Listener, stop: watch::Receiver<bool>) -> Result<SocketAddr, Failure> {
        let addr = addr_of(&listener)?;
        let sink = self.clone();
        let service = service_fn(move |request: Request<Upload>| {
            let sink = sink.clone();
            async move { Ok::<_, Infallible>(sink.answer(request).await) }
        });
        tokio::spawn(listener.serve(service, stop, Duration::ZERO));
        Ok(addr)
    }

    async fn answer(&self, request: Request<Upload>) -> Response<Full<Bytes>> {
        let id = request.headers().get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
        let whole = request.into_body().collect().await.is_ok();
        let mut seen = self.lock();
        seen.posts += 1;
        let refuse = !whole || (self.flaky && seen.refused.insert(id.clone()));
        let mut response = Response::new(Full::default());
        if refuse {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        } else {
            seen.delivered.insert(id);
        }
        response
    }
}

async fn listen(port: u16) -> Result<Listener, Failure> {
    let limits = Limits { connections_max: 256, ..Limits::default() };
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], port)), limits).await;
    listener.map_err(|error| Failure::failed(format!("no loopback port for the demo: {error}")))
}

fn addr_of(listener: &Listener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(|error| Failure::failed(error.to_string()))
}

fn temporary_folder() -> Result<std::path::PathBuf, Failure> {
    let folder = std::env::temp_dir().join(format!("backstop-demo-{}", std::process::id()));
    let made = crate::journal::disk::create_private_dir(&folder);
    made.map(|()| folder.clone()).map_err(|error| Failure::failed(format!("{}: {error}", folder.display())))
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::failed(error.to_string())
}

fn say(text: &str) -> Result<(), Failure> {
    print(format!("{text}\n").as_bytes())
}
