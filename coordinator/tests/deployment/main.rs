//! The files of `deploy/` hold together: what they start exists, takes these arguments, and meets at the same ports,
//! folders and names.

mod containers;
mod files;
mod run;
mod units;
