//! The forms in which a program names a range of memory.

use core::ops::Range;
use core::ptr::{self, NonNull};

/// A range of memory, as [`ensure`](crate::Arena::ensure), [`pin`](crate::Arena::pin),
/// [`prefetch`](crate::Arena::prefetch), [`advise`](crate::Arena::advise) and
/// [`is_resident`](crate::Arena::is_resident) take it.
///
/// It is implemented for references to slices, arrays, strings, vectors and boxes, and for raw ranges.
/// The arena reads and writes nothing through the pointer, and refuses a range that lies elsewhere. So
/// any address is safe.
///
/// ```
/// use allocator_api2::{boxed::Box, vec::Vec};
/// use thermocline::{Advice, Arena};
///
/// # fn main() -> Result<(), std::boxed::Box<dyn std::error::Error>> {
/// let arena = Arena::builder().plain_memory_fallback(true).build()?;
/// let mut text = Vec::new_in(&arena);
/// text.extend_from_slice(b"a text");
/// let pair = Box::new_in((1u32, 2u64), &arena);
///
/// arena.ensure(&text)?; // a vector
/// arena.ensure(&pair)?; // a box
/// arena.ensure(&text[2..])?; // a slice
/// arena.ensure(std::str::from_utf8(&text)?)?; // a string
/// arena.ensure(text.as_ptr_range())?; // a raw range of bytes
/// arena.ensure(&raw const text[..])?; // a raw slice
///
/// let block = arena.allocate(std::alloc::Layout::new::<[u8; 5000]>())?;
/// let pinned = arena.pin(block)?; // a block
/// # drop(pinned);
/// # Ok(())
/// # }
/// ```
pub trait MemoryRange {
    /// The first byte, and the length in bytes.
    fn byte_range(&self) -> (*const u8, usize);
}

macro_rules! memory_range {
    ($([$($generic:tt)*] $type:ty: $this:ident => $bytes:expr;)*) => {
        $(impl<$($generic)*> MemoryRange for $type {
            #[inline]
            fn byte_range(&self) -> (*const u8, usize) {
                let $this = *self;
                $bytes
            }
        })*
    };
}

#[inline]
fn of_value<T: ?Sized>(value: &T) -> (*const u8, usize) {
    (ptr::from_ref(value).cast(), size_of_val(value))
}

memory_range! {
    // No memory is as long as a product that saturates.
    [T] *const [T]: range => (range.cast(), range.len().saturating_mul(size_of::<T>()));
    [T] *mut [T]: range => range.cast_const().byte_range();
    [T] NonNull<[T]>: range => range.as_ptr().byte_range();
    [T] &[T]: slice => of_value(slice);
    [T, const N: usize] &[T; N]: array => of_value(array);
    [] &str: text => of_value(text);
    [] &String: text => of_value(text.as_str());
    [T] &Vec<T>: vec => of_value(vec.as_slice());
    [T: ?Sized] &Box<T>: value => of_value(&**value);
}

#[cfg(feature = "allocator-api2")]
mod in_allocators {
    use super::{MemoryRange, of_value};
    use allocator_api2::{alloc::Allocator, boxed::Box, vec::Vec};

    memory_range! {
        [T, A: Allocator] &Vec<T, A>: vec => of_value(vec.as_slice());
        [T: ?Sized, A: Allocator] &Box<T, A>: value => of_value(&**value);
    }
}

impl MemoryRange for Range<*const u8> {
    #[inline]
    fn byte_range(&self) -> (*const u8, usize) {
        (self.start, self.end.addr().saturating_sub(self.start.addr()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_gives_the_bytes_of_its_memory() {
        let mut numbers = vec![1u32, 2, 3];
        let expected = (numbers.as_ptr().cast(), 12);
        assert_eq!((&numbers).byte_range(), expected);
        assert_eq!(numbers.as_slice().byte_range(), expected);
        assert_eq!((&raw const numbers[..]).byte_range(), expected);
        assert_eq!((&raw mut numbers[..]).byte_range(), expected);
        assert_eq!(NonNull::from(numbers.as_mut_slice()).byte_range(), expected);
        let boxed = numbers.into_boxed_slice();
        assert_eq!((&boxed).byte_range(), expected);
        let array = [7u64; 2];
        assert_eq!((&array).byte_range(), (array.as_ptr().cast(), 16));
        let text = String::from("text");
        assert_eq!((&text).byte_range(), (text.as_ptr(), 4));
        assert_eq!(text.as_str().byte_range(), text.as_bytes().as_ptr_range().byte_range());
        let dynamic: Box<dyn Send> = Box::new(5u64);
        assert_eq!((&dynamic).byte_range().1, 8);
        let backwards = ptr::without_provenance(8)..ptr::without_provenance(4);
        assert_eq!(backwards.byte_range().1, 0);
        let absurd = ptr::slice_from_raw_parts(ptr::null::<u64>(), usize::MAX);
        assert_eq!(absurd.byte_range().1, usize::MAX);
    }

    #[test]
    #[cfg(feature = "allocator-api2")]
    fn arenas_take_each_form() {
        use crate::arena::{Arena, ArenaError};
        let arena = Arena::builder().plain_memory_fallback(true).reserve(64 << 20).build().unwrap();
        let mut text = allocator_api2::vec::Vec::new_in(&arena);
        text.extend_from_slice(b"a text");
        let value = allocator_api2::boxed::Box::new_in([5u64; 40], arena.hot());
        assert_eq!(arena.ensure(&text), Ok(()));
        assert_eq!(arena.ensure(&value), Ok(()));
        assert_eq!(arena.ensure(&*value), Ok(()));
        assert_eq!(arena.ensure(text.as_ptr_range()), Ok(()));
        assert_eq!(arena.ensure(str::from_utf8(&text).unwrap()), Ok(()));
        assert_eq!(arena.pin(&value).map(|pin| pin.bytes()), Ok(4096));
        let mut buffer = Vec::new();
        assert_eq!(*arena.peek(&text, &mut buffer).unwrap(), *b"a text");
        let elsewhere = [1u8; 4];
        assert_eq!(arena.ensure(&elsewhere), Err(ArenaError::OutsideArena));
        assert_eq!(arena.ensure(elsewhere.as_ptr_range()), Err(ArenaError::OutsideArena));
    }
}
