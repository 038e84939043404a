//! The GGUF files of one model: one file, or several that llama-gguf-split wrote.

use std::path::{Path, PathBuf};

use tenon_plugin_api::{
    Error, Result,
    gguf::{Gguf, Metadata, Tensor},
};

/// All files of a model. The first file has the model's metadata, and each file has some of its tensors.
pub struct SplitGguf(Vec<Gguf>);

impl SplitGguf {
    /// Opens the file, and the files beside it that belong to the same model.
    ///
    /// # Errors
    /// `IO`; `INVALID` for a file that is not the first one, and if another file is missing or belongs to another model.
    pub fn open(path: &Path) -> Result<Self> {
        let first = Gguf::open(path)?;
        let count = count(&first);
        let mut parts = vec![first];
        for number in 2..=count {
            parts.push(Gguf::open(&path_of(path, number, count)?)?);
        }
        let parts = Self(parts);
        parts.check()?;
        Ok(parts)
    }

    /// The path that the model was opened by.
    pub fn path(&self) -> &Path {
        self.0[0].path()
    }

    /// The model's metadata.
    pub fn metadata(&self) -> &Metadata {
        self.0[0].metadata()
    }

    /// A tensor by its whole name, and the file that has it.
    pub fn tensor(&self, name: &str) -> Option<(&Gguf, &Tensor)> {
        let mut parts = self.0.iter();
        parts.find_map(|part| Some((part, part.tensor(name)?)))
    }

    /// All tensors with their names, in no particular order.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().flat_map(Gguf::tensors)
    }

    /// Bytes of all tensors.
    pub fn tensor_bytes(&self) -> u64 {
        self.0.iter().map(Gguf::tensor_bytes).sum()
    }

    /// Checks the numbering. Files count from 0, and each says how many files there are. The first file says how many
    /// tensors all files have together.
    fn check(&self) -> Result<()> {
        let parts = self.0.len() as u64;
        if parts == 1 {
            return Ok(());
        }
        for (number, part) in (0..).zip(&self.0) {
            if part.metadata().whole("split.no") != Some(number) || count(part) != parts {
                return Err(Error::invalid(format!(
                    "{} is not file {} of the {parts} files of a model: give the first one, and have all of them in one folder",
                    part.path().display(),
                    number + 1
                )));
            }
        }
        let (wanted, found) = (
            self.metadata().whole("split.tensors.count"),
            self.tensors().count() as u64,
        );
        match wanted {
            Some(wanted) if wanted != found => Err(Error::invalid(format!(
                "{}: the {parts} files of the model have {found} tensors, but must have {wanted}: download them again",
                self.path().display()
            ))),
            _ => Ok(()),
        }
    }
}

/// The number of files of the model that this file belongs to.
fn count(file: &Gguf) -> u64 {
    file.metadata().whole("split.count").unwrap_or(1).max(1)
}

/// The path of the file with this number, which counts from 1. It is beside the first file.
fn path_of(first: &Path, number: u64, count: u64) -> Result<PathBuf> {
    let name = first.file_name().unwrap_or_default().to_string_lossy();
    let end = |number: u64| format!("-{number:05}-of-{count:05}.gguf");
    match name.strip_suffix(&end(1)) {
        Some(name) => Ok(first.with_file_name(format!("{name}{}", end(number)))),
        None => Err(Error::invalid(format!(
            "{} is one of {count} files of a model, and only the first one is loaded, whose name ends with \"{}\": give that one",
            first.display(),
            end(1)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_beside_the_first_one() {
        let path = |name: &str, number, count| path_of(Path::new(name), number, count);
        let second = path("/a/m-00001-of-00002.gguf", 2, 2).unwrap();
        assert_eq!(second, Path::new("/a/m-00002-of-00002.gguf"));
        for name in [
            "/a/m-00002-of-00002.gguf",
            "m.gguf",
            "m-00001-of-00003.gguf",
        ] {
            let error = path(name, 2, 2).unwrap_err();
            assert!(
                error.message.contains("-00001-of-00002.gguf"),
                "{}",
                error.message
            );
        }
    }
}
