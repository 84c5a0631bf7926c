use super::*;

const PAGE: PageIndex = PageIndex(700);

fn table() -> PageTable {
    PageTable::new(1024).unwrap()
}

fn fill(table: &PageTable) {
    let was = table.load(PAGE);
    table.begin_fill(PAGE, was).unwrap();
    assert!(table.extent().end > PAGE, "its toucher may free it before `finish_fill`");
    assert_eq!(table.finish_fill(PAGE, was), Waiters(false));
}

fn store(table: &PageTable, handle: u64) {
    table.claim(PAGE, table.load(PAGE)).unwrap();
    assert!(table.publish(PAGE, Handle::from_raw(handle)));
    assert_eq!(table.finish_drop(PAGE), Waiters(false));
}

#[test]
fn a_whole_life() {
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
fn a_toucher_beats_the_evictor_and_the_evictor_notices() {
    let table = table();
    fill(&table);
    table.claim(PAGE, table.load(PAGE)).unwrap();
    assert_eq!(table.begin_release(PAGE), Release::Busy);
    let was = table.load(PAGE);
    table.begin_lift(PAGE, was).unwrap();
    assert!(!table.publish(PAGE, Handle::from_raw(1)));
    assert_eq!(table.finish_lift(PAGE, was), Waiters(false));
    assert!(!table.publish(PAGE, Handle::from_raw(1)));
    // Until the evictor is done the page cannot be released, though it was taken back.
    assert_eq!(table.load(PAGE).state(), State::Resident);
    assert_eq!(table.begin_release(PAGE), Release::Busy);
    table.check().unwrap_err();
    table.disengage(PAGE, |_| panic!("it was taken back"));
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

/// A lift that is late must not take the protection from under an evictor who relies on it.
#[test]
fn a_page_whose_protection_is_being_lifted_cannot_be_claimed() {
    let table = table();
    fill(&table);
    let seen = table.load(PAGE);
    table.begin_lift(PAGE, seen).unwrap();
    assert_eq!(table.claim(PAGE, seen).unwrap_err().state(), State::Filling);
    table.ask_to_be_woken(PAGE, table.load(PAGE)).unwrap();
    assert_eq!(table.finish_lift(PAGE, seen), Waiters(true));
    table.claim(PAGE, table.load(PAGE)).unwrap();
    assert!(table.begin_lift(PAGE, seen).is_err(), "it is claimed now");
}

#[test]
fn who_leaves_an_owned_state_learns_of_waiters() {
    let table = table();
    fill(&table);
    table.claim(PAGE, table.load(PAGE)).unwrap();
    assert!(table.publish(PAGE, Handle::from_raw(3)));
    assert_eq!(table.begin_release(PAGE), Release::Busy);
    table.ask_to_be_woken(PAGE, table.load(PAGE)).unwrap();
    table.ask_to_be_woken(PAGE, table.load(PAGE)).unwrap();
    assert_eq!(table.finish_drop(PAGE), Waiters(true));
    let stored = table.load(PAGE);
    assert!(!stored.waiting());
    table.begin_fill(PAGE, stored).unwrap();
    table.ask_to_be_woken(PAGE, table.load(PAGE)).unwrap();
    assert_eq!(table.finish_fill(PAGE, stored), Waiters(true));
    table.check().unwrap();
}

#[test]
fn a_lost_page_can_only_be_released() {
    let table = table();
    fill(&table);
    store(&table, 9);
    let was = table.load(PAGE);
    table.begin_fill(PAGE, was).unwrap();
    assert_eq!(table.lose(PAGE, was), Waiters(false));
    assert_eq!((table.lost(), table.stored()), (1, 0));
    table.check().unwrap();
    let Release::Taken(was) = table.begin_release(PAGE) else { panic!() };
    let _ = table.finish_release(PAGE, was);
    assert_eq!(table.lost(), 0);
    table.check().unwrap();
}

#[test]
fn what_the_check_is_for() {
    let table = table();
    fill(&table);
    table.claim(PAGE, table.load(PAGE)).unwrap();
    assert!(table.check().unwrap_err().contains("Claimed"));
    table.disengage(PAGE, |word| word.with_failure(Tick::new(1)));
    assert_eq!(table.load(PAGE).failures(), 1);
    table.check().unwrap();
    table.count_in(PAGE);
    table.check().unwrap_err();
}

#[test]
fn regions_are_counted_apart() {
    let table = table();
    assert_eq!((table.memory_of(0), table.memory_of(1)), (0, 0));
    for page in [PAGE, PageIndex(PAGE.0 + 1), PageIndex(3)] {
        table.begin_fill(page, Word::EMPTY).unwrap();
        let _ = table.finish_fill(page, Word::EMPTY);
    }
    assert_eq!((table.memory_of(0), table.memory_of(1)), (1, 2));
    store(&table, 8);
    assert_eq!((table.memory_of(0), table.memory_of(1)), (1, 1));
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

/// A touch that is noted late must change nothing: the word has another owner by then.
#[test]
fn only_resident_pages_are_touched() {
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
fn who_mourns_a_page_owns_it_and_a_late_one_does_not() {
    let table = table();
    fill(&table);
    store(&table, 8);
    let was = table.load(PAGE);
    table.begin_fill(PAGE, was).unwrap();
    let _ = table.lose(PAGE, was);
    let lost = table.load(PAGE);
    table.begin_repoison(PAGE, lost).unwrap();
    assert_eq!(table.load(PAGE).state(), State::Filling);
    assert_eq!(table.begin_repoison(PAGE, lost).unwrap_err().state(), State::Filling);
    table.ask_to_be_woken(PAGE, table.load(PAGE)).unwrap();
    assert_eq!(table.finish_repoison(PAGE), Waiters(true));
    assert_eq!(table.load(PAGE).state(), State::Lost);
    table.check().unwrap();
}
