//! One gateway's whole surroundings: its directory and config, the sink, the senders, and what must be true
//! after each start.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::gateway::{Boot, Gateway};
use crate::http::Client;
use crate::load::{Hash, Load, Posted};
use crate::sink::Sink;

/// Events of former cycles that are looked at again after each start, besides all of the last cycle's.
const OLDER_SAMPLE: usize = 500;
/// Threads that look.
const READERS: usize = 4;
/// How often to look whether all is delivered, and how often at most.
const LOOK_PERIOD: Duration = Duration::from_millis(50);
const LOOKS_MAX: usize = 6000;

/// A folder for a test's files, removed at the end.
pub(crate) fn folder() -> TempDir {
    tempfile::Builder::new().prefix("durability-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// The surroundings.
pub(crate) struct Rig {
    config: PathBuf,
    /// The journal's directory.
    pub(crate) dir: PathBuf,
    boot: Option<PathBuf>,
    pub(crate) sink: Sink,
    pub(crate) load: Load,
    pub(crate) rng: fastrand::Rng,
    /// Acknowledged events that have been looked at after a start.
    checked: usize,
    lost: HashSet<String>,
    late_lost: usize,
    failed_starts: Vec<String>,
    complaints: BTreeMap<String, u64>,
    began: tokio::time::Instant,
}

impl Rig {
    /// With the config in `folder` and the journal in `dir`; `limits` are lines of the journal's table.
    pub(crate) fn new(folder: &Path, dir: PathBuf, limits: &str, seed: u64) -> Self {
        let sink = Sink::start(seed);
        let config = folder.join("gateway.toml");
        std::fs::write(&config, config_text(&dir, limits, &sink)).unwrap();
        Self {
            config,
            dir,
            boot: None,
            sink,
            load: Load::new(seed),
            rng: fastrand::Rng::with_seed(seed),
            checked: 0,
            lost: HashSet::new(),
            late_lost: 0,
            failed_starts: Vec::new(),
            complaints: BTreeMap::new(),
            began: tokio::time::Instant::now(),
        }
    }

    /// Makes the starts from now on believe that the machine was started again.
    pub(crate) fn boot_again(&mut self) {
        let boot = self.config.with_file_name("boot_id");
        std::fs::copy("/proc/sys/kernel/random/uuid", &boot).unwrap();
        self.boot = Some(boot);
    }

    fn boot(&self) -> Boot<'_> {
        self.boot.as_deref().map_or(Boot::Same, Boot::Other)
    }

    /// Starts the gateway. A start that fails is noted and tried once more: only then is there no going on.
    pub(crate) fn start(&mut self) -> Gateway {
        let token_file = self.dir.join("admin.token");
        let start = |rig: &Self| Gateway::start(&rig.config, &token_file, &rig.boot());
        start(self).unwrap_or_else(|why| {
            eprintln!("a start failed: {why}");
            self.failed_starts.push(why);
            start(self).unwrap()
        })
    }

    /// Starts the gateway and kills it within its first 60 ms or so, mostly before it serves.
    pub(crate) fn start_and_kill(&mut self) {
        let moment = Duration::from_micros(self.rng.u64(..60_000));
        Gateway::start_and_kill(&self.config, &self.boot(), moment);
    }

    /// Posts until a random number of events, at most `acknowledged_max`, is acknowledged and `end` returns.
    pub(crate) fn run(&mut self, gateway: Gateway, acknowledged_max: usize, end: impl FnOnce(Gateway, &Posted)) {
        let more = self.rng.usize(1..acknowledged_max);
        let complaints = std::sync::Arc::clone(&gateway.complaints);
        self.load.run(gateway.ingest, |posted| {
            posted.wait_acknowledged(more);
            end(gateway, posted);
        });
        self.note(&complaints);
    }

    /// Counts what the gateway complained of, by its text.
    pub(crate) fn note(&mut self, complaints: &Mutex<Vec<String>>) {
        for line in complaints.lock().unwrap().drain(..) {
            let parsed: Value = serde_json::from_str(&line).unwrap_or_default();
            let text = parsed["message"].as_str().map_or(line.clone(), str::to_owned);
            assert!(!text.contains("the log is damaged"), "no cut may damage what was synced: {line}");
            // One text whatever the place.
            let text = text.split(|c: char| c.is_ascii_digit()).filter(|part| !part.is_empty());
            *self.complaints.entry(text.collect::<Vec<_>>().join("…")).or_default() += 1;
        }
    }

    /// Looks at the last cycle's acknowledged events and a sample of older ones, and at the audit.
    pub(crate) fn check(&mut self, gateway: &Gateway) {
        let mut wanted = self.load.posted.since(self.checked);
        let older = self.load.posted.since(0);
        let sample = std::iter::repeat_with(|| self.rng.choice(&older[..self.checked]));
        wanted.extend(sample.take(OLDER_SAMPLE).flatten().cloned());
        self.checked = older.len();
        self.look(gateway, &wanted);
        let audit = gateway.json("/api/v1/audit");
        assert_eq!(audit["ok"], true, "{audit}");
    }

    /// Looks at every event that was ever acknowledged.
    pub(crate) fn check_all(&mut self, gateway: &Gateway) {
        let all = self.load.posted.since(0);
        let ids: HashSet<&String> = all.iter().map(|(id, _)| id).collect();
        assert_eq!(ids.len(), all.len(), "each acknowledged event has its own id");
        self.look(gateway, &all);
        self.late_lost = missing(gateway, &self.load.posted.late()).len();
    }

    fn look(&mut self, gateway: &Gateway, wanted: &[(String, Hash)]) {
        let parts = wanted.chunks(wanted.len().div_ceil(READERS).max(1));
        let missing: Vec<String> = std::thread::scope(|scope| {
            let readers: Vec<_> = parts.map(|part| scope.spawn(|| missing(gateway, part))).collect();
            readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect()
        });
        if !missing.is_empty() {
            eprintln!("lost, though acknowledged: {} events, {} first", missing.len(), missing[0]);
        }
        self.lost.extend(missing);
    }

    pub(crate) fn lost(&self) -> usize {
        self.lost.len()
    }

    /// Waits until every delivery has ended, then holds journal, senders and sink against each other.
    pub(crate) fn reconcile(&mut self, gateway: &Gateway) {
        let counters = wait_for_deliveries(gateway);
        let audit = gateway.json("/api/v1/audit");
        assert_eq!(audit["ok"], true, "{audit}");
        let count = |value: &Value| value.as_u64().unwrap();
        let accepted = count(&counters["accepted"]);
        let posted = &self.load.posted;
        let acknowledged = posted.acknowledged();
        let unanswered = self.load.unanswered();
        let possible = acknowledged as u64..=(acknowledged + unanswered) as u64;
        assert!(possible.contains(&accepted), "{accepted} accepted, {possible:?} possible");
        let (good, bad) = (&counters["endpoints"]["good"], &counters["endpoints"]["bad"]);
        assert_eq!(count(&good["delivered"]), accepted, "{good}");
        let late = posted.late().len() as u64;
        assert!((accepted..=accepted + late).contains(&self.sink.good().events), "what counts as delivered was taken");
        assert_eq!(count(&bad["delivered"]) + count(&bad["dead"]), accepted, "{bad}");
        assert!(count(&bad["delivered"]) <= self.sink.bad().events, "{bad}");
        for (id, hash) in posted.since(0) {
            assert!(self.sink.has(&id, &hash), "{id} was acknowledged and not delivered byte for byte");
        }
    }

    /// Prints what was seen, and says whether all held.
    pub(crate) fn report(&self, what: &str) -> bool {
        let posted = &self.load.posted;
        println!("\n{what}, in {:.0?}", self.began.elapsed());
        println!("  acknowledged events   {}", posted.acknowledged());
        println!("  lost                  {}", self.lost());
        println!("  answered in the dark  {}, of them not kept {}", posted.late().len(), self.late_lost);
        println!("  failed starts         {}", self.failed_starts.len());
        println!("  sent again, was there {}", posted.repeated());
        println!("  refused with 503      {}", posted.refused());
        println!("  taken by good / bad   {:?} / {:?}", self.sink.good(), self.sink.bad());
        for (text, times) in &self.complaints {
            println!("  logged {times} times: {text}");
        }
        self.lost.is_empty() && self.failed_starts.is_empty()
    }
}

/// Waits until no delivery is scheduled or on its way; the counters then.
pub(crate) fn wait_for_deliveries(gateway: &Gateway) -> Value {
    for _ in 0..LOOKS_MAX {
        let counters = gateway.json("/api/v1/counters");
        let endpoints = counters["endpoints"].as_object().unwrap().values();
        let open: u64 =
            endpoints.map(|tally| tally["scheduled"].as_u64().unwrap() + tally["retrying"].as_u64().unwrap()).sum();
        if open == 0 && counters["in_flight"] == 0 {
            return counters;
        }
        std::thread::sleep(LOOK_PERIOD);
    }
    panic!("deliveries do not end: {}", gateway.json("/api/v1/counters"));
}

/// Those of `wanted` that the gateway does not have byte for byte.
fn missing(gateway: &Gateway, wanted: &[(String, Hash)]) -> Vec<String> {
    let mut client = Client::new(gateway.admin);
    let mut is_there = |id: &str, hash: &Hash| {
        let answer = client.ask(&format!("/api/v1/events/{id}/body"), Some(&gateway.token), b"").unwrap();
        let found: Hash = Sha256::digest(&answer.body).into();
        answer.status() == 200 && found == *hash
    };
    wanted.iter().filter(|(id, hash)| !is_there(id, hash)).map(|(id, _)| id.clone()).collect()
}

fn config_text(dir: &Path, limits: &str, sink: &Sink) -> String {
    let (dir, sink) = (dir.display(), sink.addr);
    format!(
        r#"
[server]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[journal]
dir = "{dir}"
{limits}
[sources.flyflow]
preset = "flyflow"
[endpoints.good]
url = "http://{sink}/good"
secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
retry = {{ initial = "50ms", interval_max = "500ms" }}
[endpoints.bad]
url = "http://{sink}/bad"
breaker = "off"
permanent = [422]
secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
retry = {{ initial = "50ms", interval_max = "500ms", attempts_max = 4 }}
[[routes]]
endpoints = ["good", "bad"]
"#
    )
}
