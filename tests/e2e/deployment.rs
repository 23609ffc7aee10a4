//! The deployed system from outside: real binaries, real sockets, real signals.

mod left_out;
mod parity;
mod patience;
mod private;
mod restarts;
mod site;
mod trust;
