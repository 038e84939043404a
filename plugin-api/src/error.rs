//! Errors and their codes.

use abi_stable::StableAbi;

/// Why a call failed. An open enumeration: a later version may add codes, so unknown ones are treated as [`Code::INTERNAL`].
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Code(pub u32);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        impl Code {
            $($(#[$doc])* pub const $name: Self = Self($value);)*
        }

        impl std::fmt::Debug for Code {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.0 {
                    $($value => f.write_str(stringify!($name)),)*
                    other => write!(f, "Code({other})"),
                }
            }
        }
    };
}

codes! {
    /// No error.
    OK = 0,
    /// The arguments make no sense, or the file is not what it should be.
    INVALID = 1,
    /// The backend does not do this.
    UNSUPPORTED = 2,
    /// The KV pool has no room. Nothing was changed: free or truncate sequences and try again.
    NO_KV_SPACE = 3,
    /// The machine or the device is out of memory.
    NO_MEMORY = 4,
    /// A span does not begin where its sequence ends.
    BAD_POSITION = 5,
    /// The sequence's KV could not be restored: free the sequence and compute it again.
    SEQUENCE_LOST = 6,
    /// The mask allows no token.
    NO_ALLOWED_TOKEN = 7,
    /// A row of logits has a NaN or infinity in it.
    BAD_LOGITS = 8,
    /// The host asked to stop, through [`Interrupt`](crate::Interrupt) or [`Progress`](crate::Progress).
    CANCELLED = 9,
    /// The device does not answer any more. The model must be loaded again.
    DEVICE_LOST = 10,
    /// The plugin panicked; the SDK caught it. The object answers every further call with this code.
    PANICKED = 11,
    /// A file could not be read or written.
    IO = 12,
    /// A fault of the plugin.
    INTERNAL = 13,
}

/// What a failed call returns: a [`Code`] for the host to act on and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Error {
    /// The code that the host acts on.
    pub code: Code,
    /// One plain sentence: what is wrong, with names, and what to do about it.
    pub message: String,
}

/// Result of every fallible call of the SDK.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with this code and sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// [`Code::INVALID`] with this sentence.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::INVALID, message)
    }

    /// [`Code::INVALID`] for [`Session::logits`](crate::Session::logits): `row` is none of the `rows` rows of the last batch.
    pub fn no_row(row: u32, rows: usize) -> Self {
        Self::invalid(format!(
            "the last batch has {rows} rows of logits, and none with number {row}"
        ))
    }

    /// [`Code::INVALID`] for [`LoadArgs::devices`](crate::LoadArgs::devices): there is no device `wanted`, but there are those
    /// with the ids `known`.
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
        Self::new(self.code, format!("{}: {}", path.display(), self.message))
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
