//! Metrics of what is stored: events, commits, the log and the index, the disk.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;

use super::{count, counter, gauge, whole};
use crate::admin::wire;
use crate::journal::Size;
use crate::telemetry::measures::Commits;

/// One look at the journal.
#[derive(Debug)]
pub(super) struct Stored {
    /// Since the journal began: events accepted, and of those routed nowhere.
    pub(super) accepted: u64,
    pub(super) unrouted: u64,
    pub(super) commits: Arc<Commits>,
    pub(super) size: Size,
}

/// One look at the disk, if it could be looked at.
#[derive(Debug)]
pub(super) struct OnDisk(pub(super) Option<wire::Disk>);

impl Collector for Stored {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self { accepted, unrouted, commits, size } = self;
        for (name, help, total) in [
            ("events_accepted", "Events that were accepted since the journal began", *accepted),
            ("events_unrouted", "Of those, events that were routed nowhere", *unrouted),
            ("commit_changes", "Changes that were made durable", commits.changes()),
            ("log_written_bytes", "Bytes that were ever written to the log", size.log_written_bytes),
        ] {
            counter(&mut encoder, name, help, total)?;
        }
        for (name, help, value) in [
            ("log_bytes", "Bytes of the log on disk", count(size.log_bytes)),
            ("index_bytes", "Bytes of the index on disk", count(size.index_bytes)),
            ("index_behind_events", "Events in memory that the index has yet to take over", whole(size.unindexed)),
        ] {
            gauge(&mut encoder, name, help, value)?;
        }
        let help = "Seconds that a group of changes took to be made durable";
        let family = encoder.encode_descriptor("commit_seconds", help, None, MetricType::Histogram)?;
        commits.seconds.encode(family)
    }
}

impl Collector for OnDisk {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(disk) = &self.0 else { return Ok(()) };
        for (name, help, value) in [
            ("journal_bytes", "Bytes of all files in the journal's folder", count(disk.journal_bytes)),
            ("free_bytes", "Bytes that may still be written on its file system", count(disk.free_bytes)),
            ("size_bytes", "Bytes that its file system has in all", count(disk.total_bytes)),
            ("free_min_bytes", "With less than this free no new events are taken", count(disk.free_min_bytes)),
            ("full", "1 while new events are refused for lack of room", f64::from(disk.full)),
        ] {
            gauge(&mut encoder, name, help, value)?;
        }
        Ok(())
    }
}
