//! Counts what plugins allocate.
//!
//! A library calls `malloc` through an entry of its table of addresses, which the dynamic linker has filled in. [`count`] puts functions
//! that count into these entries. The entries of the program and of the C library stay: what the checker itself allocates is not
//! counted. An allocator that a plugin has linked in is not seen.

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    ptr, slice,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use libc::{PROT_READ, PROT_WRITE, PT_DYNAMIC, dl_phdr_info};

static COUNTED: AtomicU64 = AtomicU64::new(0);

/// Number of allocations since the call of [`count`].
pub fn counted() -> u64 {
    COUNTED.load(Relaxed)
}

/// Begins to count the allocations of all open libraries. False if this cannot be done with this C library.
pub fn count() -> bool {
    // Other C libraries have other addresses in the tables that are read here.
    if !cfg!(target_env = "gnu") {
        return false;
    }
    // SAFETY: libraries that are open are never closed.
    unsafe { libc::dl_iterate_phdr(Some(visit), ptr::null_mut()) };
    true
}

unsafe extern "C" fn visit(library: *mut dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
    // SAFETY: the dynamic linker passes a library and its name.
    let (library, path) = unsafe { (&*library, CStr::from_ptr((*library).dlpi_name)) };
    let path = path.to_string_lossy();
    // The program has no name, and what the kernel provides has no path.
    if let Some((_, name)) = path.rsplit_once('/')
        && !name.starts_with("libc.so")
        && !name.starts_with("ld-")
    {
        // SAFETY: the library is open and linked.
        unsafe { replace_in(library) };
    }
    0
}

/// An entry of the dynamic section: `Elf64_Dyn`.
#[repr(C)]
struct Dynamic {
    tag: i64,
    value: usize,
}

/// `Elf64_Sym`.
#[repr(C)]
struct Symbol {
    name: u32,
    others: [u8; 20],
}

/// `Elf64_Rela`.
#[repr(C)]
struct Relocation {
    offset: usize,
    info: u64,
    addend: i64,
}

/// Kinds of relocations that put the address of a function into a table: GLOB_DAT and JUMP_SLOT.
const ADDRESSES: [u64; 2] = match cfg!(target_arch = "aarch64") {
    true => [1025, 1026],
    false => [6, 7],
};

/// Replaces the addresses of the allocating functions in a library's tables.
///
/// # Safety
/// The library is open, and the dynamic linker has linked it.
unsafe fn replace_in(library: &dl_phdr_info) {
    let base = library.dlpi_addr as usize;
    // SAFETY: the caller answers for the library. The dynamic section ends with the tag 0, and the linker has made its addresses absolute.
    unsafe {
        let headers = slice::from_raw_parts(library.dlpi_phdr, library.dlpi_phnum.into());
        let Some(section) = headers.iter().find(|header| header.p_type == PT_DYNAMIC) else {
            return;
        };
        let first = (base + section.p_vaddr as usize) as *const Dynamic;
        let entry = |tag: i64| {
            let entries = (0..).map(|at| &*first.add(at));
            let mut entries = entries.take_while(|entry| entry.tag != 0);
            entries
                .find(|entry| entry.tag == tag)
                .map(|entry| entry.value)
        };
        let (Some(names), Some(symbols)) = (entry(5), entry(6)) else {
            return;
        };
        // The address and the size in bytes of the relocations: DT_RELA and DT_JMPREL.
        for (tag, bytes) in [(7, 8), (23, 2)] {
            let (Some(relocations), Some(bytes)) = (entry(tag), entry(bytes)) else {
                continue;
            };
            let count = bytes / size_of::<Relocation>();
            for relocation in slice::from_raw_parts(relocations as *const Relocation, count) {
                let symbol = (symbols as *const Symbol).add((relocation.info >> 32) as usize);
                let name = (names + (*symbol).name as usize) as *const c_char;
                if ADDRESSES.contains(&(relocation.info & 0xffff_ffff))
                    && let Some(function) = counting(CStr::from_ptr(name).to_bytes())
                {
                    write((base + relocation.offset) as *mut usize, function);
                }
            }
        }
    }
}

/// Writes an address into a table, which may be read-only.
///
/// # Safety
/// The entry is that of a function of the same type.
unsafe fn write(entry: *mut usize, function: usize) {
    // SAFETY: the page has the table, so it may be written as well.
    unsafe {
        let page_size = libc::sysconf(libc::_SC_PAGESIZE) as usize;
        let page = entry.map_addr(|address| address & !(page_size - 1));
        if libc::mprotect(page.cast(), page_size, PROT_READ | PROT_WRITE) == 0 {
            entry.write_volatile(function);
        }
    }
}

/// Defines functions that count and then allocate, and the function that finds one of them by its name.
macro_rules! allocating {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(unsafe extern "C" fn $name($($argument: $type),*) -> $result {
            COUNTED.fetch_add(1, Relaxed);
            // SAFETY: the caller keeps the rules of this function.
            unsafe { libc::$name($($argument),*) }
        })*

        /// The address of the counting function with this name.
        fn counting(name: &[u8]) -> Option<usize> {
            $(if name == stringify!($name).as_bytes() {
                return Some($name as *const () as usize);
            })*
            None
        }
    };
}

allocating! {
    malloc(bytes: usize) -> *mut c_void;
    calloc(count: usize, bytes: usize) -> *mut c_void;
    realloc(from: *mut c_void, bytes: usize) -> *mut c_void;
    memalign(alignment: usize, bytes: usize) -> *mut c_void;
    aligned_alloc(alignment: usize, bytes: usize) -> *mut c_void;
    posix_memalign(out: *mut *mut c_void, alignment: usize, bytes: usize) -> c_int;
}
