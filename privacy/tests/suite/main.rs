//! The accountants against tables of the field's packages, against closed forms, and against what must hold anyway.

mod audit;
mod calibration;
#[cfg(feature = "opendp")]
mod opendp;
mod pld;
mod properties;
mod rdp;
mod table;
