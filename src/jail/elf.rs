//! Finds what a program needs to start: its interpreter and shared libraries, from the ELF file
//! (elf(5)).
//!
//! Small, and bounded everywhere: it reads the program headers and the dynamic section of 64-bit
//! little-endian files. The files are the distribution's, but root reads them. A crate for all of
//! ELF would bring a hundred times as much code into this process, and leave these bounds to us.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// The most program headers; Debian's programs have about 13.
const MAX_HEADERS: u16 = 64;
/// The most entries of the dynamic section; about 30 are usual.
const MAX_ENTRIES: u64 = 1024;
/// The most libraries that one file may need.
const MAX_LIBRARIES: usize = 64;
/// The longest name of an interpreter or library, in bytes, with its NUL.
const MAX_NAME: u64 = 256;

/// A source of bytes: a file, or a buffer in tests.
pub trait Source {
    /// Fills `buffer` from `offset` on; false if the source ends before.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> bool;
}

impl Source for File {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> bool {
        self.read_exact_at(buffer, offset).is_ok()
    }
}

/// The other files that a file needs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The absolute path of its dynamic linker (PT_INTERP); libraries have none.
    pub interpreter: Option<String>,
    /// The names of its libraries (DT_NEEDED), to be looked up in the system's directories.
    pub libraries: Vec<String>,
}

/// Why a file is not understood or not accepted.
pub type ElfError = &'static str;

const TRUNCATED: ElfError = "the file is truncated";
const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;
/// Tags of entries that make the linker look in other directories, or load what DT_NEEDED doesn't
/// name.
///
/// They are DT_RPATH, DT_RUNPATH, DT_CONFIG, DT_DEPAUDIT, DT_AUDIT, DT_AUXILIARY and DT_FILTER.
const STRANGE: [u64; 7] = [15, 29, 0x6fff_fefa, 0x6fff_fefb, 0x6fff_fefc, 0x7fff_fffd, 0x7fff_ffff];

/// A loaded part of the file: its offset in the file, its address, its size.
struct Segment {
    offset: u64,
    address: u64,
    size: u64,
}

/// Reads what an executable or a shared library for this machine needs.
///
/// # Errors
/// Fails if the file is neither, or if it looks for libraries in directories of its own.
pub fn needs(source: &impl Source) -> Result<Needs, ElfError> {
    let mut header = [0; 64];
    if !source.read(0, &mut header) {
        return Err(TRUNCATED);
    }
    // Magic, 64 bits, little-endian.
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return Err("not a 64-bit little-endian ELF file");
    }
    let (kind, machine) = (u16_at(&header, 16)?, u16_at(&header, 18)?);
    let native = if cfg!(target_arch = "aarch64") { EM_AARCH64 } else { EM_X86_64 };
    if !matches!(kind, 2 | 3) || machine != native {
        return Err("not a program or library of this machine");
    }
    let (table, size, count) = (u64_at(&header, 32)?, u16_at(&header, 54)?, u16_at(&header, 56)?);
    if size != 56 || count > MAX_HEADERS {
        return Err("its program headers are not what they should be");
    }
    let (mut segments, mut dynamic, mut interpreter) = (Vec::new(), None, None);
    for number in 0..u64::from(count) {
        let mut entry = [0; 56];
        let at = table.checked_add(number * 56).ok_or(TRUNCATED)?;
        if !source.read(at, &mut entry) {
            return Err(TRUNCATED);
        }
        let segment =
            Segment { offset: u64_at(&entry, 8)?, address: u64_at(&entry, 16)?, size: u64_at(&entry, 32)? };
        match u32_at(&entry, 0)? {
            PT_LOAD => segments.push(segment),
            PT_DYNAMIC => dynamic = Some(segment),
            PT_INTERP => interpreter = Some(text(source, segment.offset, segment.size)?),
            _ => {}
        }
    }
    if interpreter.as_deref().is_some_and(|path| !is_plain_path(path)) {
        return Err("its interpreter is not a plain path");
    }
    let libraries = match dynamic {
        Some(dynamic) => libraries(source, &segments, &dynamic)?,
        None => Vec::new(),
    };
    Ok(Needs { interpreter, libraries })
}

