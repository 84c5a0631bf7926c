//! Commands on values: strings, of which some are numbers.

mod decimal;
pub mod get;
pub mod lcs;
pub mod number;
mod options;
pub mod range;
pub mod set;
