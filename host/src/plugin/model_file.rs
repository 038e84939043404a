//! Explains why no backend can load a file or directory, from its content, and what the user can do.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read},
    path::Path,
};

/// Bytes that are read of a file: enough for the names of the first files of an archive.
const HEAD: u64 = 4096;

/// The kind of thing at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelFile {
    /// A model in a format that backends of Tenon load.
    Model(ModelFormat),
    /// Something else. The sentence says what it is and what to do.
    Other(String),
    /// A file that says nothing about itself.
    Unknown,
}

/// The formats of the models that Tenon's own backends load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelFormat {
    Gguf,
    HuggingFace,
    Echo,
}

impl ModelFile {
    /// Looks at a path. Reads no more than the beginning of a file.
    pub fn at(path: &Path) -> Self {
        let other = |sentence: String| Self::Other(sentence);
        match fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                other("it does not exist: check the path".into())
            }
            Err(error) => other(format!("it cannot be read ({error})")),
            Ok(metadata) if metadata.is_dir() => of_directory(path),
            Ok(metadata) if !metadata.is_file() => other("it is no file".into()),
            Ok(_) => match head(path) {
                Ok(head) => of_file(path, &head),
                Err(error) => other(format!(
                    "it cannot be read ({error}): check its permissions"
                )),
            },
        }
    }
}

fn head(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD).read_to_end(&mut head)?;
    Ok(head)
}

/// The first bytes of files that are no models, with what they are and what to do.
const MAGIC: &[(&[u8], &str)] = &[
    (b"\x1f\x8b", COMPRESSED),
    (b"BZh", COMPRESSED),
    (b"\xfd7zXZ\0", COMPRESSED),
    (b"\x28\xb5\x2f\xfd", COMPRESSED),
    (b"7z\xbc\xaf\x27\x1c", COMPRESSED),
    (b"Rar!", COMPRESSED),
    (b"\x80\x02", PICKLE),
    (b"\x80\x03", PICKLE),
    (b"\x80\x04", PICKLE),
    (b"lmgg", OLD_GGML),
    (b"fmgg", OLD_GGML),
    (b"tjgg", OLD_GGML),
    (
        b"\x89HDF\r\n\x1a\n",
        "it is a file of HDF5 (Keras): get the model as GGUF, or as a directory with safetensors",
    ),
    (
        b"\x7fELF",
        "it is a program or a library: if it is a plugin, put it into a plugin directory",
    ),
    (b"%PDF", "it is a PDF: give the model's file"),
];
const COMPRESSED: &str = "it is a compressed archive: unpack it, and give the model in it";
const PICKLE: &str = "it has weights of PyTorch (a pickle), which may run any code when they are read: get the model as GGUF, or as a \
                      directory with safetensors";
const OLD_GGML: &str = "it is in a format of llama.cpp from before GGUF (2023), which nothing reads any more: get the model as GGUF";
const GET_GGUF: &str = "get the model's file again";

fn of_file(path: &Path, head: &[u8]) -> ModelFile {
    if head.starts_with(b"GGUF") {
        return ModelFile::Model(ModelFormat::Gguf);
    }
    if path
        .extension()
        .is_some_and(|extension| extension == "echo")
    {
        return ModelFile::Model(ModelFormat::Echo);
    }
    let magic = MAGIC.iter().find(|(magic, _)| head.starts_with(magic));
    let sentence = magic.map(|(_, sentence)| (*sentence).to_owned());
    let sentence = sentence
        .or_else(|| of_archive(head))
        .or_else(|| of_safetensors(path, head))
        .or_else(|| of_text(head))
        .or_else(|| of_nothing(head));
    sentence.map_or(ModelFile::Unknown, ModelFile::Other)
}

/// Zip files, among them those of PyTorch, and tar files.
fn of_archive(head: &[u8]) -> Option<String> {
    let is_tar = head.get(257..262) == Some(b"ustar");
    if is_tar {
        return Some(COMPRESSED.to_owned());
    }
    head.starts_with(b"PK\x03\x04").then(|| {
        let is_pytorch = head.windows(8).any(|name| name == b"data.pkl");
        let sentence = match is_pytorch {
            true => PICKLE,
            false => "it is a ZIP archive: unpack it, and give the model in it",
        };
        sentence.to_owned()
    })
}

/// A file of safetensors begins with the length of its header, which is JSON.
fn of_safetensors(path: &Path, head: &[u8]) -> Option<String> {
    let (length, header) = head.split_first_chunk()?;
    let is_header = header.starts_with(b"{\"") && u64::from_le_bytes(*length) < 1 << 32;
    is_header.then(|| {
        let folder = path.parent().filter(|folder| folder.join("config.json").is_file());
        match folder {
            Some(folder) => format!("it is one file of a model: give its directory, {}", folder.display()),
            None => "it has only weights (safetensors): give the directory of the model, in which config.json and tokenizer.json are too"
                .to_owned(),
        }
    })
}

fn of_text(head: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let begins = |with: &str| {
        let begin = text.get(..with.len()).unwrap_or_default();
        begin.eq_ignore_ascii_case(with)
    };
    if begins("version https://git-lfs.github.com/spec/") {
        let size = text.lines().find_map(|line| line.strip_prefix("size "));
        let size = size.map(|size| format!(", which has {size} bytes"));
        return Some(format!(
            "it is only a pointer of Git LFS to the model{}: run `git lfs pull` in its folder, or download the file itself",
            size.unwrap_or_default()
        ));
    }
    if ["<!doctype html", "<html", "<?xml"].into_iter().any(begins) {
        let sentence = "it is a web page that was saved under this name, not a model: download the file itself (on Hugging Face its link \
                        has /resolve/, not /blob/), and log in if the model asks for it";
        return Some(sentence.to_owned());
    }
    let is_json = begins("{\"") || begins("[{");
    is_json.then(|| {
        let line: String = text.chars().take(80).filter(|c| !c.is_control()).collect();
        format!("it is JSON, not a model ({line}): {GET_GGUF}")
    })
}

