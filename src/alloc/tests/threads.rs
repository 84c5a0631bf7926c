//! Thread caches.

use super::*;
use std::thread;

#[test]
fn a_thread_returns_its_cached_slots_when_it_ends() {
    let (heap, _) = heap(4096);
    let small = layout(64, 8);
    let theirs = Arc::clone(&heap);
    thread::spawn(move || {
        let blocks: Vec<_> = (0..1000).map(|_| offset(&theirs, small).unwrap()).collect();
        blocks.iter().for_each(|offset| free(&theirs, *offset, small));
        let stats = theirs.report();
        assert_eq!(stats.live_bytes(), 0);
        assert!(stats.lanes[0].classes[0].cached > 0);
    })
    .join()
    .unwrap();
    heap.check().unwrap();
    assert!(lock(&heap.caches).is_empty());
    heap.trim();
    assert_eq!(heap.report().held_bytes(), 0);
}

#[test]
fn a_thread_caches_at_most_one_mebibyte_of_large_blocks() {
    let (heap, _) = heap(4096);
    for pages in [100, 200, 9, 256, 30, 120, 90, 10, 11, 12, 13, 14, 15, 16, 17, 255, 1] {
        let layout = layout(pages * PAGE_SIZE, if pages < 9 { 8192 } else { 8 });
        let kept = offset(&heap, layout).unwrap();
        free(&heap, kept, layout);
        let stats = heap.report();
        assert!(
            stats.cached_large_bytes >= (pages * PAGE_SIZE) as u64,
            "the last one is cached: {stats}"
        );
        assert!(stats.cached_large_bytes <= 1 << 20, "{stats}");
        heap.check().unwrap();
        if pages >= 9 {
            assert_eq!(offset(&heap, layout), Some(kept), "the cached block is used again");
            free(&heap, kept, layout);
        }
    }
    heap.tick();
    assert!(heap.report().cached_large_bytes > 0);
    heap.tick();
    assert_eq!(heap.report().cached_large_bytes, 0, "no allocation took them since the last tick");
    heap.check().unwrap();
}

#[test]
fn another_thread_can_free_a_block() {
    let (heap, _) = heap(1 << 16);
    let (sender, receiver) = std::sync::mpsc::sync_channel::<(usize, Layout)>(1000);
    thread::scope(|scope| {
        let heap = &heap;
        let producer = scope.spawn(move || {
            for n in 0..50_000 {
                let layout = layout(8 + n % 3000, 8);
                sender.send((offset(heap, layout).unwrap(), layout)).unwrap();
            }
        });
        let consumer = scope.spawn(move || {
            for (offset, layout) in receiver {
                free(heap, offset, layout);
            }
        });
        // The end of the scope does not wait for the destructors of thread locals.
        producer.join().unwrap();
        consumer.join().unwrap();
    });
    heap.check().unwrap();
    assert_eq!(heap.allocated(), 0);
    heap.trim();
    assert_eq!(heap.report().held_bytes(), 0, "{}", heap.report());
}

#[test]
fn another_thread_flushes_its_cache_at_its_next_empty_magazine_after_trim() {
    let (heap, _) = heap(4096);
    let small = layout(64, 8);
    let theirs = Arc::clone(&heap);
    let (ask, asked) = std::sync::mpsc::channel::<()>();
    let (done, is_done) = std::sync::mpsc::channel();
    let thread = thread::spawn(move || {
        free(&theirs, offset(&theirs, small).unwrap(), small);
        done.send(()).unwrap();
        asked.recv().unwrap();
        // A size whose magazine is empty.
        free(&theirs, offset(&theirs, layout(2000, 8)).unwrap(), layout(2000, 8));
        done.send(()).unwrap();
        asked.recv().unwrap();
    });
    is_done.recv().unwrap();
    heap.trim();
    let cached = || heap.report().lanes[0].classes.iter().find(|c| c.size == 64).map(|c| c.cached);
    assert!(cached().is_some_and(|cached| cached > 0));
    ask.send(()).unwrap();
    is_done.recv().unwrap();
    heap.trim();
    assert_eq!(cached(), None);
    ask.send(()).unwrap();
    thread.join().unwrap();
}
