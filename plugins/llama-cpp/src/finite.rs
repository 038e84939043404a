//! Checks the weights in a file before llama.cpp loads them: llama.cpp computes with any weights.

use std::{
    fs::File,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use memmap2::Mmap;
use tenon_plugin_api::{
    Error, Result,
    gguf::{Gguf, Tensor, all_finite},
};

use crate::gguf;

/// Checks that the weights of a model, in all of its files, are finite. The load that follows reads the same data, which is
/// in the page cache by then.
///
/// # Errors
/// `IO`; `INVALID` with the name of a tensor whose weights are not finite.
pub fn check(path: &Path, threads: u32) -> Result<()> {
    for (path, _) in gguf::read_parts(path)? {
        let header = Gguf::open(&path)?;
        let io = |error| Error::io(&path, &error);
        let file = File::open(&path).map_err(io)?;
        // SAFETY: like llama.cpp, which maps it too, this relies on nobody making the file shorter while it is read.
        let bytes = unsafe { Mmap::map(&file) }.map_err(io)?;
        let tensors: Vec<_> = header.tensors().collect();
        if let Some(name) = first_broken(&tensors, &bytes, threads) {
            return Err(Error::not_finite(name).in_file(&path));
        }
    }
    Ok(())
}

fn first_broken<'a>(tensors: &[(&'a str, &Tensor)], bytes: &[u8], threads: u32) -> Option<&'a str> {
    let next = AtomicUsize::new(0);
    let find = || {
        while let Some((name, tensor)) = tensors.get(next.fetch_add(1, Ordering::Relaxed)) {
            let end = tensor.start() + tensor.bytes();
            // The file may have been replaced by a shorter one.
            let bytes = bytes.get(tensor.start() as usize..end as usize)?;
            if !all_finite(tensor.kind(), bytes) {
                return Some(*name);
            }
        }
        None
    };
    thread::scope(|scope| {
        // If the system cannot start more threads, those that started do the work.
        let help = |_| thread::Builder::new().spawn_scoped(scope, find).ok();
        let helpers: Vec<_> = (1..threads).map_while(help).collect();
        let mut found = find();
        for helper in helpers {
            found = found.or(helper.join().unwrap_or_default());
        }
        found
    })
}
