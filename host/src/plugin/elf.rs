//! Checks a library's ELF headers before any of its code runs. `dlopen` of a truncated file would end the process.

use std::fs::File;

use object::{
    Endianness, ReadCache, ReadRef,
    elf::{self, FileHeader64, ProgramHeader64},
    read::elf::{FileHeader, ProgramHeader, SectionHeader, SectionTable, Sym, SymbolTable},
};
use tenon_plugin_api::abi::{
    AbiVersion, CPU_FEATURES_SYMBOL, LOADER_SYMBOL, UNWINDS_SYMBOL, c::C_SYMBOL,
};

use super::cpu::Cpu;

/// Why a file cannot be a plugin of this host. The text ends a sentence that begins with the file's name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    #[error("is not a shared library: build the plugin as a `cdylib` and copy its .so file here")]
    NotElf,
    #[error("is cut off ({len} of at least {needed} bytes are there): copy it again")]
    CutOff { len: u64, needed: u64 },
    #[error("is cut off or damaged ({0}): copy it again")]
    Damaged(#[from] object::Error),
    #[error("is a 32-bit library: build the plugin for {TARGET}")]
    WrongClass,
    #[error("is for another processor (ELF machine {found}): build the plugin for {TARGET}")]
    WrongMachine { found: u16 },
    #[error("is a program or object file, not a shared library: build the plugin as a `cdylib`")]
    NotShared,
    #[error(
        "needs `{library}`, which a process has only once whatever versions its plugins want: \
         link it statically into the plugin"
    )]
    SharedBackendLibrary { library: String },
    #[error(
        "is no Tenon plugin (it exports neither `{LOADER_SYMBOL}` nor `{C_SYMBOL}`): call `export_plugin!` in it, or define \
         the function of tenon_plugin.h, or move it elsewhere"
    )]
    NoPlugin,
    #[error(
        "is a plugin for another ABI (it exports `{symbol}` instead of `{C_SYMBOL}`), this host takes ABI {major}.0 to {major}.x: \
         update Tenon, or build the plugin with the tenon_plugin.h of ABI {major}",
        major = AbiVersion::CURRENT.major
    )]
    OtherC { symbol: String },
    #[error(
        "is built for CPUs with more than this one has ({lacks}): use a build for this CPU, or put the file into the folder of its \
         level (such as x86-64-v4)"
    )]
    OtherCpu { lacks: String },
    #[error(
        "is built with `panic = \"abort\"`, with which a single panic in it would end the server: build the plugin with \
         `panic = \"unwind\"`"
    )]
    Aborts,
}

/// Checks that the file is complete, is for this machine and CPU, and is a Tenon plugin.
pub fn check(file: &File, cpu: &Cpu) -> Result<(), ElfError> {
    check_data(&ReadCache::new(file), cpu)
}

const TARGET: &str = if cfg!(target_arch = "aarch64") {
    "aarch64-unknown-linux-gnu"
} else {
    "x86_64-unknown-linux-gnu"
};
const MACHINE: elf::Machine = if cfg!(target_arch = "aarch64") {
    elf::EM_AARCH64
} else {
    elf::EM_X86_64
};

/// Libraries that a plugin must not link to: a process has one copy of each, so a second plugin would get the first
/// plugin's copy.
const SHARED_BACKEND_LIBRARIES: [&str; 2] = ["libggml", "libllama"];

type ElfHeader = FileHeader64<Endianness>;

fn check_data<'data, R: ReadRef<'data>>(data: R, cpu: &Cpu) -> Result<(), ElfError> {
    check_format(data)?;
    let header = ElfHeader::parse(data)?;
    let endian = header.endian()?;
    check_kind(header, endian)?;
    let segments = header.program_headers(endian, data)?;
    let sections = header.sections(endian, data)?;
    let in_sections = sections
        .iter()
        .filter_map(|section| section.file_range(endian));
    let in_segments = segments.iter().map(|segment| segment.file_range(endian));
    check_ranges(in_segments.chain(in_sections), data)?;
    if let Some(library) = shared_backend_library(&sections, endian, data)? {
        return Err(ElfError::SharedBackendLibrary { library });
    }
    let symbols = sections.symbols(endian, data, elf::SHT_DYNSYM)?;
    let exports = |name| address(&symbols, endian, name).is_some();
    if !exports(LOADER_SYMBOL) && !exports(C_SYMBOL) {
        return Err(match other_c_symbol(&symbols, endian) {
            Some(symbol) => ElfError::OtherC { symbol },
            None => ElfError::NoPlugin,
        });
    }
    let note = |name| number_at(segments, endian, data, address(&symbols, endian, name)?);
    if let Some(lacks) = note(CPU_FEATURES_SYMBOL).and_then(|features| cpu.lacks(features)) {
        return Err(ElfError::OtherCpu { lacks });
    }
    match note(UNWINDS_SYMBOL) {
        Some(0) => Err(ElfError::Aborts),
        _ => Ok(()),
    }
}

/// Checks magic and class, which determine how the rest is read.
fn check_format<'data, R: ReadRef<'data>>(data: R) -> Result<(), ElfError> {
    let ident = data.read_bytes_at(0, 5).map_err(|()| ElfError::NotElf)?;
    if ident[..4] != elf::ELFMAG {
        return Err(ElfError::NotElf);
    }
    if ident[4] == elf::ELFCLASS32.0 {
        return Err(ElfError::WrongClass);
    }
    Ok(())
}

