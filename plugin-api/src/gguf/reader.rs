//! Reads a header. Every length in it is compared with the length of the file before it is used.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
};

/// Longest header in bytes, and most items of a list in it. The largest vocabularies have a tenth of it.
const MAX_HEADER_BYTES: u64 = 128 << 20;
const MAX_LIST: u64 = 4 << 20;
/// Most characters of a name in an error message.
const MAX_SHOWN: usize = 64;

/// Why a header cannot be used.
#[derive(Debug)]
pub enum Fault {
    Io(io::Error),
    /// A statement that cannot be true: its subject, and the rest of the sentence.
    Wrong {
        subject: String,
        what: String,
    },
}

impl Fault {
    /// A statement about the whole file that cannot be true.
    pub fn wrong(what: impl Into<String>) -> Self {
        Self::Wrong {
            subject: "it".into(),
            what: what.into(),
        }
    }

    /// The same fault, about the entry of this name.
    pub fn of(self, name: &str) -> Self {
        match self {
            Self::Wrong { what, .. } => Self::Wrong {
                subject: format!("{:?}", shown(name)),
                what,
            },
            io => io,
        }
    }
}

/// The name for an error message, cut to `MAX_SHOWN` characters: in a damaged file it may be anything.
pub fn shown(name: &str) -> String {
    name.chars().take(MAX_SHOWN).collect()
}

/// Reads a file from a given byte on.
pub struct Reader<'a> {
    input: BufReader<&'a File>,
    at: u64,
    file_bytes: u64,
}

impl<'a> Reader<'a> {
    /// Reads from byte `at` on.
    pub fn new(mut file: &'a File, at: u64) -> Result<Self, Fault> {
        let file_bytes = file.metadata().map_err(Fault::Io)?.len();
        file.seek(SeekFrom::Start(at)).map_err(Fault::Io)?;
        Ok(Self {
            input: BufReader::new(file),
            at,
            file_bytes,
        })
    }

    /// Position in the file of the next byte.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Length of the file in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    pub fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        self.expect(N as u64)?;
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(Fault::Io)?;
        self.at += N as u64;
        Ok(bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Fault> {
        self.bytes().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Fault> {
        self.bytes().map(u64::from_le_bytes)
    }

    /// A text, without the zeros that some files have behind it. Bytes that are not UTF-8 are replaced.
    pub fn text(&mut self) -> Result<String, Fault> {
        let len = self.u64()?;
        self.expect(len)?;
        let mut bytes = vec![0; len as usize];
        self.input.read_exact(&mut bytes).map_err(Fault::Io)?;
        self.at += len;
        while bytes.pop_if(|last| *last == 0).is_some() {}
        Ok(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })
    }

    /// Reads how many `things` follow. Each of them takes at least `least_bytes` bytes.
    pub fn count(&mut self, things: &str, least_bytes: u64) -> Result<u64, Fault> {
        let count = self.u64()?;
        if count > MAX_LIST {
            return Err(Fault::wrong(format!(
                "has {count} {things}, more than the {MAX_LIST} that any model has"
            )));
        }
        self.expect(count * least_bytes)?;
        Ok(count)
    }

    /// Checks that this many bytes follow.
    fn expect(&self, bytes: u64) -> Result<(), Fault> {
        let end = self.at.saturating_add(bytes);
        if end > self.file_bytes {
            return Err(Fault::wrong(format!(
                "goes on to byte {end}, but the file has {}",
                self.file_bytes
            )));
        }
        if end > MAX_HEADER_BYTES {
            return Err(Fault::wrong(format!(
                "is in a header of more than {MAX_HEADER_BYTES} bytes"
            )));
        }
        Ok(())
    }
}
