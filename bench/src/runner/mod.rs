//! Sets commands beside each other on the same trees, in turns, and compares what they count.
//!
//! [`tools`] is the table of what can run, [`measure`] runs one command once, [`memory`] watches its
//! processes in a run of its own, [`reading`] gets counts out of its output, [`session`] puts the
//! runs in order, [`report`] shows the result.

pub mod machine;
pub mod measure;
pub mod memory;
pub mod reading;
pub mod report;
pub mod session;
pub mod tools;
