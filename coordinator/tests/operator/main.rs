//! The operator's service and the program `fedlora-coordinator` as operators meet them.
//!
//! The service runs in the test's process over stand-ins for engine and register; the program is started as a process
//! and judged by its exit code, its words and its files.

mod answers;
mod export;
mod failures;
mod fake;
mod follow;
mod help;
mod program;
mod roles;
mod samples;
mod tls;
