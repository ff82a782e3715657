//! The floor: the time that the necessary system calls take, and nothing else.
//!
//! A [`plan`] divides the tree among processes before the clock starts; [`part`] makes the calls of
//! one process; [`race()`] starts the processes, lets them go together and measures. It cannot be used
//! for anything: it knows the tree beforehand. It is what a real walker can be compared with.

pub mod part;
pub mod plan;
pub mod race;

pub use part::Counts;
pub use plan::Plan;
pub use race::{Outcome, race};
