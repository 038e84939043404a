use std::fmt::{self, Write};

use constant_time_eq::constant_time_eq_32;
use sha2::{Digest, Sha256};

/// The SHA-256 of a key. Hashes are compared in constant time, so that nobody can guess a key byte by byte.
#[derive(Clone, Copy)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of no key.
    pub const NONE: Self = Self([0; 32]);

    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for KeyHash {
    fn eq(&self, other: &Self) -> bool {
        constant_time_eq_32(&self.0, &other.0)
    }
}

impl Eq for KeyHash {}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Without the hash: a short key can be found by its hash.
impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash")?;
        f.write_char('…')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_has_the_same_hash() {
        assert_eq!(KeyHash::of("a"), KeyHash::of("a"));
        assert_ne!(KeyHash::of("a"), KeyHash::of("b"));
        assert_ne!(KeyHash::of(""), KeyHash::NONE);
        let of_abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(KeyHash::of("abc").to_string(), of_abc);
        assert!(!format!("{:?}", KeyHash::of("abc")).contains("ba78"));
    }
}
