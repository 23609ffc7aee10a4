//! The services for clients over real HTTP/2, in process, on an engine that only keeps books.

mod downloads;
mod engine;
mod files;
mod malformed;
mod operations;
mod sessions;
mod speed;
mod support;
mod uploads;
