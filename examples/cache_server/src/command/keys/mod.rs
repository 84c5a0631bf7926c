//! Commands on keys, independent of their values.

pub mod expiry;
pub mod object;
pub mod presence;
pub mod rename;
pub mod scan;
