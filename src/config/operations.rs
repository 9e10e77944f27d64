//! `[operations]`: how much is kept of what was done by whom.

use std::time::Duration;

use super::raw::Table;
use super::retention;

/// How long operations are kept unless told, in seconds: a year and a month.
const AGE_MAX_S: u64 = 396 * 24 * 3600;

/// How much is kept of what was done by whom, `[operations]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationLimits {
    /// Older ones go; `None` keeps them for as long as there is room.
    pub age_max: Option<Duration>,
    /// Most bytes on disk.
    pub bytes_max: u64,
}

impl OperationLimits {
    pub(super) fn read(mut table: Table<'_>) -> Self {
        let age_max = table.parsed("age_max", retention::age);
        let limits = Self {
            age_max: age_max.unwrap_or(Some(Duration::from_secs(AGE_MAX_S))),
            bytes_max: table.mib("size_mib", 1..=1024, 16),
        };
        table.done();
        limits
    }
}
