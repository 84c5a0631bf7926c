//! A check of the free runs' invariants.

use super::{FreeRuns, levels};
use crate::alloc::boundary::{Boundary, NONE, Run};
use crate::alloc::lane::Pool;
use crate::prim::units::index;

impl FreeRuns {
    /// Calls `visit` with each large block. Checks that every free run is in its list and that no two
    /// neighbours of one pool are unmerged.
    pub(in crate::alloc) fn check(&self, mut visit: impl FnMut(Run)) -> Result<(), String> {
        let mut free = [0; Pool::COUNT];
        let mut page = 0;
        let mut before: Option<Run> = None;
        while page < self.boundaries().len() {
            let (boundary, run) = self.boundaries().get(page);
            let end = run.range.end.0;
            let meets =
                |before: &Run| (before.range.end, before.pool) == (run.range.start, run.pool);
            match boundary {
                Boundary::None => page += 1,
                Boundary::FreeStart => {
                    if self.ending_at(end) != Some(run) || before.as_ref().is_some_and(meets) {
                        return Err(format!(
                            "{run:?} has a wrong end tag, or was not merged with {before:?}"
                        ));
                    }
                    free[run.pool.index()] += run.range.pages();
                    before = Some(run);
                    page = end;
                }
                Boundary::BlockStart => {
                    visit(run);
                    page = end;
                }
                Boundary::FreeEnd => {
                    return Err(format!("page {page} ends a run without a start: {run:?}"));
                }
            }
        }
        for pool in Pool::all() {
            let mut listed = 0;
            for (first, heads) in self.lists[pool.index()].heads.iter().enumerate() {
                for (second, head) in heads.iter().enumerate() {
                    let (mut page, mut previous) = (*head, NONE);
                    let filled = self.lists[pool.index()].second_bitmap[first] >> second & 1 == 1;
                    if filled != (page != NONE) {
                        return Err(format!("{pool:?}: the bit of list {first}.{second} is wrong"));
                    }
                    while page != NONE {
                        let found = self.starting_at(index(page));
                        let run = found.filter(|run| run.pool == pool).ok_or_else(|| {
                            format!("{pool:?}: page {page} is in a list and begins {found:?}")
                        })?;
                        let (next, back) = self.boundaries().links(index(page));
                        if levels(run.range.pages()) != (first, second) || back != previous {
                            return Err(format!(
                                "{run:?} is in the wrong list or has a wrong link"
                            ));
                        }
                        listed += run.range.pages();
                        (previous, page) = (page, next);
                    }
                }
            }
            let counted = self.pages(pool);
            if (counted, listed) != (free[pool.index()], free[pool.index()]) {
                let found = free[pool.index()];
                return Err(format!("{pool:?}: {found} free, {listed} listed, {counted} counted"));
            }
        }
        let dirty: usize = Pool::all().filter(|k| k.is_dirty()).map(|k| free[k.index()]).sum();
        if (self.free, self.dirty) != (free.iter().sum(), dirty) {
            return Err(format!("{} pages free, {} dirty: not {free:?}", self.free, self.dirty));
        }
        Ok(())
    }
}
