//! Decisions: pure functions and small types, which know neither the kernel nor the page table.
//!
//! [`plan`] chooses the pages to evict from an [`AgeHistogram`]. [`RegionSchedule`] chooses when the evictor
//! scans or arms a region again, and [`TrackingBudget`] how much that may cost. [`Densities`] finds the regions
//! of which few pages are in use. [`Readahead`] chooses the pages
//! to bring back together with a touched one, [`ZeroFillWindow`] the pages to populate together with it.
//! [`PollTuner`] chooses whether a handler thread polls or sleeps. [`AgeClock`] turns time into ages.

mod ages;
mod clock;
mod density;
mod plan;
mod poll_tuner;
mod readahead;
mod scan_schedule;
mod tracking_budget;
mod zero_fill;

pub(crate) use ages::AgeHistogram;
pub(crate) use clock::AgeClock;
pub(crate) use density::{Densities, Density};
pub(crate) use plan::{EvictionPlan, Situation, plan};
pub(crate) use poll_tuner::{POLL_LIMIT, PollTuner, WaitMode};
pub(crate) use readahead::Readahead;
pub(crate) use scan_schedule::{RegionSchedule, Touched};
pub(crate) use tracking_budget::TrackingBudget;
pub(crate) use zero_fill::ZeroFillWindow;