fn libraries(source: &impl Source, segments: &[Segment], dynamic: &Segment) -> Result<Vec<String>, ElfError> {
    let (mut names, mut strings, mut length) = (Vec::new(), None, 0);
    for number in 0..(dynamic.size / 16).min(MAX_ENTRIES) {
        let mut entry = [0; 16];
        let at = dynamic.offset.checked_add(number * 16).ok_or(TRUNCATED)?;
        if !source.read(at, &mut entry) {
            return Err(TRUNCATED);
        }
        match (u64_at(&entry, 0)?, u64_at(&entry, 8)?) {
            (DT_NULL, _) => break,
            (DT_NEEDED, name) => names.push(name),
            (DT_STRTAB, address) => strings = Some(address),
            (DT_STRSZ, size) => length = size,
            (tag, _) if STRANGE.contains(&tag) => return Err("it looks for libraries in places of its own"),
            _ => {}
        }
    }
    if names.len() > MAX_LIBRARIES {
        return Err("it needs too many libraries");
    }
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let strings = strings.and_then(|address| in_file(segments, address)).ok_or("its names are nowhere")?;
    let mut libraries = Vec::new();
    for name in names {
        let room = length.checked_sub(name).ok_or(TRUNCATED)?;
        let at = strings.checked_add(name).ok_or(TRUNCATED)?;
        let name = text(source, at, room)?;
        if !is_plain_name(&name) {
            return Err("the name of a library is not a plain name");
        }
        libraries.push(name);
    }
    Ok(libraries)
}

/// Returns the offset in the file of a loaded address.
fn in_file(segments: &[Segment], address: u64) -> Option<u64> {
    let segment = segments.iter().find(|s| address.checked_sub(s.address).is_some_and(|at| at < s.size))?;
    segment.offset.checked_add(address - segment.address)
}

/// Reads a text that ends with NUL within `room` bytes.
fn text(source: &impl Source, offset: u64, room: u64) -> Result<String, ElfError> {
    // Usually all of the room is there; at the end of a file, less and less is tried.
    let mut buffer = [0; MAX_NAME as usize];
    let room = usize::try_from(room.min(MAX_NAME)).unwrap_or(0);
    let mut have = room;
    while have > 0 && !source.read(offset, &mut buffer[..have]) {
        have -= 1;
    }
    let end = buffer[..have].iter().position(|byte| *byte == 0).ok_or("a name has no end")?;
    String::from_utf8(buffer[..end].to_vec()).map_err(|_| "a name is not text")
}

fn is_plain_name(name: &str) -> bool {
    !name.starts_with('.') && !name.is_empty() && name.bytes().all(is_plain)
}

fn is_plain_path(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_plain_name))
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+')
}

fn bytes<const N: usize>(from: &[u8], at: usize) -> Result<[u8; N], ElfError> {
    from.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).ok_or(TRUNCATED)
}

fn u16_at(from: &[u8], at: usize) -> Result<u16, ElfError> {
    bytes(from, at).map(u16::from_le_bytes)
}

fn u32_at(from: &[u8], at: usize) -> Result<u32, ElfError> {
    bytes(from, at).map(u32::from_le_bytes)
}

