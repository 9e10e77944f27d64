//! The window: how many attempts to one endpoint may be on their way.

/// The bounds of the window; fixed if they are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concurrency {
    /// At least 1.
    pub min: usize,
    /// At least `min`.
    pub max: usize,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { min: 1, max: 16 }
    }
}
