//! The Hydra server: coordinates clients and makes the report.