fn check_kind(header: &ElfHeader, endian: Endianness) -> Result<(), ElfError> {
    let machine = header.e_machine(endian);
    if machine != MACHINE {
        return Err(ElfError::WrongMachine { found: machine.0 });
    }
    if header.e_type(endian) != elf::ET_DYN {
        return Err(ElfError::NotShared);
    }
    Ok(())
}

/// Checks that all ranges are in the file: `dlopen` maps them, and touching a missing part raises SIGBUS.
fn check_ranges<'data>(
    ranges: impl Iterator<Item = (u64, u64)>,
    data: impl ReadRef<'data>,
) -> Result<(), ElfError> {
    let len = data.len().unwrap_or_default();
    let ends = ranges.map(|(offset, size)| offset.saturating_add(size));
    match ends.max() {
        Some(needed) if needed > len => Err(ElfError::CutOff { len, needed }),
        _ => Ok(()),
    }
}

fn shared_backend_library<'data, R: ReadRef<'data>>(
    sections: &SectionTable<'data, ElfHeader, R>,
    endian: Endianness,
    data: R,
) -> object::Result<Option<String>> {
    let dynamic = sections.dynamic_table(endian, data)?;
    for entry in dynamic.iter().filter(|entry| entry.tag == elf::DT_NEEDED) {
        let library = String::from_utf8_lossy(dynamic.string(entry)?);
        if SHARED_BACKEND_LIBRARIES
            .iter()
            .any(|name| library.starts_with(name))
        {
            return Ok(Some(library.into_owned()));
        }
    }
    Ok(None)
}

/// Address of an exported symbol, relative to the start of the library.
fn address<'data, R: ReadRef<'data>>(
    symbols: &SymbolTable<'data, ElfHeader, R>,
    endian: Endianness,
    name: &str,
) -> Option<u64> {
    let mut exported = exported(symbols, endian);
    let (_, symbol) = exported.find(|(found, _)| *found == name.as_bytes())?;
    Some(symbol.st_value(endian))
}

/// The exported symbol of a plugin in C for another major version of the ABI.
fn other_c_symbol<'data, R: ReadRef<'data>>(
    symbols: &SymbolTable<'data, ElfHeader, R>,
    endian: Endianness,
) -> Option<String> {
    let family = C_SYMBOL.trim_end_matches(|c: char| c.is_ascii_digit());
    let mut exported = exported(symbols, endian);
    let (name, _) = exported.find(|(found, _)| found.starts_with(family.as_bytes()))?;
    Some(String::from_utf8_lossy(name).into_owned())
}

/// Names of the exported symbols, and the symbols.
fn exported<'data, R: ReadRef<'data>>(
    symbols: &SymbolTable<'data, ElfHeader, R>,
    endian: Endianness,
) -> impl Iterator<Item = (&'data [u8], &'data elf::Sym64<Endianness>)> {
    let defined = move |symbol: &&elf::Sym64<Endianness>| symbol.st_shndx(endian) != elf::SHN_UNDEF;
    let strings = symbols.strings();
    let named = move |symbol: &'data elf::Sym64<Endianness>| {
        Some((symbol.name(endian, strings).ok()?, symbol))
    };
    symbols.iter().filter(defined).filter_map(named)
}

/// The 64-bit number that will be at an address of the loaded library.
fn number_at<'data, R: ReadRef<'data>>(
    segments: &'data [ProgramHeader64<Endianness>],
    endian: Endianness,
    data: R,
    address: u64,
) -> Option<u64> {
    let holds = |segment: &&ProgramHeader64<Endianness>| {
        let start = segment.p_vaddr(endian);
        let end = start.saturating_add(segment.p_filesz(endian));
        segment.p_type(endian) == elf::PT_LOAD && (start..end).contains(&address)
    };
    let segment = segments.iter().find(holds)?;
    let within = address - segment.p_vaddr(endian);
    let offset = segment.p_offset(endian).checked_add(within)?;
    let bytes = data.read_bytes_at(offset, 8).ok()?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A real shared library of this machine: the C library that this test runs on.
    fn library() -> Vec<u8> {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let paths = maps
            .lines()
            .filter_map(|line| line.split_whitespace().nth(5));
        let libc = paths
            .into_iter()
            .find(|path| path.contains("/libc.so"))
            .unwrap();
        std::fs::read(libc).unwrap()
    }

    fn check(bytes: &[u8], expected: &str) {
        let message = check_data(bytes, &Cpu::detect()).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }

    fn patched(at: usize, value: u8) -> Vec<u8> {
        let mut bytes = library();
        bytes[at] = value;
        bytes
    }

    #[test]
    fn a_library_without_the_symbol_is_no_plugin() {
        assert_eq!(
            check_data(&*library(), &Cpu::detect()),
            Err(ElfError::NoPlugin)
        );
    }

    #[test]
    fn a_library_that_is_cut_anywhere_is_refused() {
        let library = library();
        for len in [5, 63, 64, 500, library.len() / 2, library.len() - 1] {
            check(&library[..len], "is cut off");
        }
    }

    #[test]
    fn other_files_are_refused_by_what_they_are() {
        check(b"", "not a shared library");
        check(b"this is text", "not a shared library");
        check(&patched(4, elf::ELFCLASS32.0), "32-bit");
        check(
            &patched(16, elf::ET_EXEC.0 as u8),
            "a program or object file",
        );
        check(
            &patched(18, elf::EM_RISCV.0 as u8),
            "another processor (ELF machine 243)",
        );
    }
}
