//! Workers that a plugin brings down.

use crate::Test;

pub(crate) const TESTS: &[Test] = &[];
