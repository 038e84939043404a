//! Properties of the file, before any of its code runs.

use object::{Endianness, Object, ObjectSymbol, elf, read::elf::ElfFile64};
use tenon_plugin_api::abi::LOADER_SYMBOL;

use crate::{
    finding::{Checked, Finding, ensure},
    subject::Subject,
};

/// Prefixes of the names of symbols that the server looks for.
const LOOKED_FOR: [&str; 2] = ["tenon_plugin", LOADER_SYMBOL];

pub fn whole(subject: &Subject) -> Checked {
    subject.sound()?;
    Ok("it is complete".to_owned())
}

pub fn exports_loader_only(subject: &Subject) -> Checked {
    subject.sound()?;
    let data = read(subject)?;
    let file = parsed(&data)?;
    let exported = file
        .dynamic_symbols()
        .filter(|symbol| symbol.is_definition() && symbol.is_global());
    let names: Vec<&str> = exported.filter_map(|symbol| symbol.name().ok()).collect();
    let is_known = |name: &&&str| LOOKED_FOR.iter().any(|known| name.starts_with(known));
    let others: Vec<_> = names.iter().filter(|name| !is_known(name)).collect();
    match others.as_slice() {
        [] => Ok(format!("it exports {} symbols", names.len())),
        [first, ..] => Err(Finding::warning(format!(
            "it exports `{first}` and {} other symbols, which may meet those of other libraries: hide them \
             (-fvisibility=hidden, or a version script)",
            others.len() - 1
        ))),
    }
}

pub fn no_static_tls(subject: &Subject) -> Checked {
    subject.sound()?;
    let data = read(subject)?;
    let file = parsed(&data)?;
    let dynamic = file.elf_dynamic_table().map_err(damaged)?;
    let mut flags = dynamic.iter().filter(|entry| entry.tag == elf::DT_FLAGS);
    let is_static = flags.any(|entry| entry.val & elf::DF_STATIC_TLS.0 != 0);
    ensure(!is_static, || {
        "it has thread-locals in static room, of which a process has little: compile it with -fPIC and without \
         -ftls-model=initial-exec".to_owned()
    })?;
    Ok("its thread-locals have their own room".to_owned())
}

pub fn no_shared_ggml(subject: &Subject) -> Checked {
    subject.sound()?;
    Ok("it needs no such library".to_owned())
}

fn read(subject: &Subject) -> Checked<Vec<u8>> {
    let read = std::fs::read(&subject.file);
    read.map_err(|error| Finding::failed(format!("{error}")).of("file/whole"))
}

fn parsed(data: &[u8]) -> Checked<ElfFile64<'_, Endianness>> {
    ElfFile64::parse(data).map_err(damaged)
}

fn damaged(error: object::Error) -> Finding {
    Finding::failed(format!("it cannot be read ({error})")).of("file/whole")
}
