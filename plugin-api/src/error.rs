//! Errors.

use crate::{Code, Meta};

/// What a failed call returns: a [`Code`] for the host to act on and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Error {
    /// The code that the host acts on.
    pub code: Code,
    /// One plain sentence: what is wrong, with names, and what to do about it.
    pub message: String,
    /// Details for programs, such as how many bytes are missing.
    pub meta: Meta,
}

/// Result of every fallible call of the SDK.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with this code and sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            meta: Meta::default(),
        }
    }

    /// [`Code::INVALID`] with this sentence.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::INVALID, message)
    }

    /// [`Code::INVALID`] for [`Session::logits`](crate::Session::logits): the last batch has `rows` rows, and
    /// `row` is none of them.
    pub fn no_row(row: u32, rows: usize) -> Self {
        Self::invalid(format!(
            "the last batch has {rows} rows of logits, and none with number {row}"
        ))
    }

    /// [`Code::INVALID`] for [`LoadArgs::devices`](crate::LoadArgs::devices): the device `wanted` does not
    /// exist. `known` are the ids of those that do.
    pub fn no_device(wanted: &str, known: &[String]) -> Self {
        Self::invalid(format!(
            "there is no device {wanted:?}: choose from {}",
            known.join(", ")
        ))
    }

    /// [`Code::INVALID`]: some weights of the tensor are not finite.
    pub fn not_finite(tensor: &str) -> Self {
        Self::invalid(format!(
            "the tensor {tensor} has weights that are infinite or no numbers: download the model again"
        ))
    }

    /// [`Code::IO`]: the file could not be read or written.
    pub fn io(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::new(Code::IO, format!("{}: {error}", path.display()))
    }

    /// [`Code::UNSUPPORTED`]: "this backend does not …".
    pub fn unsupported(what: &str) -> Self {
        Self::new(
            Code::UNSUPPORTED,
            format!("this backend does not support {what}"),
        )
    }

    /// The same error. Its sentence begins with the path of the file that it is about.
    pub fn in_file(self, path: &std::path::Path) -> Self {
        Self {
            message: format!("{}: {}", path.display(), self.message),
            ..self
        }
    }
}

impl From<Code> for Error {
    fn from(code: Code) -> Self {
        Self::new(code, code.to_string())
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
