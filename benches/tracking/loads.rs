//! The loads: what each touches, and when.

use crate::common::{HOUR, shuffled};
use crate::layout::{Layout, page_number};
use crate::options::Options;
use crate::zipf::Zipf;
use std::time::Duration;

pub(crate) const REGION_PAGES: usize = 512;
const PAGES_PER_GIB: f64 = 262_144.0;
const WARM_PAGES: usize = (256 << 20) / crate::common::PAGE;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    Hot,
    Stride,
    Phases,
    Turns,
    Bursts,
    Warm,
    Zipf,
    OnePerRegion,
    Idle,
}

impl Load {
    pub(crate) const ALL: [Self; 9] = [
        Self::Hot,
        Self::Stride,
        Self::Phases,
        Self::Turns,
        Self::Bursts,
        Self::Warm,
        Self::Zipf,
        Self::OnePerRegion,
        Self::Idle,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Stride => "stride",
            Self::Phases => "phases",
            Self::Turns => "turns",
            Self::Bursts => "bursts",
            Self::Warm => "warm",
            Self::Zipf => "zipf",
            Self::OnePerRegion => "one_per_region",
            Self::Idle => "idle",
        }
    }

    /// Whether the cold age is so short that the arena evicts pages.
    pub(crate) fn evicts(self) -> bool {
        matches!(self, Self::Zipf | Self::OnePerRegion | Self::Idle)
    }

    /// The pages that the load touches in each of its phases.
    fn groups(self, pages: usize) -> Vec<Vec<u32>> {
        let range = |from, to| (page_number(from)..page_number(to)).collect();
        match self {
            Self::Hot | Self::Turns | Self::Bursts => vec![range(0, pages)],
            Self::Phases => vec![range(0, pages / 2), range(pages / 2, pages)],
            Self::Warm => vec![range(0, WARM_PAGES.min(pages / 2))],
            Self::OnePerRegion => {
                // The page within the region differs, so that the pages do not share a set of the TLB.
                let page = |region: usize| region * REGION_PAGES + region * 73 % REGION_PAGES;
                vec![(0..pages / REGION_PAGES).map(|region| page_number(page(region))).collect()]
            }
            Self::Stride | Self::Zipf | Self::Idle => Vec::new(),
        }
    }
}

/// When a load works, and the options of an arena that evicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    pub(crate) length: Duration,
    /// For how long the load runs before it is measured.
    pub(crate) settle: Duration,
    pub(crate) on: Duration,
    pub(crate) off: Duration,
    /// The time after which the load goes on to its next group.
    pub(crate) phase: Duration,
    pub(crate) scan_interval: Duration,
    pub(crate) cold_age: Duration,
}

/// What a load does at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    Touch { group: usize },
    Rest { left: Duration },
}

impl Timing {
    /// The timing of a load of this many GiB that shall last for `wanted`. `cold_age` replaces the short cold age
    /// of a load that evicts.
    pub(crate) fn new(load: Load, gib: f64, wanted: Duration, cold_age: Option<Duration>) -> Self {
        let scale = (wanted.as_secs_f64() / 12.0).min(1.0);
        let scaled = |seconds: f64| Duration::from_secs_f64(seconds * scale);
        let second = Duration::from_secs(1);
        let mut timing = Self {
            length: wanted,
            settle: Duration::ZERO,
            on: HOUR * 24,
            off: Duration::ZERO,
            phase: HOUR * 24,
            scan_interval: second,
            cold_age: second * 60,
        };
        match load {
            Load::Phases => timing.phase = scaled(10.0),
            Load::Turns => (timing.on, timing.off) = (scaled(8.0), scaled(8.0)),
            Load::Bursts => (timing.on, timing.off) = (scaled(1.0), scaled(2.0)),
            Load::Warm => {
                timing.cold_age = cold_age.unwrap_or(scaled(12.0));
                // The idle memory is cold after two cold ages at most. Evicting a GiB takes about 1.5 s. Then the
                // evictor tracks nothing until it has paid its debt to the tracking budget.
                timing.settle = timing.cold_age * 2 + scaled(3.0 * gib + 12.0);
            }
            Load::Zipf | Load::OnePerRegion | Load::Idle => {
                // Evicting a GiB takes the evictor about 1.5 s.
                timing.cold_age = cold_age.unwrap_or(scaled(f64::max(4.0, 2.0 * gib)));
                timing.scan_interval = timing.cold_age / 40;
                timing.length = wanted.max(timing.cold_age * 3);
            }
            Load::Hot | Load::Stride => {}
        }
        // Whole periods, so that each half of the memory has its part.
        let period = match load {
            Load::Phases => timing.phase * 2,
            Load::Turns | Load::Bursts => timing.on + timing.off,
            _ => return timing,
        };
        timing.length = period * wanted.as_nanos().div_ceil(period.as_nanos()).max(1) as u32;
        timing
    }

    pub(crate) fn beat(&self, at: Duration, groups: usize) -> Beat {
        let within = Duration::from_nanos((at.as_nanos() % (self.on + self.off).as_nanos()) as u64);
        if within >= self.on {
            return Beat::Rest { left: self.on + self.off - within };
        }
        let phases = at.as_nanos() / self.phase.as_nanos();
        Beat::Touch { group: phases as usize % groups.max(1) }
    }
}

/// The objects of the load `zipf`, a page each.
#[derive(Debug)]
pub(crate) struct Objects {
    pub(crate) ranks: Zipf,
    /// The page of each rank.
    pub(crate) pages: Vec<u32>,
    /// Reads per second.
    pub(crate) rate: f64,
}

/// A load at one size. All its measurements share this.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) load: Load,
    pub(crate) gib: f64,
    pub(crate) timing: Timing,
    pub(crate) layout: Layout,
    pub(crate) objects: Option<Objects>,
    /// The pages that the load never touches.
    pub(crate) untouched: Vec<u32>,
}

impl Setup {
    pub(crate) fn new(load: Load, gib: f64, options: &Options) -> Self {
        let pages = (gib * PAGES_PER_GIB) as usize / REGION_PAGES * REGION_PAGES;
        let timing = Timing::new(load, gib, options.length, options.cold_age);
        let groups = load.groups(pages);
        let mut touched = vec![!load.evicts() || load == Load::Zipf; pages];
        groups.iter().flatten().for_each(|page| touched[*page as usize] = true);
        let untouched = (0..pages).filter(|page| !touched[*page]).map(page_number).collect();
        let objects = (load == Load::Zipf).then(|| Objects {
            ranks: Zipf::new(pages),
            pages: shuffled(pages, 7).into_iter().map(page_number).collect(),
            rate: pages as f64 / options.zipf_share as f64 / timing.cold_age.as_secs_f64(),
        });
        Self { load, gib, timing, layout: Layout::new(pages, &groups), objects, untouched }
    }
}
