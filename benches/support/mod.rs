//! What the benches share.
#![allow(dead_code, reason = "each bench uses a part")]

pub(crate) mod http;

use std::path::Path;
use std::time::{Duration, Instant};

use backstop::core::event::{Dedup, Draft, Fingerprint, Header};
use backstop::core::name::Name;
use backstop::core::sealing::SealingKey;
use backstop::core::timestamp::Timestamp;
use backstop::engine::{Clock as _, SystemClock};
use backstop::journal::embedded::Settings;

/// Now, for measuring only.
#[allow(clippy::disallowed_methods, reason = "a bench measures time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

pub(crate) fn wall() -> Timestamp {
    SystemClock.now()
}

/// The key that the journal is sealed with if `BACKSTOP_BENCH_SEALED` is set.
fn keys() -> Vec<SealingKey> {
    let hex: String = (0..32).map(|n| format!("{n:02x}")).collect();
    let key = std::env::var_os("BACKSTOP_BENCH_SEALED").map(|_| SealingKey::parse(&hex).expect("a key"));
    key.into_iter().collect()
}

pub(crate) fn settings(dir: &Path) -> Settings {
    Settings {
        dir: dir.to_owned(),
        segment_bytes: 64 << 20,
        ballast_bytes: 0,
        disk_free_min_bytes: 0,
        index_cache_bytes: 64 << 20,
        keys: keys(),
        now: wall(),
    }
}

/// A call event of about 1 KiB, as Flyflow sends them.
pub(crate) fn draft(number: u64, endpoints: &[Name]) -> Draft {
    let name = |text| Name::new(text).expect("a name");
    let body = format!(
        r#"{{"event_type":"call_ended","call_id":"call-{}","timestamp":"2026-01-01T00:00:00Z","data":{{"n":{number},"pad":"{}"}}}}"#,
        number / 3,
        "x".repeat(880),
    );
    let mut print = [0; 16];
    print[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    Draft {
        source: name("flyflow"),
        event_type: "call_ended".to_owned(),
        key: Some(format!("call-{}", number / 3)),
        occurred_at: None,
        headers: vec![Header { name: "content-type".to_owned(), value: "application/json".into() }],
        body: body.into(),
        dedup: Some(Dedup { fingerprint: Fingerprint(print), window: Duration::from_secs(86_400) }),
        endpoints: endpoints.to_vec(),
    }
}

/// CPU time this process has used so far.
pub(crate) fn cpu() -> Duration {
    cpu_of("self")
}

/// CPU time a process has used so far, in the kernel's ticks of 10 ms.
pub(crate) fn cpu_of(process: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("procfs");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|index| fields.get(*index)?.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Resident memory of a process, in MiB.
pub(crate) fn rss_mib_of(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("procfs");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() / 1024
}

/// A folder for a bench's files, on the file system of the build: /tmp may be memory.
pub(crate) fn folder() -> tempfile::TempDir {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    tempfile::Builder::new().prefix("bench-").tempdir_in(target).expect("a folder")
}

/// A folder in memory where the machine has such a place: for what is not about the disk, whose own moods would hide it.
#[allow(dead_code, reason = "for the benches that are not about the disk")]
pub(crate) fn folder_in_memory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let named = tempfile::Builder::new().prefix("backstop-bench-").tempdir_in(memory);
    named.unwrap_or_else(|_| folder())
}
