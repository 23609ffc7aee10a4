//! Identity end to end: real TLS over loopback, the real identity service, and a small service behind the
//! authenticator.
//!
//! Server and clients are told the time by one clock that tests move. Real time appears only as a bound: a test that
//! waits for something that does not come fails by a timeout.

mod bearer;
mod certificates;
mod enrolment;
mod hostile;
mod revocation;
mod support;
