//! Metrics of the process itself, by the names that they have everywhere.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::{count, gauge, seconds};
use crate::core::timestamp::Timestamp;

/// The process, when it began. What the system does not tell has no line.
#[derive(Debug)]
pub(super) struct Process(pub(super) Timestamp);

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let fds = std::fs::read_dir("/proc/self/fd").ok().map(|fds| super::whole(fds.count()));
        // Endless is told as what it is: more than there can be.
        let fds_max = getrlimit(Resource::Nofile).current.map_or(f64::INFINITY, count);
        let gauges = [
            ("start_time_seconds", "When the process began", Some(seconds(self.0))),
            ("resident_memory_bytes", "Memory that the process has", resident_bytes().map(count)),
            ("open_fds", "Open files and connections", fds),
            ("max_fds", "How many there may be", Some(fds_max)),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                gauge(&mut encoder, name, help, value)?;
            }
        }
        super::counter(&mut encoder, "cpu_seconds", "Processor time that the process has used", cpu_seconds())
    }
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let (whole, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    std::time::Duration::new(whole.unwrap_or_default(), nanos.unwrap_or_default()).as_secs_f64()
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}
