//! The heap of a program that holds a token and talks to servers that may be hostile: large blocks
//! are never locked in memory.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;

/// Blocks of at least this size, in bytes, have pages of their own, which may be swapped out. They
/// contain no token: tokens pass through headers, requests and answers of a few KiB, and a longer
/// buffer exceeds this size only with what others have sent.
pub(crate) const LARGE: usize = 1 << 20;

/// The system's heap, except for blocks of [`LARGE`] bytes and more.
///
/// [`super::process::lock_memory`] locks every page, so a message of 30 MiB, which any user's
/// server may send, would lock as much of the host's memory. Such a block gets a mapping of its
/// own, which is unlocked before it is first touched.
#[derive(Debug, Clone, Copy)]
pub struct Heap;

/// True if a block has a mapping of its own. Depends only on what deallocation and reallocation are
/// told again.
fn is_large(size: usize, align: usize) -> bool {
    size >= LARGE && align <= PAGE
}

/// The smallest page size of the systems that Debian runs on: mappings are aligned at least to it.
const PAGE: usize = 4096;

/// Makes a new mapping of zeroes; null if there is no memory.
fn map(size: usize) -> *mut u8 {
    // SAFETY: an anonymous mapping at a place of the kernel's choice touches nothing that exists.
    let block = unsafe {
        libc::mmap(
            null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if block == libc::MAP_FAILED {
        return null_mut();
    }
    // A failure leaves it locked, which is no harm but to the host's memory.
    // SAFETY: the range is the mapping that has just been made.
    unsafe { libc::munlock(block, size) };
    block.cast()
}

/// Removes a mapping.
///
/// # Safety
/// `block` comes from `map` or mremap(2), `size` is its size, and nobody uses it any more.
unsafe fn unmap(block: *mut u8, size: usize) {
    // SAFETY: as the caller says. It fails only for ranges that are none.
    unsafe { libc::munmap(block.cast(), size) };
}

// SAFETY: each block is the system heap's or a mapping, which its layout alone decides: size and
// alignment are the same when it is given back (GlobalAlloc's contract). Mappings are aligned to
// pages, do not overlap, and are of `size` bytes or more.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_large(layout.size(), layout.align()) {
            return map(layout.size());
        }
        // SAFETY: the caller's contract is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_large(layout.size(), layout.align()) {
            return map(layout.size());
        }
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_large(layout.size(), layout.align()) {
            // SAFETY: a block of this layout is a mapping of that size, and the caller gives it up.
            return unsafe { unmap(block, layout.size()) };
        }
        // SAFETY: a block of this layout is the system's.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match (is_large(layout.size(), layout.align()), is_large(size, layout.align())) {
            // SAFETY: a block of the system's, which stays one.
            (false, false) => unsafe { System.realloc(block, layout, size) },
            (true, true) => {
                // A mapping keeps its flags when it moves (mremap(2)), so what is added is not
                // locked either.
                // SAFETY: a mapping of that size, which is nobody's under its old address if it
                // moves.
                let moved = unsafe { libc::mremap(block.cast(), layout.size(), size, libc::MREMAP_MAYMOVE) };
                if moved == libc::MAP_FAILED { null_mut() } else { moved.cast() }
            }
            _ => {
                // SAFETY: the caller vouches for size and alignment (GlobalAlloc::realloc).
                let new_layout = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
                // SAFETY: `size` is not zero, says the caller.
                let new = unsafe { self.alloc(new_layout) };
                if !new.is_null() {
                    // SAFETY: both blocks have at least as many bytes, and the new one is nobody
                    // else's.
                    unsafe { std::ptr::copy_nonoverlapping(block, new, layout.size().min(size)) };
                    // SAFETY: the old block is of this layout, and given up.
                    unsafe { self.dealloc(block, layout) };
                }
                new
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::sys::process::in_child;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 16).unwrap()
    }

    /// True if the mapping that contains a block is locked: the flag `lo` of its VmFlags
    /// (proc_pid_smaps(5)). The amount of locked memory would not do: those figures are shares,
    /// which change with what the process that forked us does.
    fn is_locked(block: *const u8) -> bool {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        for line in smaps.lines() {
            if let Some(flags) = line.strip_prefix("VmFlags:") {
                if inside {
                    return flags.split_ascii_whitespace().any(|flag| flag == "lo");
                }
            } else if let Some((start, end)) = line.split(' ').next().and_then(|range| range.split_once('-'))
            {
                let number = |text| usize::from_str_radix(text, 16);
                if let (Ok(start), Ok(end)) = (number(start), number(end)) {
                    inside = (start..end).contains(&block.addr());
                }
            }
        }
        panic!("no mapping has {block:?}")
    }

    #[test]
    fn blocks_grow_and_shrink_across_the_border_with_what_is_in_them() {
        let sizes = [10, LARGE - 1, LARGE, 3 * LARGE + 5, 40 * LARGE, 2 * LARGE, LARGE, LARGE - 1, 7];
        // SAFETY: each block is given back with the layout that it has, and written to within its
        // size.
        unsafe {
            let mut block = Heap.alloc(layout(sizes[0]));
            for one in sizes.windows(2) {
                block.write_bytes(0x5a, one[0]);
                block = Heap.realloc(block, layout(one[0]), one[1]);
                assert!(!block.is_null() && block.align_offset(16) == 0);
                let kept = std::slice::from_raw_parts(block, one[0].min(one[1]));
                assert!(kept.iter().all(|byte| *byte == 0x5a), "{one:?}");
            }
            Heap.dealloc(block, layout(7));
            for size in [64, 2 * LARGE] {
                let zeroes = Heap.alloc_zeroed(layout(size));
                assert!(std::slice::from_raw_parts(zeroes, size).iter().all(|byte| *byte == 0));
                Heap.dealloc(zeroes, layout(size));
            }
        }
    }

    /// The system's heap handles an alignment larger than a page; running out of memory doesn't
    /// crash.
    #[test]
    fn odd_requests() {
        let wide = Layout::from_size_align(2 * LARGE, 1 << 16).unwrap();
        // SAFETY: as above; the last is never touched.
        unsafe {
            let block = Heap.alloc(wide);
            assert_eq!(block.align_offset(1 << 16), 0);
            Heap.dealloc(block, wide);
            assert!(Heap.alloc(layout(1 << 60)).is_null());
            let small = Heap.alloc(layout(16));
            assert!(Heap.realloc(small, layout(16), 1 << 60).is_null());
            Heap.dealloc(small, layout(16));
        }
    }

    #[test]
    fn small_blocks_are_locked_and_large_ones_are_not() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        assert!(in_child(|| {
            // Not lock_memory: the limit that it raises may be fixed, which concerns only
            // unprivileged processes.
            let how = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
            // SAFETY: takes flags only and changes no memory that Rust could notice.
            if unsafe { libc::mlockall(how) } != 0 {
                return;
            }
            // SAFETY: as above; the blocks end with this process.
            unsafe {
                let large = Heap.alloc(layout(2 * LARGE));
                large.write_bytes(1, 2 * LARGE);
                assert!(!is_locked(large), "a large block");
                let grown = Heap.realloc(large, layout(2 * LARGE), 32 * LARGE);
                grown.write_bytes(1, 32 * LARGE);
                for at in [0, 2 * LARGE, 32 * LARGE - 1] {
                    assert!(!is_locked(grown.add(at)), "a large block that has grown, at {at}");
                }
                for size in [16, 4096, LARGE - 64] {
                    let small = Heap.alloc(layout(size));
                    small.write_bytes(1, size);
                    assert!(is_locked(small) && is_locked(small.add(size - 1)), "a block of {size}");
                }
            }
        }));
    }
}
