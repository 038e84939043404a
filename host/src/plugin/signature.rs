//! Signatures of plugin files, in the format of minisign.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use minisign_verify::{Error, PublicKey, Signature, StreamVerifier};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

/// The keys that plugins must be signed with. Without keys every plugin may be used.
#[derive(Clone, Debug, Default)]
pub struct TrustedKeys(pub Vec<PublicKey>);

/// Why a file may not be opened. The text ends a sentence that begins with the file's name.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    #[error(
        "is not signed ({} cannot be read: {source}), and trusted_keys of [plugins] takes only signed plugins: put its signature \
         there, or remove it", path.display()
    )]
    Unsigned { path: PathBuf, source: io::Error },
    #[error("has a signature that minisign did not write ({}): sign it with `minisign -S`", .0.display())]
    NoSignature(PathBuf),
    #[error("has a signature in an old format ({}): sign it again with `minisign -S -H`", .0.display())]
    OldSignature(PathBuf),
    #[error(
        "is signed with a key that trusted_keys of [plugins] does not name: add the public key if you trust whoever has it, or remove \
         the plugin"
    )]
    OtherKey,
    #[error(
        "is not what was signed: it or its signature was changed, so get both again from whoever made it"
    )]
    Changed,
    #[error("cannot be copied into memory ({0}): make room there")]
    NoRoom(#[from] io::Error),
}

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;

impl TrustedKeys {
    /// Checks that a file is signed, and returns a copy in memory that nobody can change, so the bytes that were checked are
    /// those that are loaded. The copy has no directory, so the library cannot load unsigned libraries from beside it. Without
    /// keys, returns the file itself.
    ///
    /// # Errors
    /// The file is not signed with one of the keys.
    pub fn verified(&self, path: &Path, file: File) -> Result<File, SignatureError> {
        if self.0.is_empty() {
            return Ok(file);
        }
        let signature = read_signature(path)?;
        let mut verifier = self.verifier(path, &signature)?;
        let name = path.file_name().unwrap_or(OsStr::new("plugin"));
        let copy = sealed_copy(file, name, |bytes| verifier.update(bytes))?;
        verifier.finalize().map_err(|_| SignatureError::Changed)?;
        Ok(copy)
    }

    /// A verifier with the key that the signature names.
    fn verifier<'a>(
        &'a self,
        path: &Path,
        signature: &'a Signature,
    ) -> Result<StreamVerifier<'a>, SignatureError> {
        for key in &self.0 {
            match key.verify_stream(signature) {
                Ok(verifier) => return Ok(verifier),
                Err(Error::UnsupportedLegacyMode) => {
                    return Err(SignatureError::OldSignature(signature_path(path)));
                }
                Err(_) => {}
            }
        }
        Err(SignatureError::OtherKey)
    }
}

/// The path of a file's signature: `libmine.so.minisig`.
pub fn signature_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".minisig");
    name.into()
}

fn read_signature(path: &Path) -> Result<Signature, SignatureError> {
    let path = signature_path(path);
    match Signature::from_file(&path) {
        Ok(signature) => Ok(signature),
        Err(Error::IoError(source)) => Err(SignatureError::Unsigned { path, source }),
        Err(_) => Err(SignatureError::NoSignature(path)),
    }
}

/// Copies a file into memory, and shows each piece to `see`. Afterwards nobody can write to the copy.
fn sealed_copy(mut file: File, name: &OsStr, mut see: impl FnMut(&[u8])) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = File::from(memfd_create(name, flags)?);
    let mut chunk = vec![0; CHUNK];
    loop {
        let len = file.read(&mut chunk)?;
        if len == 0 {
            break;
        }
        copy.write_all(&chunk[..len])?;
        see(&chunk[..len]);
    }
    let all = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&copy, all)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::FileExt};

    use minisign::KeyPair;
    use tempfile::TempDir;

    use super::*;

    /// A folder with `plugin.so`, signed with the key.
    fn signed(key: &KeyPair) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plugin.so");
        fs::write(&path, "the library").unwrap();
        let signature = minisign::sign(None, &key.sk, &b"the library"[..], None, None).unwrap();
        fs::write(signature_path(&path), signature.into_string()).unwrap();
        (folder, path)
    }

    fn key() -> KeyPair {
        KeyPair::generate_unencrypted_keypair().unwrap()
    }

    fn trusted(keys: &[&KeyPair]) -> TrustedKeys {
        let keys = keys
            .iter()
            .map(|key| PublicKey::from_base64(&key.pk.to_base64()).unwrap());
        TrustedKeys(keys.collect())
    }

    /// The text of the verified file, or the reason why there is none.
    fn verify(keys: &TrustedKeys, path: &Path) -> Result<String, String> {
        let verified = keys.verified(path, File::open(path).unwrap());
        let file = verified.map_err(|error| error.to_string())?;
        let mut text = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut text, 0).unwrap();
        Ok(String::from_utf8(text).unwrap())
    }

    #[track_caller]
    fn check_refused(keys: &TrustedKeys, path: &Path, expected: &str) {
        let reason = verify(keys, path).unwrap_err();
        assert!(reason.starts_with(expected), "{reason}");
    }

    #[test]
    fn a_file_is_used_if_one_of_the_keys_signed_it() {
        let (first, second) = (key(), key());
        let (_folder, path) = signed(&second);
        assert_eq!(
            verify(&trusted(&[&first, &second]), &path).as_deref(),
            Ok("the library")
        );
        check_refused(&trusted(&[&first]), &path, "is signed with a key that");
        fs::remove_file(signature_path(&path)).unwrap();
        check_refused(&trusted(&[&second]), &path, "is not signed (");
        assert_eq!(
            verify(&TrustedKeys::default(), &path).as_deref(),
            Ok("the library")
        );
    }

    #[test]
    fn a_changed_file_and_a_damaged_signature_are_refused() {
        let key = key();
        let (_folder, path) = signed(&key);
        fs::write(&path, "the Library").unwrap();
        check_refused(&trusted(&[&key]), &path, "is not what was signed");
        fs::write(signature_path(&path), "no signature").unwrap();
        check_refused(
            &trusted(&[&key]),
            &path,
            "has a signature that minisign did not write",
        );
    }

    #[test]
    fn what_was_verified_stays_as_it_is() {
        let key = key();
        let (_folder, path) = signed(&key);
        let verified = trusted(&[&key]).verified(&path, File::open(&path).unwrap());
        let verified = verified.unwrap();
        fs::write(&path, "another one").unwrap();
        assert!(verified.write_at(b"another", 0).is_err());
        let mut text = [0; 11];
        verified.read_exact_at(&mut text, 0).unwrap();
        assert_eq!(&text, b"the library");
    }
}
