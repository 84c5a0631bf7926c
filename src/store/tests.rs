use super::*;
use proptest::prelude::*;

/// A page that compresses to roughly `4096 - zeros` bytes.
fn page(seed: u64, zeros: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes: Vec<u8> = (0..PAGE_SIZE)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect();
    bytes[..zeros].fill(0);
    bytes
}

fn handle_of(put: Put) -> Handle {
    match put {
        Put::SameFilled(handle) | Put::Compressed(handle) => handle,
        other => panic!("{other:?}"),
    }
}

fn get(store: &Store, handle: Handle, tag: u64) -> Result<Vec<u8>, Corrupt> {
    let mut out = vec![0xEE; PAGE_SIZE];
    store.get(handle, tag, &mut Decompressor::new(), &mut out).map(|()| out)
}

#[test]
fn same_filled_pages_take_no_memory() {
    let store = Store::new(1 << 20).unwrap();
    for word in [0u32, 0xDEAD_BEEF, u32::MAX] {
        let bytes = word.to_ne_bytes().repeat(PAGE_SIZE / 4);
        let put = store.put(&mut Compressor::new(), &bytes, 1);
        assert!(matches!(put, Put::SameFilled(_)));
        assert_eq!(get(&store, handle_of(put), 1).unwrap(), bytes);
        store.free(handle_of(put));
    }
    assert_eq!((store.held_bytes(), store.payload_bytes()), (0, 0));
}

#[test]
fn a_page_is_refused_if_its_block_is_too_long() {
    let store = Store::new(1 << 20).unwrap();
    let mut compressor = Compressor::new();
    assert_eq!(store.put(&mut compressor, &page(1, 0), 0), Put::Incompressible);
    let bytes = page(1, PAGE_SIZE / 4 + 64);
    let handle = handle_of(store.put(&mut compressor, &bytes, 0));
    assert_eq!(get(&store, handle, 0).unwrap(), bytes);
}

#[test]
fn bytes_are_given_to_no_other_page_and_never_when_they_changed() {
    let store = Store::new(1 << 20).unwrap();
    let handle = handle_of(store.put(&mut Compressor::new(), &page(2, 2000), 7));
    assert_eq!(get(&store, handle, 8), Err(Corrupt));
    assert!(get(&store, handle, 7).is_ok());
    store.corrupt(handle);
    assert_eq!(get(&store, handle, 7), Err(Corrupt));
}

#[test]
fn a_full_store_refuses_pages_until_a_slot_is_freed() {
    let store = Store::new(3 * SLAB_BYTES).unwrap();
    let mut compressor = Compressor::new();
    let mut handles = Vec::new();
    let put = loop {
        match store.put(&mut compressor, &page(handles.len() as u64, 1500), 0) {
            Put::Compressed(handle) => handles.push(handle),
            other => break other,
        }
    };
    assert_eq!(put, Put::Full);
    assert_eq!(store.held_bytes(), store.limit());
    store.check(handles.iter().copied()).unwrap();
    // A smaller page takes a larger slot when no slab is left.
    store.free(handles.pop().unwrap());
    let small = store.put(&mut compressor, &page(99, 4000), 0);
    assert!(matches!(small, Put::Compressed(_)), "{small:?}");
    store.free(handle_of(small));
    for handle in handles {
        store.free(handle);
    }
    store.trim();
    store.check(std::iter::empty()).unwrap();
    assert_eq!((store.held_bytes(), store.payload_bytes()), (0, 0));
}

#[test]
fn another_class_reuses_empty_slabs() {
    let store = Store::new(8 * SLAB_BYTES).unwrap();
    let mut compressor = Compressor::new();
    for round in 0..10 {
        let zeros = 1200 + 250 * round;
        let mut handles = Vec::new();
        for seed in 0..60 {
            handles.push(handle_of(store.put(&mut compressor, &page(seed, zeros), seed)));
        }
        store.check(handles.iter().copied()).unwrap();
        for (seed, handle) in handles.iter().enumerate() {
            assert_eq!(get(&store, *handle, seed as u64).unwrap(), page(seed as u64, zeros));
        }
        handles.into_iter().for_each(|handle| store.free(handle));
    }
    store.trim();
    assert_eq!(store.held_bytes(), 0);
}

#[test]
fn freed_from_many_threads_while_more_is_put_in() {
    let store = Store::new(4 << 20).unwrap();
    let (send, receive) = crossbeam::channel::bounded::<(u64, usize, Handle)>(256);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let (store, receive) = (&store, receive.clone());
            scope.spawn(move || {
                for (seed, zeros, handle) in receive {
                    assert_eq!(get(store, handle, seed).unwrap(), page(seed, zeros));
                    store.free(handle);
                }
            });
        }
        let mut compressor = Compressor::new();
        let rounds = if cfg!(debug_assertions) { 20_000 } else { 200_000 };
        for seed in 0..rounds {
            let zeros = 1100 + (seed as usize * 37) % 2900;
            match store.put(&mut compressor, &page(seed, zeros), seed) {
                Put::Compressed(handle) => send.send((seed, zeros, handle)).unwrap(),
                other => panic!("{other:?}: the store has room for four times 256 pages"),
            }
        }
        drop(send);
    });
    store.trim();
    store.check(std::iter::empty()).unwrap();
    assert_eq!((store.held_bytes(), store.payload_bytes()), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Random puts and frees, compared with a plain list.
    #[test]
    fn against_a_model(ops in proptest::collection::vec((any::<bool>(), 0usize..4000, any::<u8>()), 1..200)) {
        let store = Store::new(1 << 20).unwrap();
        let mut compressor = Compressor::new();
        let mut model: Vec<(u64, Vec<u8>, Handle)> = Vec::new();
        for (i, (put, zeros, pick)) in ops.into_iter().enumerate() {
            if put || model.is_empty() {
                let bytes = page(i as u64, zeros);
                match store.put(&mut compressor, &bytes, i as u64) {
                    Put::Compressed(handle) | Put::SameFilled(handle) => {
                        model.push((i as u64, bytes, handle));
                    }
                    Put::Incompressible => prop_assert!(zeros < PAGE_SIZE / 4 + 100),
                    Put::Full => prop_assert!(store.held_bytes() == store.limit()),
                }
            } else {
                let (tag, bytes, handle) = model.swap_remove(pick as usize % model.len());
                prop_assert_eq!(get(&store, handle, tag).unwrap(), bytes);
                store.free(handle);
            }
            store.check(model.iter().map(|m| m.2)).unwrap();
        }
    }
}