/// Files that a download or a disk left without content.
fn of_nothing(head: &[u8]) -> Option<String> {
    if head.is_empty() {
        return Some(format!("it is empty: {GET_GGUF}"));
    }
    let is_zeros = head.len() > 64 && head.iter().all(|byte| *byte == 0);
    is_zeros.then(|| format!("it begins with zeros, as an unfinished download does: {GET_GGUF}"))
}

fn of_directory(path: &Path) -> ModelFile {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    let has = |name: &str| names.iter().any(|other| other == name);
    let with_end = |end: &'static str| names.iter().filter(move |name| name.ends_with(end));
    let weights = with_end(".safetensors").next();
    if has("config.json") && weights.is_some() {
        return ModelFile::Model(ModelFormat::HuggingFace);
    }
    let mut pytorch = with_end(".bin")
        .chain(with_end(".pt"))
        .chain(with_end(".pth"));
    let sentence = match (with_end(".gguf").next(), weights, pytorch.next()) {
        _ if names.is_empty() => "it is an empty directory: check the path".to_owned(),
        (Some(gguf), ..) => format!(
            "it is a directory with GGUF files: give one of them, such as {}",
            path.join(gguf).display()
        ),
        _ if has("adapter_config.json") => {
            "it is an adapter (LoRA), not a model: merge it into its model first".to_owned()
        }
        (_, Some(_), _) => "config.json is missing in it: download the whole directory of the model, not only its weights".to_owned(),
        (_, _, Some(file)) => format!(
            "its weights are in a file of PyTorch ({file}), which may run any code when it is read: get the model with safetensors, or as GGUF"
        ),
        _ if has("config.json") => "there are no weights in it (*.safetensors): download the whole directory of the model".to_owned(),
        _ => "it is a directory without config.json and weights: give a GGUF file, or the directory of a model from Hugging Face".to_owned(),
    };
    ModelFile::Other(sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, content: &[u8], expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        let found = ModelFile::at(&path);
        let ModelFile::Other(sentence) = found else {
            panic!("{name}: {found:?}");
        };
        assert!(sentence.contains(expected), "{name}: {sentence}");
    }

    #[test]
    fn files_that_are_no_models_are_named() {
        check("a.gguf", b"", "it is empty");
        check("a.gguf", &[0; 100], "begins with zeros");
        check("a.zip", b"PK\x03\x04\x14\0\0\0model.gguf", "a ZIP archive");
        let torch = b"PK\x03\x04\0\0\0\0\0\0archive/data.pklFB";
        check("pytorch_model.bin", torch, "weights of PyTorch");
        check("old.pt", b"\x80\x02\x8a\nl\xfc", "weights of PyTorch");
        check("a.tar.gz", b"\x1f\x8b\x08\0", "a compressed archive");
        check("a.bin", b"tjgg\x03\0\0\0", "from before GGUF");
        let page = b"\n<!DOCTYPE html><html><head>Sign in";
        check("a.gguf", page, "it is a web page");
        check(
            "a.gguf",
            b"{\"error\":\"no\"}",
            "it is JSON, not a model ({\"error\":\"no\"})",
        );
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 98362432\n";
        check(
            "a.gguf",
            pointer,
            "which has 98362432 bytes: run `git lfs pull`",
        );
        let weights = b"\x10\0\0\0\0\0\0\0{\"weight\":{}}   ";
        check(
            "model.safetensors",
            weights,
            "config.json and tokenizer.json are too",
        );
    }

    #[test]
    fn models_are_not_refused_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            ModelFile::at(&path)
        };
        let gguf = ModelFile::Model(ModelFormat::Gguf);
        assert_eq!(at("a.bin", b"GGUF\x03"), gguf);
        assert_eq!(at("a.echo", b""), ModelFile::Model(ModelFormat::Echo));
        assert_eq!(at("a.ngram", b"once upon a time"), ModelFile::Unknown);
        let missing = ModelFile::at(&folder.path().join("b"));
        assert!(matches!(missing, ModelFile::Other(why) if why.contains("does not exist")));
    }

    #[test]
    fn directories_say_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let check = |expected: &str| {
            let found = ModelFile::at(folder.path());
            assert!(
                matches!(&found, ModelFile::Other(why) if why.contains(expected)),
                "{found:?}"
            );
        };
        let add = |name: &str| fs::write(folder.path().join(name), "").unwrap();
        check("an empty directory");
        add("README.md");
        check("without config.json and weights");
        add("pytorch_model.bin");
        check("a file of PyTorch (pytorch_model.bin)");
        add("model.safetensors");
        check("config.json is missing");
        add("config.json");
        let found = ModelFile::at(folder.path());
        assert_eq!(found, ModelFile::Model(ModelFormat::HuggingFace));
        fs::remove_file(folder.path().join("config.json")).unwrap();
        add("adapter_config.json");
        check("an adapter (LoRA)");
        add("a.gguf");
        check("a.gguf");
    }
}
