//! Microsoft Graph: nothing is signed, but each notification in the body has the `clientState` that its subscription
//! was made with. All of them must; a body without a notification shows nothing and is denied.

use super::{Denied, credential, malformed};
use crate::core::secret::Secret;
use crate::core::source::Fields;

/// Most notifications of one body.
const NOTIFICATIONS_MAX: usize = 10_000;

/// Which secret the notifications show.
pub(super) fn prove(secrets: &[Secret], fields: &dyn Fields) -> Result<usize, Denied> {
    let count = fields.items("/value").filter(|count| (1..=NOTIFICATIONS_MAX).contains(count));
    let count = count.ok_or_else(|| malformed("body"))?;
    let mut shown = None;
    let mut all = true;
    for index in 0..count {
        let state = fields.text(&format!("/value/{index}/clientState")).unwrap_or_default();
        let which = credential::which(secrets, state.as_bytes());
        all &= which.is_some();
        shown = shown.or(which);
    }
    shown.filter(|_| all).ok_or(Denied::Mismatch)
}
