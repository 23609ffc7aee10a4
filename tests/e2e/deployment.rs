//! The deployed system from outside: real binaries, real sockets, real signals.

mod parity;
mod patience;
mod private;
mod restarts;
mod site;
mod trust;
