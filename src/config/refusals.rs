//! `[refusals]`: how much is kept of requests that became no event.

use super::raw::Table;

/// How much is kept of requests that became no event, `[refusals]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusalLimits {
    /// Most requests kept; 0 keeps none.
    pub count_max: usize,
    /// Most bytes on disk.
    pub bytes_max: u64,
}

impl RefusalLimits {
    pub(super) fn read(mut table: Table<'_>) -> Self {
        let limits = Self {
            count_max: table.count("count_max", 0..=1_000_000, 10_000),
            bytes_max: table.mib("size_mib", 8..=1 << 20, 64),
        };
        table.done();
        limits
    }
}
