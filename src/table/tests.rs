use super::*;

const PAGE: PageIndex = PageIndex(700);

fn table() -> PageTable {
    PageTable::new(1024).unwrap()
}

fn fill(table: &PageTable) {
    let was = table.load(PAGE);
    table.begin_fill(PAGE, was).unwrap();
    assert!(table.extent().end > PAGE, "the faulting thread may free it before `finish_fill`");
    assert_eq!(table.finish_fill(PAGE, was), Waiters(false));
}

fn store(table: &PageTable, handle: u64) {
    table.claim(PAGE, table.load(PAGE)).unwrap();
    assert!(table.publish(PAGE, Handle::from_raw(handle)));
    assert_eq!(table.finish_drop(PAGE), Waiters(false));
}

#[test]
fn a_page_is_counted_in_each_state_of_its_life() {
    let table = table();
    fill(&table);
    table.check().unwrap();
    assert_eq!((table.resident(), table.extent().pages()), (1, 701));
    store(&table, 42);
    table.check().unwrap();
    assert_eq!((table.resident(), table.stored()), (0, 1));
    assert_eq!(table.load(PAGE).handle(), Handle::from_raw(42));
    fill(&table);
    let Release::Taken(was) = table.begin_release(PAGE) else { panic!() };
    assert_eq!(table.finish_release(PAGE, was), Waiters(false));
    table.check().unwrap();
    assert_eq!((table.resident(), table.stored()), (0, 0));
    assert_eq!(table.load(PAGE), Word::EMPTY);
}

#[test]
fn publish_fails_on_a_claimed_page_that_a_fault_took_back() {
    let table = table();
    fill(&table);
    table.claim(PAGE, table.load(PAGE)).unwrap();
    assert_eq!(table.begin_release(PAGE), Release::Busy);
    let was = table.load(PAGE);
    table.begin_unprotect(PAGE, was).unwrap();
    assert!(!table.publish(PAGE, Handle::from_raw(1)));
    assert_eq!(table.finish_unprotect(PAGE, was), Waiters(false));
    assert!(!table.publish(PAGE, Handle::from_raw(1)));
    // The page was taken back, but it cannot be released until it leaves the evictor's batch.
    assert_eq!(table.load(PAGE).state(), State::Resident);
    assert_eq!(table.begin_release(PAGE), Release::Busy);
    table.check().unwrap_err();
    table.leave_batch(PAGE, |_| panic!("a fault took it back"));
    table.check().unwrap();
    assert!(matches!(table.begin_release(PAGE), Release::Taken(_)));
}

#[test]
fn a_claim_fails_on_a_page_touched_since_it_was_chosen() {
    let table = table();
    fill(&table);
    let chosen = table.load(PAGE);
    table.set_now(Tick::new(5));
    table.touch(PAGE);
    assert_eq!(table.claim(PAGE, chosen).unwrap_err().tick(), Tick::new(5));
}

/// A thread that is late must not lift a protection on which an eviction relies.
#[test]
fn a_page_whose_protection_is_being_lifted_cannot_be_claimed() {
    let table = table();
    fill(&table);
    let seen = table.load(PAGE);
    table.begin_unprotect(PAGE, seen).unwrap();
    assert_eq!(table.claim(PAGE, seen).unwrap_err().state(), State::Filling);
    table.request_wake(PAGE, table.load(PAGE)).unwrap();
    assert_eq!(table.finish_unprotect(PAGE, seen), Waiters(true));
    table.claim(PAGE, table.load(PAGE)).unwrap();
    assert!(table.begin_unprotect(PAGE, seen).is_err(), "the page is claimed now");
}

