//! How it works. Nothing to call here; a page to read before the source.
//!
//! # What happens to a page
//!
//! Each page of an arena has one word, an atomic of 64 bits in a table outside of the arena: its
//! state, when it was last seen touched, and where its bytes are once they are stored.
//!
//! ```text
//!             first touch, populate                     claimed by the evictor
//!      Empty ----------> Filling ----------> Resident ------------------> Claimed
//!        ^                ^   |                ^  |                         |   |
//!        |   released     |   |                |  | touched: lift           |   | taken back
//!        +----------------+   | cannot be      |  v                         |   v
//!                             | restored      Filling <---------------------|---+
//!                             v                ^                            | copied, untouched
//!                            Lost              | touched: restore           v
//!                                              +---- Stored <---------- Dropping
//!                                                             punched
//! ```
//!
//! Whoever wants to take a step does so by a compare-and-swap of the word. The loser looks again.
//! `Filling` and `Dropping` have an owner, who alone leaves them; whoever faults on such a page sets
//! the word's waiting bit, and the owner, who sees the bit as he leaves, wakes him.
//!
//! A fault arrives as a message with a flag: missing, write-protected, read-write-protected. The
//! flag is not looked at. It tells what the page was when the kernel wrote the message, which may be
//! long ago; what has to be done is in the word.
//!
//! # How touches are noticed
//!
//! Pages are *armed*; later a scan tells which of them have been touched. No message is sent for
//! it.
//!
//! * `rwp` (Linux 7.3): `UFFDIO_RWPROTECT` takes access away from the pages, in async mode the
//!   kernel gives it back to each at its first touch, and `PAGEMAP_SCAN` lists those that have it.
//! * `zap` (Linux 5.19): the pages are taken out of the page table (`MADV_DONTNEED` on shared
//!   memory keeps their contents); a touch maps them again, and the mapped ones are the touched
//!   ones.
//!
//! Regions of 2 MiB are looked at by themselves. One in which nothing was touched stays armed, and is
//! looked at every second time, then every fourth, up to every sixteenth, and in any case before its
//! pages are evicted. One in which nearly all is touched each time (seven eighths) is left out for 1,
//! 3, 7, up to 31 looks, so that hot memory is left in peace.
//!
//! # How a page is evicted
//!
//! In batches of up to 64 neighbours, by one thread per arena:
//!
//! 1. *Claim* the pages: from here a toucher who comes to the fault path takes the page back.
//! 2. *Hold* them. `zap` write-protects them: a reader cannot make a copy stale. `rwp` locks them
//!    in memory, because on shared memory the kernel forgets this protection when it swaps a page
//!    out, and maps and arms those that are not mapped.
//! 3. *Copy* them: read the bytes through the memfd, compress, put them into the store.
//! 4. *Freeze*. `rwp` switches to sync mode: when `UFFDIO_SET_MODE` returns, no access is under way
//!    that could go unseen. For `zap` there is nothing left to do.
//! 5. Look which pages are *intact*: still armed, so not touched since before they were copied. The
//!    others go back. The order of 3 and 4 is what keeps the world from standing still while pages
//!    are being compressed: under `rwp` a touch during the copy costs the evictor his work and the
//!    toucher nothing.
//! 6. *Publish*: `Claimed` to `Dropping`, with the store's handle in the word.
//! 7. *Punch* the pages out of the memfd, run by run; `Dropping` to `Stored`.
//! 8. *Thaw*, *release*, and wake who has waited.
//!
//! # Where the descriptors are
//!
//! A userfaultfd's registration ends with its last descriptor, and evicted pages read as zeros then. A
//! program may close any descriptor. So the *keeper*, a thread of the arena, has a descriptor table of its
//! own with copies of the arena's descriptors (`CLOSE_RANGE_UNSHARE`), and starts the arena's other threads,
//! which share that table. A thread of the program uses the copy in the program's table. If that was closed
//! or replaced, the thread posts its call to the keeper and waits for the answer; this needs neither memory
//! nor a lock, so that it works in a signal handler.
//!
//! # How a page comes back
//!
//! A touch of a page that is not there, or is being held still, is a fault that the kernel does not
//! resolve by itself. It arrives in one of two ways ([`FaultMode`](crate::FaultMode)), and both come to
//! the same function, which decides by the page's word:
//!
//! * *As a message* to a thread of the arena, the handler. The arena is cut into stripes, of 2 MiB at
//!   its start and longer further on, which belong to as many descriptors in turn as there are
//!   handlers: threads that touch pages do not queue up for one of them, and no two handlers wake up
//!   for one message. A handler sleeps, or looks for the next message for up to 50 microseconds first;
//!   every 128 messages it chooses by how fast they came in either way, and not to look when they
//!   come seldom.
//! * *As SIGBUS* in the thread that touched the page (`UFFD_FEATURE_SIGBUS`). Its handler finds the
//!   arena by the address, in a table of atomics, does everything that the other kind of handler does,
//!   and returns; the instruction is run again. What belongs to no arena goes to the handler that was
//!   there before. The handler works on a stack from a pool of the library's: the one that the kernel
//!   has chosen may be smaller than what decompressing takes.
//!
//! Who meets a page that somebody else owns waits: in the kernel, if it was a message; else on the
//! word itself, for some microseconds by looking at it, then by `futex(2)`. The owner wakes both kinds.
//!
//! A page comes back by one call, `UFFDIO_COPY`, from one of as many buffers as there are processors.
//! Neighbours come with it where it looks as if they will be touched next. For every part of the
//! arena the last seven runs are remembered. A fault at the end of one continues it, and from the second
//! time on brings twice as many pages as the last, up to sixteen. Where runs are continued again and
//! again they begin with more than one page. Of every sixteenth run that brought company, that company is
//! watched, by the same means as pages to be evicted, and some runs later looked at: where more
//! was wasted than wanted, windows begin and end smaller, down to one page. The counters are in
//! [`Stats`](crate::Stats): `readahead_pages`, `readahead_sampled_hits`, `readahead_sampled_misses`.
//!
//! A program that knows what it is going to touch does not have to fault:
//! [`ensure`](crate::Arena::ensure) is a look at the words, and brings back what is missing in runs.
//! [`peek`](crate::Arena::peek) owns a stored page for as long as decompressing it takes, copies what is
//! asked for, and gives it up again as it was.
//!
//! # How a page is pinned
//!
//! Beside its word each page has a count of pins. Who pins raises it, then brings the page back and
//! waits until the evictor is done with it. The evictor claims a page, then looks at the count, and
//! gives the page up if it is pinned; sequential consistency makes sure that one of the two sees the
//! other. Pinned pages are not watched either: during a freeze a watched page is out of reach of
//! system calls where the process may not serve their faults.
//!
//! # Why no byte is ever wrong
//!
//! 1. *Bytes are dropped only when their copy is in the store and no writer can reach them.* Between
//!    the copy and the punch every writer either is stopped by the protection, or has been seen in
//!    step 5. A fault lifts protection only while it owns the page (`Filling`), so that a message
//!    that is served late cannot lift it from under an eviction that relies on it.
//! 2. *Nothing of the library lives in an arena, and no lock of it is held while arena memory is
//!    touched.* The fault path takes none that a program's thread could hold while it waits for a
//!    page: freeing a slot in the store is lock-free, where a block ends is read without one, and the
//!    evictor is rung by an eventfd. This holds too where the process allocates from the arena
//!    ([`ArenaAlloc`](crate::ArenaAlloc)): each thread counts how deep it is inside the library, the
//!    library's own threads from their first line on, and what is allocated there comes from the
//!    system.
//! 3. *The fault path neither allocates nor panics.* Its buffers exist before the first fault. Threads
//!    of the program that own pages for a moment (prefetch, release) have their signals blocked
//!    meanwhile: a handler that touched such a page would wait for the thread that it interrupted.
//!    The handler for SIGBUS runs with all signals blocked, and saves errno.
//! 4. *What fails on the way out stays in memory, and is counted.* What fails on the way in is SIGBUS:
//!    each page in a slab has a checksum (CRC-32) over its own bytes and its number, verified before
//!    they are given back. Only for want of memory the toucher waits.
//! 5. *A child after fork has no mapping of the arena.* `MADV_DONTFORK`.
//! 6. *Stopping brings everything back first.* A handler thread that fails aborts the process. One that
//!    is stuck is found by a thread that does nothing else: it looks five times in each
//!    [stall limit](crate::Builder::stall_limit) at which page each handler and the evictor is, which
//!    they write down with a relaxed store, at the descriptors for messages that nobody reads, and at
//!    the pages whose owners somebody waits for. Looks that come late do not count, for whatever kept
//!    that thread from running has kept the others. An evictor that is stuck while it has claimed no
//!    page keeps nobody from going on, and is not told of.
//!
//! # The store
//!
//! A page that holds one 32-bit word over and over is kept in its page word. All others are blocks
//! in slabs of 64 KiB, with slots in steps of 64 bytes up to three quarters of a page; what does not
//! fit there stays in memory, and is tried again after a pause that doubles each time.
//! The format is that of LZ4 blocks. Encoder and decoder are the library's own, for exactly one page
//! and in safe Rust, and any LZ4 library reads what they write: tests and fuzzing compare them with
//! `lz4_flex`.
//! Slots are taken by the evictor under a lock and freed by anybody without one.
//!
//! # The allocator
//!
//! All that it knows lies outside the arena, so that neither allocating nor freeing touches a page that
//! sleeps.
//!
//! * Up to 32 KiB there are eighty *classes*, eight to each power of two. A *span* is one or some
//!   chunks of 64 KiB cut into slots of a class, with a bit for each that is free. A tag per chunk says
//!   whose it is. A class of a lane has a *bin* with its spans, sorted by how full they are; the fullest
//!   is used first, so that the others may become empty.
//! * A thread has a *magazine* of slots for each bin. Allocating takes the last one out and freeing puts
//!   one in, with no lock and no read-modify-write; empty or full magazines are exchanged with the bin by
//!   halves. The thread's end gives all of them back.
//! * What is larger is a run of *pages*. The thread keeps a few of those too, for who wants as many again.
//!   Free runs are found by two-level segregated fit.
//! * A [`Lane`](crate::Lane) cuts its spans and runs from 2 MiB regions of its own, large and small apart.
//!   Where no region is left, what is free is shared by the page.
//! * A *hole* is a page of a span that no slot in use reaches into. Holes are released while the rest of the
//!   span stays in use: by `trim`, and by the evictor's thread where nothing was handed out for a while,
//!   in steps of about a millisecond. The bin hands out none of the span's slots meanwhile. When a slot in
//!   a released page is handed out later, the page is populated first.
//! * Pages that become free are *dirty*: they keep their memory until it turns out that nobody has needed
//!   so many of them for 32 milliseconds. By then they are released. What was evicted of them is
//!   forgotten, not brought back.
//!
//! # Without a kernel
//!
//! `sys` has a simulated twin, and `prim` a scheduler that decides who goes on at each access to a
//! shared word and each call. `scripts/simulate` runs the engine on them, unchanged: each scenario
//! once as it is, and once for each outcome that each of its calls may have and each thread that may
//! go on at each of its steps. What fails is printed with the deviation that led there, and repeats.
//! `scripts/loom` has a model checker do the same for two or three threads on one or two pages, in
//! every order, and with the orderings of the words being what they are. What the twin leaves out is
//! written at its head (`sys/simulated/mod.rs`). It is as right as our reading of the kernel; the
//! tests on real kernels are what that is held against.
//!
//! # Rooms
//!
//! A module imports only those before it; a test sees to it.
//!
//! | module   | what it is                                                                       |
//! |----------|----------------------------------------------------------------------------------|
//! | `prim`   | units, bit fields, the switch for atomics, whose work a thread does              |
//! | `stats`  | counters and histograms that a fault may touch, and their snapshot               |
//! | `sys`    | the kernel, and nothing but: the only room that names libc                       |
//! | `table`  | the page words and their legal steps                                             |
//! | `store`  | bytes in, handle out, bytes back; knows no pages' states                         |
//! | `alloc`  | who has which bytes; its metadata lies outside of the arena                      |
//! | `track`  | who was touched, and how pages are held still                                    |
//! | `evict`  | look, claim, compress, drop                                                      |
//! | `fault`  | bring back: on a touch, ahead of it, or never again                              |
//! | `policy` | what is to go: a pure function                                                   |
//! | `arena`  | where all of it is put together                                                  |
//!
//! # What it costs
//!
//! Metadata: 8 bytes a page for the word, 12 bytes for each 2 MiB, 4 bytes for each page near one
//! that is pinned and 16 for each near the end of a large block, all of it reserved lazily; a bit for
//! each small block and 130 bytes for each span; up to 110 KiB for each thread that allocates, as it
//! uses sizes and lanes; in the store 8 bytes a page, what rounds up to 64, and slots that nothing fits into for the time being.
//! Time: one thread that looks and evicts, which reads the words of all watched regions at each look,
//! as many handlers as were asked for, and one that wakes up every other second to see whether they
//! go on. For figures see the README.
