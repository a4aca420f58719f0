//! The longest time that anything waits.

use std::time::Duration;

/// A hundred years: who asks for more ([`Duration::MAX`], say) means for ever, and neither clocks nor the address book's file reach further.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