fn u64_at(from: &[u8], at: usize) -> Result<u64, ElfError> {
    bytes(from, at).map(u64::from_le_bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Source for Vec<u8> {
        fn read(&self, offset: u64, buffer: &mut [u8]) -> bool {
            let part = usize::try_from(offset).ok().and_then(|at| self.get(at..)?.get(..buffer.len()));
            part.inspect(|part| buffer.copy_from_slice(part)).is_some()
        }
    }

    const STRINGS: &[u8] = b"\0libc.so.6\0libgcc_s.so.1\0../evil\0\xff\0/lib/ld.so.2\0";
    /// Offsets in [`STRINGS`].
    const LIBC: u64 = 1;
    const LIBGCC: u64 = 11;
    const EVIL: u64 = 25;
    const NO_TEXT: u64 = 33;
    const INTERPRETER: u64 = 35;
    /// Where a file made by [`elf`] has its strings, and at which address.
    const AT: u64 = 0x1000;
    const ADDRESS: u64 = 0x40_1000;

    /// A file with three program headers, the dynamic section right after them, and the strings.
    fn elf(dynamic: &[(u64, u64)]) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        let machine = if cfg!(target_arch = "aarch64") { EM_AARCH64 } else { EM_X86_64 };
        file.extend([3_u16.to_le_bytes(), machine.to_le_bytes()].concat());
        file.resize(64, 0);
        file[32..40].copy_from_slice(&64_u64.to_le_bytes());
        file[54..56].copy_from_slice(&56_u16.to_le_bytes());
        file[56..58].copy_from_slice(&3_u16.to_le_bytes());
        let size = dynamic.len() as u64 * 16;
        for (kind, offset, address, size) in [
            (PT_LOAD, AT, ADDRESS, STRINGS.len() as u64),
            (PT_DYNAMIC, 64 + 3 * 56, 0, size),
            (PT_INTERP, AT + INTERPRETER, 0, 13),
        ] {
            let mut entry = kind.to_le_bytes().to_vec();
            entry.resize(8, 0);
            for value in [offset, address, 0, size, size, 0] {
                entry.extend(value.to_le_bytes());
            }
            file.extend(entry);
        }
        file.extend(
            dynamic.iter().flat_map(|(tag, value)| [tag.to_le_bytes(), value.to_le_bytes()].concat()),
        );
        file.resize(usize::try_from(AT).unwrap(), 0);
        file.extend(STRINGS);
        file
    }

    fn dynamic(more: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let mut all = vec![(DT_STRTAB, ADDRESS), (DT_STRSZ, STRINGS.len() as u64)];
        all.extend(more);
        all.push((DT_NULL, 0));
        all
    }

    #[test]
    fn libraries_and_interpreter_are_found() {
        let file = elf(&dynamic(&[(DT_NEEDED, LIBC), (DT_NEEDED, LIBGCC), (0x7000_0000, 5)]));
        let found = needs(&file).unwrap();
        assert_eq!(found.libraries, ["libc.so.6", "libgcc_s.so.1"]);
        assert_eq!(found.interpreter.as_deref(), Some("/lib/ld.so.2"));
        assert_eq!(needs(&elf(&[])).unwrap().libraries, [""; 0]);
        let after_the_end = [(DT_NULL, 0), (DT_NEEDED, LIBC)];
        assert_eq!(needs(&elf(&after_the_end)).unwrap().libraries, [""; 0]);
    }

    #[test]
    fn this_test_is_understood_as_readelf_understands_it() {
        let me = File::open("/proc/self/exe").unwrap();
        let found = needs(&me).unwrap();
        assert!(found.libraries.iter().any(|name| name == "libc.so.6"), "{found:?}");
        assert!(found.interpreter.unwrap().contains("/ld-linux"));
    }

    #[test]
    fn what_is_strange_is_refused() {
        let refused = |entries: &[(u64, u64)], why: &str| {
            let error = needs(&elf(&dynamic(entries))).unwrap_err();
            assert!(error.contains(why), "{error}");
        };
        for tag in STRANGE {
            refused(&[(tag, LIBC)], "places of its own");
        }
        refused(&[(DT_NEEDED, EVIL)], "not a plain name");
        refused(&[(DT_NEEDED, 0)], "not a plain name");
        refused(&[(DT_NEEDED, NO_TEXT)], "not text");
        refused(&[(DT_NEEDED, STRINGS.len() as u64)], "no end");
        refused(&[(DT_NEEDED, u64::MAX)], "truncated");
        refused(&[(DT_STRSZ, 3), (DT_NEEDED, LIBC)], "no end");
        refused(&[(DT_STRTAB, ADDRESS - 1), (DT_NEEDED, LIBC)], "nowhere");
        refused(&[(DT_NEEDED, LIBC); MAX_LIBRARIES + 1], "too many");
        let plain = elf(&dynamic(&[]));
        for (at, value, why) in [
            (0, 0, "not a 64-bit"),
            (4, 1, "not a 64-bit"),
            (5, 2, "not a 64-bit"),
            (16, 1, "not a program"),
            (18, 3, "not a program"),
            (54, 32, "program headers"),
            (56, 65, "program headers"),
            (39, 0xff, "truncated"),
        ] {
            let mut file = plain.clone();
            file[at] = value;
            let error = needs(&file).unwrap_err();
            assert!(error.contains(why), "byte {at}: {error}");
        }
        let mut file = plain.clone();
        let at = usize::try_from(AT + INTERPRETER).unwrap();
        file[at + 1] = b'.';
        assert_eq!(needs(&file), Err("its interpreter is not a plain path"));
        file[at] = b'x';
        assert_eq!(needs(&file), Err("its interpreter is not a plain path"));
    }

    #[test]
    fn every_truncation_is_an_error_or_needs_nothing_more() {
        let file = elf(&dynamic(&[(DT_NEEDED, LIBC), (DT_NEEDED, LIBGCC)]));
        for length in 0..file.len() - 1 {
            assert!(needs(&file[..length].to_vec()).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn damaged_files_never_panic(changes in prop::collection::vec((0_usize..320, any::<u8>()), 1..8), entries in prop::collection::vec((0_u64..40, any::<u64>()), 0..6)) {
            let mut file = elf(&dynamic(&entries));
            for (at, value) in changes {
                file[at] = value;
            }
            if let Ok(found) = needs(&file) {
                prop_assert!(found.libraries.len() <= MAX_LIBRARIES);
                prop_assert!(found.libraries.iter().all(|name| !name.contains('/') && !name.starts_with('.')));
            }
        }
    }
}