#[test]
fn leaving_an_owned_state_reports_its_waiters() {
    let table = table();
    fill(&table);
    table.claim(PAGE, table.load(PAGE)).unwrap();
    assert!(table.publish(PAGE, Handle::from_raw(3)));
    assert_eq!(table.begin_release(PAGE), Release::Busy);
    table.request_wake(PAGE, table.load(PAGE)).unwrap();
    table.request_wake(PAGE, table.load(PAGE)).unwrap();
    assert_eq!(table.finish_drop(PAGE), Waiters(true));
    let stored = table.load(PAGE);
    assert!(!stored.waiting());
    table.begin_fill(PAGE, stored).unwrap();
    table.request_wake(PAGE, table.load(PAGE)).unwrap();
    assert_eq!(table.finish_fill(PAGE, stored), Waiters(true));
    table.check().unwrap();
}

#[test]
fn a_lost_page_is_counted_until_it_is_released() {
    let table = table();
    fill(&table);
    store(&table, 9);
    let was = table.load(PAGE);
    table.begin_fill(PAGE, was).unwrap();
    assert_eq!(table.mark_lost(PAGE, was), Waiters(false));
    assert_eq!((table.lost(), table.stored()), (1, 0));
    table.check().unwrap();
    let Release::Taken(was) = table.begin_release(PAGE) else { panic!() };
    let _ = table.finish_release(PAGE, was);
    assert_eq!(table.lost(), 0);
    table.check().unwrap();
}

#[test]
fn check_finds_a_claimed_page_and_a_wrong_counter() {
    let table = table();
    fill(&table);
    table.claim(PAGE, table.load(PAGE)).unwrap();
    assert!(table.check().unwrap_err().contains("Claimed"));
    table.leave_batch(PAGE, |word| word.with_failure(Tick::new(1)));
    assert_eq!(table.load(PAGE).failures(), 1);
    table.check().unwrap();
    table.count_in(PAGE);
    table.check().unwrap_err();
}

#[test]
fn pages_in_memory_are_counted_per_region() {
    let table = table();
    assert_eq!((table.pages_in_memory(0), table.pages_in_memory(1)), (0, 0));
    for page in [PAGE, PageIndex(PAGE.0 + 1), PageIndex(3)] {
        table.begin_fill(page, Word::EMPTY).unwrap();
        let _ = table.finish_fill(page, Word::EMPTY);
    }
    assert_eq!((table.pages_in_memory(0), table.pages_in_memory(1)), (1, 2));
    store(&table, 8);
    assert_eq!((table.pages_in_memory(0), table.pages_in_memory(1)), (1, 1));
}

#[test]
fn a_stored_page_can_be_released_and_is_no_longer_counted() {
    let table = table();
    fill(&table);
    store(&table, 8);
    let Release::Taken(was) = table.begin_release(PAGE) else { panic!() };
    assert_eq!(was.handle(), Handle::from_raw(8));
    let _ = table.finish_release(PAGE, was);
    assert_eq!((table.resident(), table.stored()), (0, 0));
    table.check().unwrap();
}

/// A touch that the evictor records late must change nothing: the page may have an owner by then.
#[test]
fn touch_changes_the_tick_of_resident_pages_only() {
    let table = table();
    fill(&table);
    store(&table, 8);
    table.set_now(Tick::new(5));
    let stored = table.load(PAGE);
    table.touch(PAGE);
    assert_eq!(table.load(PAGE), stored);
    table.begin_fill(PAGE, stored).unwrap();
    let filling = table.load(PAGE);
    table.touch(PAGE);
    assert_eq!(table.load(PAGE), filling);
}

#[test]
fn one_thread_at_a_time_renews_the_poison_of_a_lost_page() {
    let table = table();
    fill(&table);
    store(&table, 8);
    let was = table.load(PAGE);
    table.begin_fill(PAGE, was).unwrap();
    let _ = table.mark_lost(PAGE, was);
    let lost = table.load(PAGE);
    table.begin_poison(PAGE, lost).unwrap();
    assert_eq!(table.load(PAGE).state(), State::Filling);
    assert_eq!(table.begin_poison(PAGE, lost).unwrap_err().state(), State::Filling);
    table.request_wake(PAGE, table.load(PAGE)).unwrap();
    assert_eq!(table.finish_poison(PAGE), Waiters(true));
    assert_eq!(table.load(PAGE).state(), State::Lost);
    table.check().unwrap();
}
