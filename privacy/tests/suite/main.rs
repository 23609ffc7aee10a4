//! The accountants against tables of the field's packages, against closed forms, and against what must hold anyway.

mod audit;
mod calibration;
mod pld;
mod properties;
mod rdp;
mod table;
