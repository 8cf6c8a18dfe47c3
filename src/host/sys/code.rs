//! Releases the program's own code from memory: an idle process keeps no code that only its start
//! needed.
#![allow(unsafe_code)]

use libc::{c_int, c_void, dl_phdr_info, size_t};

/// Drops the mapped pages of the program's code and constants, and those of its libraries; they
/// come back from the page cache when they are used. Starting runs through most of the HTTP and TLS
/// code, which is megabytes; afterwards a fraction of it is needed.
/// Locked pages are dropped as well (MADV_DONTNEED_LOCKED, Linux 5.18 and later): there is no
/// secret in a program's file. Older kernels keep them.
pub(crate) fn release() {
    // SAFETY: the callback keeps to the contract of dl_iterate_phdr(3), and no pointer outlives a
    // call of it.
    unsafe { libc::dl_iterate_phdr(Some(release_object), std::ptr::null_mut()) };
}

/// Drops one object's segments that are not writable. What the loader has relocated is in other
/// segments.
///
/// # Safety
/// `info` is what dl_iterate_phdr(3) passes to its callback.
unsafe extern "C" fn release_object(info: *mut dl_phdr_info, _: size_t, _: *mut c_void) -> c_int {
    // SAFETY: the loader's description is valid during this call.
    let (base, count, first) = unsafe { ((*info).dlpi_addr, (*info).dlpi_phnum, (*info).dlpi_phdr) };
    for index in 0..usize::from(count) {
        // SAFETY: there are `count` program headers from `first` on.
        let header = unsafe { &*first.add(index) };
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let start = (base + header.p_vaddr) & !(PAGE - 1);
        let end = base + header.p_vaddr + header.p_filesz;
        let length = usize::try_from(end.saturating_sub(start) & !(PAGE - 1)).unwrap_or(0);
        // SAFETY: whole pages of a private mapping of a file which nobody has written to: dropped,
        // they are read from the file again (madvise(2)). The last one may be shared with the next
        // segment and is left out.
        unsafe { libc::madvise(start as *mut c_void, length, libc::MADV_DONTNEED_LOCKED) };
    }
    0
}

/// The largest page size of x86-64 and arm64 kernels as Debian builds them; the kernel refuses
/// partial pages.
const PAGE: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::{in_child, lock_memory};

    /// Returns the resident file pages, in KB (proc(5)).
    fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:"));
        line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    #[test]
    fn code_is_dropped_and_comes_back() {
        assert!(in_child(|| {
            let _ = lock_memory();
            let before = resident();
            release();
            let after = resident();
            assert!(after < before, "{before} KB, then {after} KB");
            assert!(some_text().contains("still here"));
        }));
    }

    #[inline(never)]
    fn some_text() -> String {
        format!("constants are {}", ["still", "here"].join(" "))
    }
}
