//! Which pages to evict.

use super::AgeHistogram;
use crate::prim::Tick;

/// Which pages the evictor is to evict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EvictionPlan {
    /// Every page of at least this age goes.
    pub(crate) all_from: u32,
    /// Pages of at least this age go as well, until `pages` have gone in total.
    pub(crate) some_from: u32,
    /// The most pages that go.
    pub(crate) pages: usize,
}

/// The input of a plan.
#[derive(Clone, Debug)]
pub(crate) struct Situation<'a> {
    /// The ages of the evictable pages.
    pub(crate) ages: &'a AgeHistogram,
    /// Pages in memory, evictable or not.
    pub(crate) resident: usize,
    /// The most pages that may be in memory, if there is a limit.
    pub(crate) limit: Option<usize>,
    /// The age in ticks from which a page is cold.
    pub(crate) cold_age: u32,
}

/// Plans to evict the cold pages. Above the limit the plan takes the oldest pages first, cold or not,
/// and a sixty-fourth of the limit more than it must, so that the next page that comes in does not cause the
/// next eviction.
pub(crate) fn plan(situation: &Situation<'_>) -> Option<EvictionPlan> {
    let cold = situation.ages.at_least(situation.cold_age);
    let over = match situation.limit {
        Some(limit) if situation.resident > limit => situation.resident - limit + limit / 64,
        _ => 0,
    };
    if over <= cold {
        let plan = EvictionPlan {
            all_from: situation.cold_age,
            some_from: situation.cold_age,
            pages: cold,
        };
        return (cold > 0).then_some(plan);
    }
    let mut older = 0;
    let mut all_from = Tick::MAX_AGE + 1;
    for (age, pages) in situation.ages.oldest_first() {
        if older + pages >= over {
            // Only some of the pages of this age have to go.
            return Some(EvictionPlan { all_from, some_from: age, pages: over });
        }
        older += pages;
        all_from = age;
    }
    // All evictable pages together are too few.
    (older > 0).then_some(EvictionPlan { all_from: 0, some_from: 0, pages: older })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ages(list: &[u32]) -> AgeHistogram {
        let mut ages = AgeHistogram::default();
        list.iter().for_each(|&age| ages.add(age));
        ages
    }

    #[test]
    fn without_a_limit_only_cold_pages_go() {
        let ages = ages(&[0, 1, 2, 10, 11]);
        let situation = Situation { ages: &ages, resident: 5, limit: None, cold_age: 10 };
        assert_eq!(plan(&situation), Some(EvictionPlan { all_from: 10, some_from: 10, pages: 2 }));
        assert_eq!(plan(&Situation { cold_age: 100, ..situation }), None);
    }

    #[test]
    fn above_the_limit_the_oldest_go_first() {
        let ages = ages(&[0, 1, 1, 1, 4, 5]);
        let situation = Situation { ages: &ages, resident: 6, limit: Some(2), cold_age: 100 };
        assert_eq!(plan(&situation), Some(EvictionPlan { all_from: 2, some_from: 1, pages: 4 }));
        let all = Situation { limit: Some(0), ..situation.clone() };
        assert_eq!(plan(&all).unwrap().pages, 6);
        let none = Situation { limit: Some(6), ..situation };
        assert_eq!(plan(&none), None);
    }

    #[test]
    fn a_plan_takes_all_evictable_pages_when_they_are_too_few() {
        let ages = ages(&[0, 3]);
        let situation = Situation { ages: &ages, resident: 50, limit: Some(10), cold_age: 100 };
        assert_eq!(plan(&situation), Some(EvictionPlan { all_from: 0, some_from: 0, pages: 2 }));
    }

    proptest! {
        #[test]
        fn a_plan_asks_for_existing_pages_and_for_enough_of_them(
            list in proptest::collection::vec(0u32..2000, 0..200),
            stuck in 0usize..50,
            limit: Option<u8>,
            cold_age in 1u32..3000,
        ) {
            let ages = ages(&list);
            let resident = list.len() + stuck;
            let limit = limit.map(usize::from);
            let situation = Situation { ages: &ages, resident, limit, cold_age };
            let Some(plan) = plan(&situation) else {
                prop_assert!(ages.at_least(cold_age) == 0);
                prop_assert!(limit.is_none_or(|l| l >= resident) || list.is_empty());
                return Ok(());
            };
            prop_assert!(plan.some_from <= plan.all_from);
            prop_assert!(ages.at_least(plan.some_from) >= plan.pages);
            prop_assert!(plan.pages >= ages.at_least(cold_age));
            if let Some(limit) = limit {
                let enough = list.len().min(resident.saturating_sub(limit));
                prop_assert!(plan.pages >= enough);
            }
        }
    }
}
