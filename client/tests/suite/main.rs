//! The deployed client against a coordinator that is made of memory.

mod coordinator;
mod encrypted;
mod enrolment;
mod program;
mod refusals;
mod rounds;
mod support;
