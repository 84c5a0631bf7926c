//! How thermocline works, to be read before the source. Nothing here can be called.
//!
//! # The states of a page
#![doc = include_str!("design/states.svg")]
//!
//! An arena is a range of addresses, in pages of 4 KiB. Each page has a *page word*: an atomic of 64 bits
//! in a table outside the arena. The word holds the page's state, the tick (a point in time) of the page's last
//! noticed touch, and the store's handle while the store has the bytes. A thread moves a page from one state to
//! the next by a compare-and-swap of the word: a *step*. A thread that loses the race reads the word again.
//!
//! # The life of a page
//!
//! 1. **Empty.** The program allocates, and gets addresses that have no memory yet.
//! 2. **First touch.** The kernel finds no page and reports the fault through a userfaultfd. A handler
//!    thread reads the message, or the faulting thread serves itself in its SIGBUS handler. Either puts
//!    zeros in place (`UFFDIO_ZEROPAGE`). The page is *filling* meanwhile and *resident* afterwards.
//! 3. **Watched.** The evictor, a thread of the arena, *arms* resident pages. From then on the kernel
//!    remembers which of them the program touches. A *scan* asks the kernel for the touched pages, and the
//!    evictor writes the present tick into their words. The *age* of a page is the number of ticks since the
//!    one in its word.
//! 4. **Cold.** The evictor evicts a page when its age reaches the cold age, an option of the arena. While the
//!    arena is above a limit, the evictor evicts the oldest pages sooner.
//! 5. **On its way out.** The evictor takes a batch of up to 64 pages of a region at a time. It *claims*
//!    them, *detaches* them, compresses them into the store, and *commits*: it drops each page that no thread
//!    has touched meanwhile, and the memory goes back to the system. A page that was touched meanwhile stays.
//! 6. **Stored.** The compressed bytes lie in the store. The page has an address and no memory.
//! 7. **Touched again.** The next touch is a *refault*. The thread that serves it takes the page to
//!    *filling*, decompresses the bytes into a buffer, verifies their checksum, and has the kernel put
//!    them in place (`UFFDIO_COPY`). It brings neighbours back too if the program is likely to touch them. The
//!    faulting thread repeats its instruction and finds the page *resident*.
//! 8. **Freed.** The program frees the block, and the allocator releases the page: gives its memory back to
//!    the system, or its slot back to the store. The page is *empty* again.
//!
//! A page whose stored copy is damaged becomes *lost*, and a touch of it is SIGBUS until it is freed.
//!
//! These threads do the work of an arena:
//!
//! | thread                       | work                                                                   |
//! |------------------------------|------------------------------------------------------------------------|
//! | evictor, `thermo-evict`      | scans, evicts, releases free memory that the allocator has kept         |
//! | handlers, `thermo-fault0` …  | serve faults, each from a descriptor of its own; none with inline faults |
//! | keeper, `thermo-keeper`      | keeps copies of the arena's descriptors, and makes calls on them        |
//! | watchdog, `thermo-watch`     | reports a handler, an evictor or an owner that makes no progress        |
//! | threads of the program       | touch pages, allocate and free; serve their own faults inline           |
//!
//! # Glossary
//!
//! | term | meaning | in the kernel or the literature |
//! |------|---------|---------------------------------|
//! | touch | an access by the program to arena memory, read or write | access, reference |
//! | faulting thread | the thread whose touch the kernel could not resolve by itself | faulting task |
//! | fault | a touch that reaches the library: no page, or a protected one | userfault: missing, wp, rwp |
//! | refault | a fault that brings a stored page back | refault (`mm/workingset.c`), swap-in |
//! | handler thread | reads fault messages from a userfaultfd and serves them | fault-handling thread (`userfaultfd(2)`), pager |
//! | inline | the faulting thread serves itself in its SIGBUS handler | `UFFD_FEATURE_SIGBUS` |
//! | evictor | the thread that scans and evicts, one per arena | kswapd |
//! | keeper | the thread with its own descriptor table | `CLOSE_RANGE_UNSHARE` |
//! | watchdog | the thread that finds stalls | khungtaskd |
//! | stall | a thread of the arena, or the owner of a page, makes no progress for the stall limit | hung task |
//! | page word | 64 bits per page: state, waiting bit, tick, handle | page-table entry, swap entry |
//! | empty | never written, or released; reads as zeros | no entry in page table or page cache |
//! | filling | one thread fills the page, lifts its protection, reads its stored copy, or releases the page | locked (`PG_locked`) |
//! | resident | the bytes are in memory | present, or in the page cache |
//! | claimed, claim | in memory; the evictor has reserved the page, and a fault can take the page back | isolated (`folio_isolate_lru`) |
//! | dropping | the store has the bytes; the evictor is about to punch the page | reclaimed after writeback |
//! | stored | the store has the bytes, and there is no memory | swapped out |
//! | lost | the bytes cannot be restored | hwpoison |
//! | owner | the thread that holds a page in filling or dropping; only this thread ends that state | lock holder |
//! | waiter, wake | a thread that waits for an owner; the owner's call that ends the wait | wait queue, `UFFDIO_WAKE`, futex |
//! | arm | begin to watch a page, so that the next touch is noticed | clear the accessed bit, set idle |
//! | scan | ask the kernel which armed pages were touched | `PAGEMAP_SCAN`; idle page tracking, DAMON sampling |
//! | rwp | arm by read-write protection | `UFFDIO_RWPROTECT` (Linux 7.3) |
//! | zap | arm by emptying the page-table entry; the page cache keeps the bytes | `MADV_DONTNEED` (`zap_page_range_single`) |
//! | tracker | a way to notice touches: rwp, zap or accessed | — |
//! | accessed bit | the processor sets it in a page-table entry at a touch; the evictor can clear and count it | young bit, `Referenced` in `smaps` |
//! | look | read the accessed bits of all resting regions | `/proc/PID/smaps`, idle page tracking |
//! | clear | the evictor clears the accessed bits after a look, if the tracking budget allows it | `/proc/PID/clear_refs` |
//! | tracking budget | the share of a processor that looks, arming, scans and the faults that they cause may take | — |
//! | scan interval | the shortest time from one scan to the next | sampling interval (DAMON) |
//! | tick | a fixed quantum of time, the unit of ages | generation (MGLRU) |
//! | age | ticks since the last noticed touch | idle time; `age` (DAMON) |
//! | cold age | the age from which a page is evicted in any case | `min_age` (DAMON_RECLAIM) |
//! | region | 2 MiB, 512 pages: the unit of scanning | what one page table maps (PMD) |
//! | rest | a region rests: the evictor neither arms nor scans it, and at most looks at its accessed bits | — |
//! | idle | an idle region rests and was not referenced since some look | idle page |
//! | thin | a thin region rests, and few of its pages were referenced before the last clear | sparse |
//! | back off | a page backs off: for a pause the evictor does not try to evict it again, because that failed | back-off |
//! | batch | up to 64 pages of one region that are evicted together | folio batch |
//! | detach | copy the bytes of a batch after making touches of it impossible or noticeable | unmap (`try_to_unmap`) |
//! | commit | publish the handles of the unchanged pages and drop these pages | remove from the page cache |
//! | cancel | end the detachment; pages that stay are resident again | put back (`folio_putback_lru`) |
//! | freeze, thaw | switch rwp from async to sync mode, and back | `UFFDIO_SET_MODE` (Linux 7.3) |
//! | punch | give pages of the memfd back to the system | hole punch (`fallocate(2)`, `MADV_REMOVE`) |
//! | poison, heal | make an access SIGBUS; make the page an ordinary one again | `UFFDIO_POISON`, `PTE_MARKER_POISONED` |
//! | zero fill | put zeros in place for a first touch | anonymous fault, `UFFDIO_ZEROPAGE` |
//! | populate | give memory to empty pages before a touch | `MADV_POPULATE_WRITE` |
//! | readahead | bring neighbours back with a refault | swap readahead |
//! | stream, window | refaults each of which continues the run of the one before; the pages that one refault brings back | `file_ra_state` |
//! | ensure, prefetch | bring a range back before a touch; prefetch leaves empty pages empty | `MADV_POPULATE_WRITE`, `MADV_WILLNEED` |
//! | advice | a hint to the evictor: evict a range now, or bring it back | `madvise(2)` |
//! | pin | keep pages in memory until the guard is dropped | `mlock(2)`, `pin_user_pages` |
//! | peek | read a stored page and leave it stored | — |
//! | store | compressed pages, in memory outside the arena | zswap pool, zram |
//! | slab, slot | 64 KiB of equal slots; room for one compressed page | zspage, object (zsmalloc) |
//! | handle | 40 bits by which the store finds a page's bytes | zsmalloc handle, swap entry |
//! | same-filled page | a page of one repeated 32-bit word, kept in its handle | same page (zram) |
//! | codec | a way to compress a page, with or without a dictionary | `comp_algorithm` (zram) |
//! | arena, heap | a range of addresses with its threads; the allocator of its bytes | region; arena (glibc, jemalloc) |
//! | backing, view | an arena's memory with its descriptors; a mapping of it | shmem, anonymous memory |
//! | staging area, place | where the evictor moves pages of private memory; the part of it for one page | — |
//! | huge page | 2 MiB that one entry of the page table maps | transparent huge page (THP) |
//! | collapse | the kernel copies the small pages of a region to a huge page | `MADV_COLLAPSE` |
//! | extent | the pages up to the last one that was ever filled; all pages beyond are empty | — |
//! | plain memory | an arena that evicts nothing, because the system lacks what eviction needs | — |
//! | zeal | an option for tests: evict every untouched page at each scan interval | GC zeal (SpiderMonkey) |
//! | class, span, chunk | a slot size; chunks cut into slots of one class; 64 KiB | size class, span (tcmalloc), slab (jemalloc) |
//! | bin | the spans of one class of one lane | bin (jemalloc) |
//! | magazine | slots of one bin that a thread keeps for itself | magazine (Bonwick), thread cache |
//! | lane | a part of the heap with pages of its own: hot, ordinary or cold | hot-cold allocation (tcmalloc) |
//! | hole | a page of a span that no used slot reaches into | — |
//! | dirty run | free pages that still have memory | dirty extent (jemalloc) |
//! | trim | release all holes and dirty runs at once | `malloc_trim(3)` |
//! | stripe | a part of the arena whose faults go to one descriptor | — |
//! | route | how the userfaultfd was opened: by device or system call, with the faults of system calls or without | `/dev/userfaultfd`, `UFFD_USER_MODE_ONLY` |
//! | delegated call | a descriptor call that the keeper makes for a thread of the program | — |
//! | service stack | the library's stack on which the SIGBUS handler works | alternate stack (`sigaltstack(2)`) |
//!
//! # All steps of a page word
//!
//! | from                   | to                 | thread                                   | when                                         |
//! |------------------------|--------------------|------------------------------------------|----------------------------------------------|
//! | empty                  | filling            | faulting or handler thread; a caller that populates | first touch, or ahead of it       |
//! | stored                 | filling            | faulting or handler thread; a caller of `ensure`, `prefetch`, `pin` or `peek`; the evictor for an advice | a touch, or ahead of it |
//! | resident, claimed      | filling            | faulting or handler thread; for a claimed page also the threads that restore ahead of a touch | the thread lifts the protection |
//! | filling                | resident           | its owner                                | the bytes are in place, or access is given   |
//! | filling                | empty or stored    | its owner                                | the kernel has no memory now; after a peek   |
//! | filling                | lost               | its owner                                | the copy is damaged, or the kernel refuses the page |
//! | resident               | claimed            | evictor                                  | the page is to be evicted                    |
//! | claimed                | resident           | evictor                                  | it cancels                                   |
//! | claimed                | dropping           | evictor                                  | it publishes: the copy is good               |
//! | dropping               | stored             | evictor                                  | the page is punched                          |
//! | dropping               | resident           | evictor                                  | the kernel refused the punch                 |
//! | resident, stored, lost | filling, then empty | the thread that frees or trims; evictor | release; if the kernel refuses, the page is as before |
//! | lost                   | filling, then lost | faulting or handler thread               | a fault: the thread renews the poison, which a zap has removed |
//!
//! A page in filling or dropping has an owner, and only the owner ends that state. A thread that needs such a
//! page sets the word's waiting bit; the owner sees the bit when it ends the state, and wakes the waiters.
//!
//! A claimed page also has an *in-batch* bit, which stays until the evictor is done with the page, even if a
//! fault has taken the page back. A release waits until the bit is clear: the evictor may be about to lock the
//! page in memory, and the lock would put a new page where one was just released.
//!
//! A fault message has a flag: missing, write-protected, read-write-protected. The library ignores the flag,
//! which describes the page at the time when the kernel wrote the message. That may be long ago. The page word
//! says what has to be done now.
//!
//! # How touches are noticed
//!
//! A `Watch` arms pages, and names the armed pages that the program has touched. The kernel sends no message
//! for such a touch. There are two kinds, one per [`Tracker`](crate::Tracker):
//!
//! * `rwp` (Linux 7.3): `UFFDIO_RWPROTECT` takes access away from pages. In async mode the kernel gives
//!   access back at the first touch, and `PAGEMAP_SCAN` lists the pages that have it.
//! * `zap` (Linux 5.19): `MADV_DONTNEED` empties the page-table entries. On shared memory the page cache keeps
//!   the contents. A touch maps the page again, so the mapped pages are the touched ones. On private memory
//!   the contents would be lost. So this tracker starts on a `SharedBacking` only: that type stands for shared
//!   memory.
//!
//! Private memory on kernels without read-write protection has the tracker `accessed`, which arms nothing. It
//! knows regions only, by their accessed bits; see below.
//!
//! Ages are counted in ticks. A tick is a fixed quantum of time, as long as the scan interval that the program
//! chose. It does not depend on how often the evictor scans: early because of a limit, or seldom because a
//! region rests.
//!
//! Arming a page costs the program a fault at the next touch. So the evictor tracks on two levels.
//!
//! *Regions, by accessed bits.* A new region of 2 MiB rests. Each resting region is a mapping of its own, so
//! `/proc/self/smaps` tells how many of its pages were referenced since the evictor last wrote to
//! `/proc/self/clear_refs`. Neither makes a thread fault. The evictor looks every sixth part of the cold age, or
//! less often where its time for looks exceeds a quarter of the tracking budget. After a look it clears the bits,
//! unless the program would lose more than another quarter: the processor sets the bit of each page again that
//! the program touches. To set a bit takes some ten nanoseconds, or half a microsecond where a hypervisor shadows
//! the page tables; the evictor times it on pages of its own. A region that was not referenced since the last clear
//! is idle, whether the look clears or not. Accessed bits are advice: a processor may keep a translation and not
//! set the bit again, kernel reclaim reads and clears the same bits, and another agent may clear them. The library
//! never drops a page because of them.
//!
//! *Pages, by arming.* The evictor arms a resting region for one of three reasons:
//!
//! * The region was idle for half of the cold age. Until its pages reach the cold age, the evictor notices each
//!   touch of them. The age of such a page counts from the last look that saw the region referenced.
//! * The region is thin: less than seven eighths of its resident pages were referenced. The evictor arms the
//!   thinnest first, within the other half of the tracking budget.
//! * The arena is above its limit, and the armed regions have too few old pages. The evictor then looks for idle
//!   regions, for a tenth of its time at most, and arms those first.
//!
//! A new region rests. Where the resident pages take more than three quarters of the limit, the evictor arms it at
//! once and beyond the tracking budget, so that it knows the ages of the pages when it has to choose.
//!
//! The tracker `accessed` cannot watch pages. It takes two kinds of regions whole: those that were idle for the cold
//! age, and those of which the looks of a cold age together found at most a quarter of the resident pages
//! referenced. The warm pages of the latter come back by their next touch.
//!
//! The accessed bit of a huge page covers all of it. So from time to time, with either tracker of private memory, the
//! evictor has the kernel map a huge page as small ones, and counts their bits. A region that turns out dense is
//! collapsed to a huge page again, and its next measurement comes later.
//!
//! The evictor scans an armed region eight times in a cold age, a region without touches more seldom, down to
//! every sixteenth time. It also scans a region when its oldest page reaches the cold age, and always before it
//! evicts pages of the region. A region in which at least seven eighths of the resident pages were touched rests
//! again.
//!
//! The ages of pages in resting regions are unknown. A plan does not count these pages.
//!
//! A system may keep a process from its own accessed bits (no `/proc`, a sandbox, a kernel without
//! `CONFIG_PROC_PAGE_MONITOR`). The evictor then arms new regions at once and scans them at every scan interval.
//! A region in which at least seven eighths of the resident pages were touched in two scans in a row rests for
//! one scan interval, then for 3, 7, up to 31.
//!
//! Regions form groups of 1 GiB. The evictor visits a group when a region of it is due, or has got its first
//! page. So the time for a scan follows the regions that are due.
//!
//! While the arena is below its limit, the evictor evicts the pages that a scan has found at the cold age. Above
//! the limit a pure function in `policy` makes a plan from the ages of all pages that the evictor may evict: all
//! pages at the cold age, the oldest pages too, and a sixty-fourth of the limit more than necessary.
//!
//! # How a page is evicted
//!
//! The evictor claims up to 64 pages of a region, one by one: a batch. A fault on a claimed page takes the page
//! back. The evictor then detaches the batch, one run of neighbours after the other, compresses it and commits
//! it. An `Isolation` offers `detach`, `commit` and `cancel`. The tracker decides what these do:
//!
//! | step             | `rwp`                                               | `zap`                              |
//! |------------------|-----------------------------------------------------|------------------------------------|
//! | detach: protect  | `mlock` the pages; map and arm those not mapped     | write-protect the pages            |
//! | detach: read     | copy the bytes through the memfd                    | the same                           |
//! | compress         | compress the claimed pages, put them into the store      | the same                           |
//! | commit: freeze   | sync mode (`UFFDIO_SET_MODE`)                       | nothing to do                      |
//! | commit: check    | a page that is still protected is unchanged         | a page that is not mapped is cold  |
//! | commit: publish  | claimed to dropping, with the handle in the word    | the same                           |
//! | commit: punch    | hole punch in the memfd, run by run; dropping to stored; wake the waiters | the same     |
//! | commit: thaw     | async mode, which wakes every waiter                | nothing to do                      |
//! | cancel           | `munlock`                                           | lift the write protection, wake    |
//!
//! A page stays if a thread touched it, if it does not compress, if the store is full, or if the kernel refuses
//! a call on it. Cancel comes last in any case: it ends the detachment of every run, and every remaining claim.
//!
//! * Detach under `rwp` locks pages (through a second mapping of the memfd, which the program never sees)
//!   because the kernel keeps read-write protection in the entries of mapped pages only. It would lose the
//!   protection when it swaps out a page of shared memory (`mm/rmap.c` keeps a marker for write protection
//!   only). A write between check and punch would then be lost.
//! * Detach under `zap` stops writers only. That suffices: a reader cannot make a copy stale. The kernel keeps
//!   write protection of shared memory in a marker (`PTE_MARKER_UFFD_WP`), so it covers unmapped pages and
//!   outlasts swapping. A page that was read meanwhile is mapped; it is no longer cold, and stays.
//! * Freeze comes after compress, so that no thread waits while the evictor compresses pages. Under `rwp` a
//!   touch during compress does not wait; the evictor has then compressed the page for nothing.
//! * When `UFFDIO_SET_MODE` returns, no access is under way that the check would miss. From then to thaw a
//!   touch of any armed page of the same descriptor waits, so the evictor only checks, publishes and punches
//!   in that time.
//!
//! # How a page of private memory is evicted
//!
//! Private memory ([`Backing::Private`](crate::Backing::Private)) is anonymous memory, as the system's allocator has.
//! The page table alone holds its pages. The kernel makes huge pages of it where the system allows that, so a touch of
//! hot memory costs what it costs elsewhere. The evictor neither protects nor punches such pages, it moves them:
//!
//! | step    | with either tracker                                                                             |
//! |---------|-------------------------------------------------------------------------------------------------|
//! | detach  | take the pages' places, move the pages of a run to the staging area (`UFFDIO_MOVE`), copy them   |
//! | compress | as above                                                                                        |
//! | commit  | claimed to dropping; drop the pages in the staging area; dropping to stored; wake the waiters    |
//! | cancel  | move back what is still away                                                                    |
//!
//! * A page that is away cannot be touched, so a copy cannot get stale. A touch of it is a missing fault. The thread
//!   that serves it finds the page word claimed, takes the page back, waits until the evictor has copied the page, and
//!   moves it back. No other thread waits.
//! * The staging area has a place for each page of a region, and an atomic word for each place. The evictor takes the
//!   place and then reads the page word. A thread that serves a fault changes the page word and then reads the place.
//!   One of them sees the other.
//! * The kernel refuses to move a page that is pinned for a device, or shared with a child since a fork. It stays, so
//!   private memory loses no byte that a device writes. Shared memory has to be [pinned](crate::Arena::pin) for that.
//! * A fault is served with a small page. So fresh memory of whole regions is made beside the arena, as huge pages, and
//!   moved in; and the evictor has dense regions in small pages collapsed, as far as the tracking budget goes.
//! * While the kernel migrates pages, `UFFDIO_MOVE` moves pages that it does not count (seen on 6.18 and 7.3). After each
//!   move that stops, the evictor asks `PAGEMAP_SCAN` which pages the staging area has.
//! * If the program drops pages itself (`MADV_DONTNEED`), they read as zeros, as elsewhere. `Stats` counts them.
//!
//! # Where the descriptors are
//!
//! A userfaultfd's registration ends when its last descriptor is closed; evicted pages then read as zeros
//! (`userfaultfd_release` in `fs/userfaultfd.c`). A program may close any descriptor. So the *keeper*, a
//! thread of the arena, has a descriptor table of its own (`CLOSE_RANGE_UNSHARE`) with copies of the arena's
//! descriptors. It starts the arena's other threads, which share that table. A thread of the program uses the
//! copy in the program's table. If the program has closed or replaced that copy, the thread posts its call to
//! the keeper and waits for the answer. Posting needs neither memory nor a lock, so it works in a signal
//! handler.
//!
//! # How a page comes back
//!
//! A touch of a missing page, or of a page that the evictor has detached, may be a fault that the kernel does
//! not resolve by itself. It arrives in one of two ways ([`FaultMode`](crate::FaultMode)). Both call the same
//! function, which decides by the page word.
//!
//! * *As a message* to a handler thread. The arena is cut into stripes, of 2 MiB at its start and longer
//!   further on. There are as many descriptors as handler threads, and the stripes belong to them in turn.
//!   So threads that fault do not queue up for one descriptor, and no two handlers wake up for one message.
//!   A handler sleeps, or first polls for the next message for up to 50 microseconds. Every 128 messages it
//!   chooses the way in which the messages came faster. It does not poll if messages come seldom.
//! * *As SIGBUS* in the faulting thread (`UFFD_FEATURE_SIGBUS`). The SIGBUS handler finds the arena by the
//!   address in a table of atomics, does the work of a handler thread, and returns; the processor runs the
//!   instruction again. An address outside every arena goes to the previous handler. The handler works on a
//!   service stack from the library's pool, because the stack that the kernel has chosen may be smaller than
//!   decompressing needs.
//!
//! If another thread owns the page, the faulting thread waits: in the kernel, if a handler thread serves the
//! fault; inline, on the page word, which it polls for some microseconds before it sleeps by `futex(2)`. The
//! owner wakes the waiters of both kinds.
//!
//! One call, `UFFDIO_COPY`, puts a run of up to sixteen pages in place. The bytes come from a buffer; there is a
//! buffer for each processor, from 2 to 64 in all. The run is the touched page and its readahead:
//!
//! * The library remembers the last seven runs of each part of the arena. A fault at the end of a run
//!   continues it as a stream. From the second continuation on the window doubles, up to sixteen pages.
//! * While faults continue streams again and again, windows begin with more than one page.
//! * Every sixteenth run with readahead is a sample: the thread that brings it back arms the readahead pages,
//!   and scans those of the previous sample. If untouched pages outnumber touched ones, all windows begin and
//!   end smaller, down to one page. The counters in [`Stats`](crate::Stats) are `readahead_pages`,
//!   `readahead_sampled_hits` and `readahead_sampled_misses`. The tracker `accessed` cannot see touches of pages, so the
//!   readahead pages of a sample stay stored, and count as touched if a fault brings them back.
//!
//! A first touch of the page right after the previous window also populates the pages behind it. This window
//! doubles each time, up to 2 MiB, and ends at the end of the block.
//!
//! A program that knows its next touches can avoid the faults. [`ensure`](crate::Arena::ensure) reads the words
//! and brings missing pages back in runs. [`peek`](crate::Arena::peek) owns a stored page while it
//! decompresses, copies the bytes that were asked for, and leaves the page stored.
//!
//! # How a page is pinned
//!
//! Each page has a count of pins beside its word. A thread that pins raises the count, then brings the page
//! back and waits until the evictor is done with it. The evictor claims a page, then reads the count, and
//! gives the page up if it is pinned. The accesses are sequentially consistent, so at least one of the two
//! threads sees the other's write. The evictor does not arm pinned pages either: if the process may not serve
//! faults of system calls, a system call cannot reach an armed page during a freeze.
//!
//! # Why no byte is ever wrong
//!
//! 1. *The evictor drops bytes only when their copy is in the store and no writer can reach them.* Between the
//!    copy and the punch, the protection stops each writer, or the check of the commit notices the write. A
//!    thread that serves a fault lifts protection only while it owns the page (filling). So a thread that
//!    serves an old message cannot lift protection on which an eviction relies.
//! 2. *No data of the library lies in an arena, and no thread holds a lock of the library while it touches
//!    arena memory.* The fault path takes no lock that a thread of the program could hold while it waits for a
//!    page: it frees store slots without a lock, it reads the end of a block without a lock, and it rings the
//!    evictor by a flag and a futex. This holds also where the process allocates from the arena
//!    ([`ArenaAlloc`](crate::ArenaAlloc)). Each thread counts the calls of the library that it is inside of;
//!    the library's own threads are inside from their first line on. An allocation inside the library comes
//!    from the system.
//! 3. *The fault path neither allocates nor panics.* Its buffers exist before the first fault. A thread of the
//!    program that owns pages for a moment (`ensure`, `peek`, release) has its signals blocked meanwhile: a
//!    signal handler that touched such a page would wait for the thread that it interrupted. The SIGBUS
//!    handler runs with all signals blocked, and saves errno.
//! 4. *An error on the way out leaves the page in memory, and is counted. An error on the way in is SIGBUS.*
//!    Each page in a slab has a checksum (CRC-32) over its own bytes and its number. The store verifies it
//!    before it gives the bytes back. There is one exception: while the kernel has no memory, the faulting
//!    thread waits.
//! 5. *A child after fork has no mapping of the arena* (`MADV_DONTFORK`).
//! 6. *Stopping an arena brings everything back first.* A handler thread that fails aborts the process. The
//!    watchdog, which does nothing else, finds one that is stuck. Five times in each
//!    [stall limit](crate::Builder::stall_limit) it checks three things: at which page each handler thread and
//!    the evictor is (they write its number with a relaxed store), which descriptors have unread messages, and
//!    which pages have waiters. A check that comes late does not count, because the other threads may not have
//!    run either. If the evictor is stuck while it has claimed no page, no thread waits for it, and the
//!    watchdog does not report it.
//!
//! # The calls on pages
//!
//! `sys::backing` owns the memfd, its two mappings and the descriptors. It decides how pages, counted from the
//! arena's start, are read, filled, discarded, protected, poisoned and healed. The program uses the first
//! mapping. The library never registers the second one with a userfaultfd, and locks and drops pages by it.
//!
//! The kernel may do a part of a call's range, or nothing while the address space changes (EAGAIN). On older
//! kernels (6.1 for one) a range must lie in one mapping, and the program may have cut the arena's mapping into
//! pieces (`mlock`, `mprotect` or `madvise` on a part). One loop inside `sys::backing` deals with these cases
//! for all calls: it goes on after the part that is done, repeats the call, or makes it on shorter runs.
//!
//! # The store
//!
//! A page that repeats one 32-bit word is kept in its page word. Every other page is a block in a slab of
//! 64 KiB, in a slot of a multiple of 64 bytes, up to three quarters of a page. A page whose block is longer
//! stays in memory. The evictor tries it again after a pause, which doubles each time.
//!
//! A block begins with a header: the checksum, the block's length, and which codec and dictionary made it.
//! There are two codecs: an LZ4 block of the whole page, and one of the bytes before the page's zero tail.
//! `lz4_flex` encodes and decodes both, in its build with raw pointers unless another crate of the program
//! selects its safe code. Decoding allocates nothing, because it may run in a signal handler. Tests and
//! fuzzing compare it with a plain decoder.
//!
//! The evictor takes slots under a lock. Any thread frees slots without one.
//!
//! # The allocator
//!
//! All data of the allocator lie outside the arena, so that neither allocating nor freeing touches a stored
//! page.
//!
//! * Up to 32 KiB there are eighty *classes*, eight to each power of two. A *span* is one or several chunks
//!   of 64 KiB, cut into slots of a class, with a bit for each free slot. Each chunk of a span has a tag that
//!   leads to the span. Each class of each lane has a *bin* with its spans, sorted by how full they are. The
//!   bin hands out slots of the fullest span first, so that emptier spans can become empty.
//! * A thread has a *magazine* of slots for each bin. Allocating takes the last slot out and freeing puts one
//!   in, with no lock and no read-modify-write. An empty or full magazine exchanges half of its slots with the
//!   bin. A thread that ends gives all of its magazines back.
//! * A larger block is a run of *pages*. A thread keeps a few such runs for its next request of the same size.
//!   The heap finds free runs by two-level segregated fit.
//! * A [`Lane`](crate::Lane) cuts its spans and its runs from separate 2 MiB regions of its own. Where no
//!   region is left, lanes share the free pages one by one.
//! * A *hole* is a page of a span that no used slot reaches into. `trim` releases holes while the rest of the
//!   span stays in use. The evictor releases holes too, in spans that have handed out nothing for a while, in
//!   steps of about a millisecond. While a thread releases a span's holes, the bin hands out none of the span's
//!   slots. Before a thread gets a slot in a released page, the library populates the page.
//! * Pages that become free are *dirty*. They keep their memory until 32 milliseconds have passed in which
//!   allocations did not need that many of them. Then the heap releases them. If some of them are evicted, the
//!   heap frees their stored copies, and brings no page back.
//!
//! # Without a kernel
//!
//! `sys` has two folders with the same file names: `linux` makes the calls, `simulated` is a kernel in
//! memory. One place chooses between them. `prim` has a scheduler that decides which thread goes on at each
//! access to a shared word and at each call. `scripts/simulate` runs the unchanged engine on the simulated
//! kernel under this scheduler: each scenario once as it is, then once more for each deviation: another
//! outcome of one of its calls, or another thread that goes on at one of its steps. The script prints a failure
//! with the deviation that led to it. The same deviation causes the same failure again.
//!
//! `scripts/loom` has a model checker do the same for two or three threads on one or two pages, in every order
//! (up to a bound of preemptions), with the words' memory orderings as loom models them.
//!
//! `sys/simulated/mod.rs` lists what the simulation leaves out. The simulation follows its authors' reading of
//! the kernel; the tests on real kernels check that reading.
//!
//! # Modules
#![doc = include_str!("design/rooms.svg")]
//!
//! The source calls its top-level modules *rooms*. A room imports only rooms with smaller numbers;
//! `tests/house.rs` checks that.
//!
//! | module     | contents                                                                              |
//! |------------|---------------------------------------------------------------------------------------|
//! | 1 `prim`   | units, sizes, bit fields, the switch for atomics, whether a thread works for the library |
//! | 2 `stats`  | counters and histograms that the fault path may write, and their snapshot              |
//! | 3 `policy` | pure functions and types: eviction plan, ages, scan schedule, windows, poll and readahead tuners |
//! | 4 `sys`    | the kernel: memory, userfaultfd, page maps, signals; the only module that names libc   |
//! | 5 `table`  | the page words and their legal steps                                                  |
//! | 6 `store`  | takes a page's bytes and returns a handle, and the reverse; knows no page states       |
//! | 7 `alloc`  | which bytes are handed out, and to which lane                                          |
//! | 8 `track`  | `Watch`: which pages were touched; `Isolation`: detach, commit, cancel; `Core`: the parts that `evict` and `fault` share |
//! | 9 `evict`  | scan, claim, detach, compress, commit                                                 |
//! | 10 `fault` | bring pages back, on a touch or ahead of it; release them                              |
//! | 11 `arena` | what a program calls: `Arena`, its builder, its threads, its limits                    |
//!
//! # What it costs
//!
//! Memory:
//!
//! * 8 bytes a page for the word; 12 bytes for each region of 2 MiB; 4 bytes for each page near a pinned
//!   one; 16 bytes for each page near the end of a large block. All of it is reserved lazily.
//! * A bit for each small block, and 130 bytes for each span.
//! * Up to 110 KiB for each thread that allocates, depending on the sizes and lanes that it uses.
//! * In the store 8 bytes a page, the rounding up to 64 bytes, and slots that nothing fits into for the
//!   time being.
//!
//! Time: the evictor, which reads the words of all armed regions at each scan; the handler threads (two by
//! default); the keeper, which sleeps until a call is posted; and the watchdog, which by default wakes up every
//! two seconds to check that the threads go on. For figures see the README.
