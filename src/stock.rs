//! The plugins that Hydra's own programs come with. The first is the default.

use crate::plugins::{Audit, Count};
use crate::registry::Registry;

/// Audit, and whatever else is built in.
#[must_use]
pub fn stock() -> Registry {
    Registry::new().with::<Audit>().with::<Count>()
}
