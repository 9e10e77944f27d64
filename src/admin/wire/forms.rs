//! The forms that texts have when something is asked for, as patterns (ECMA-262): what the description tells clients.
//!
//! The routes read by rules of their own, which take a little more (`1h30m` for a span); what fits here, they take.

/// A name of the config, or of a token.
pub(in crate::admin) const NAME: &str = "^[a-z0-9][a-z0-9_-]{0,63}$";
/// A span of time.
pub(in crate::admin) const SPAN: &str = "^[0-9]{1,5} ?(ms|s|m|h|d|w)$";
/// A span of time, or a time.
pub(in crate::admin) const SPAN_OR_TIME: &str = "^([0-9]{1,5} ?(ms|s|m|h|d|w)|2[0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z)$";
/// How many in which span.
pub(in crate::admin) const RATE: &str = "^[1-9][0-9]{0,8}/(s|min|h)$";
