use std::fs;

use super::*;

/// The parts of a GGUF file. A test changes the part that it wants wrong.
#[derive(Clone)]
struct Written {
    version: u32,
    pairs: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    data: Vec<u8>,
    /// The counts of tensors and pairs to write instead of the true ones.
    counts: Option<(u64, u64)>,
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn pair(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [text(key), kind.to_le_bytes().to_vec(), value.to_vec()].concat()
}

fn tensor(name: &str, sides: &[u64], kind: u32, at: u64) -> Vec<u8> {
    let mut bytes = text(name);
    bytes.extend((sides.len() as u32).to_le_bytes());
    bytes.extend(sides.iter().flat_map(|side| side.to_le_bytes()));
    bytes.extend(kind.to_le_bytes());
    bytes.extend(at.to_le_bytes());
    bytes
}

/// A valid file with two tensors, of 8 and of 64 numbers, the latter in `Q8_0`.
fn whole() -> Written {
    Written {
        version: 3,
        pairs: vec![pair("general.architecture", 8, &text("llama\0"))],
        tensors: vec![tensor("a", &[4, 2], 0, 0), tensor("b", &[64], 8, 32)],
        data: (0..100).collect(),
        counts: None,
    }
}

impl Written {
    fn bytes(&self) -> Vec<u8> {
        let counts = (self.tensors.len() as u64, self.pairs.len() as u64);
        let (tensors, pairs) = self.counts.unwrap_or(counts);
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(tensors.to_le_bytes());
        bytes.extend(pairs.to_le_bytes());
        bytes.extend(self.pairs.concat());
        bytes.extend(self.tensors.concat());
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }

    fn open(&self) -> Result<Gguf> {
        // Tests run at the same time, each in a thread or a process of its own.
        let (process, thread) = (std::process::id(), std::thread::current().id());
        let path = std::env::temp_dir().join(format!("tenon-{process}-{thread:?}.gguf"));
        fs::write(&path, self.bytes()).unwrap();
        let opened = Gguf::open(&path);
        fs::remove_file(&path).unwrap();
        opened
    }
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Written), expected: &str) {
    let mut written = whole();
    change(&mut written);
    let error = written.open().unwrap_err();
    let message = &error.message;
    assert_eq!(error.code, Code::INVALID, "{message}");
    assert!(message.contains(expected), "{message}");
    assert!(message.ends_with("download it again"), "{message}");
}

#[test]
fn a_whole_file_is_read() {
    let file = whole().open().unwrap();
    assert_eq!(file.metadata().text("general.architecture"), Some("llama"));
    let tensor = file.tensor("b").unwrap();
    assert_eq!((tensor.kind().name, tensor.elements()), ("Q8_0", 64));
    // The file was removed, but it is still open.
    assert_eq!(file.read(tensor).unwrap(), (32..100).collect::<Vec<_>>());
    assert_eq!(file.tensor_bytes(), 100);
}

#[test]
fn values_of_every_type_are_read() {
    let mut written = whole();
    let list = |kind: u32, count: u64, items: &[u8]| {
        [&kind.to_le_bytes()[..], &count.to_le_bytes(), items].concat()
    };
    written.pairs.extend([
        pair("i8", 1, &[255]),
        pair("u64", 10, &u64::MAX.to_le_bytes()),
        pair("f32", 6, &0.5f32.to_le_bytes()),
        pair("flag", 7, &[1]),
        pair("flags", 9, &list(7, 2, &[0, 1])),
        pair("numbers", 9, &list(3, 2, &[1, 0, 255, 255])),
        pair("texts", 9, &list(8, 2, &[text("x"), text("y")].concat())),
    ]);
    let file = written.open().unwrap();
    assert_eq!(file.metadata().get("i8"), Some(&Value::Integer(-1)));
    assert_eq!(file.metadata().whole("u64"), Some(u64::MAX));
    assert_eq!(file.metadata().get("f32").unwrap().number(), Some(0.5));
    assert_eq!(file.metadata().get("flag").unwrap().flag(), Some(true));
    assert_eq!(
        file.metadata().get("flags").unwrap().numbers(),
        Some(&[0.0, 1.0][..])
    );
    assert_eq!(
        file.metadata().get("numbers").unwrap().numbers(),
        Some(&[1.0, -1.0][..])
    );
    assert_eq!(
        file.metadata().get("texts").unwrap().texts().unwrap(),
        ["x", "y"]
    );
}

#[test]
fn counts_and_lengths_beyond_the_file_are_refused() {
    refused(
        |file| file.counts = Some((u64::MAX, 1)),
        "it has 18446744073709551615 tensors",
    );
    refused(
        |file| file.counts = Some((2, 1 << 20)),
        "it goes on to byte",
    );
    refused(|file| file.counts = Some((2, 2)), "the file has");
    let long = [&(1u64 << 60).to_le_bytes()[..], b"x"].concat();
    refused(
        |file| file.pairs.push(pair("x", 8, &long)),
        "\"x\" goes on to byte",
    );
    let list = |count: u64| [&0u32.to_le_bytes()[..], &count.to_le_bytes()].concat();
    refused(
        |file| file.pairs.push(pair("x", 9, &list(1 << 40))),
        "\"x\" has 1099511627776 numbers",
    );
    refused(
        |file| file.pairs.push(pair("x", 9, &list(1 << 20))),
        "\"x\" goes on to byte",
    );
    let nested = [&9u32.to_le_bytes()[..], &[0; 8]].concat();
    refused(|file| file.pairs.push(pair("x", 9, &nested)), "type 9");
    refused(
        |file| file.pairs.push(pair("x", 77, &[])),
        "\"x\" is of type 77",
    );
}

#[test]
fn tensors_that_cannot_be_are_refused() {
    let first = |entry: Vec<u8>, expected| refused(|file| file.tensors[0] = entry, expected);
    first(tensor("a", &[4, 0], 0, 0), "\"a\" has a dimension of 0");
    first(tensor("a", &[], 0, 0), "\"a\" has 0 dimensions");
    first(tensor("a", &[1; 5], 0, 0), "\"a\" has 5 dimensions");
    first(
        tensor("a", &[u64::MAX, 2], 0, 0),
        "\"a\" has dimensions that are too large",
    );
    first(
        tensor("a", &[1 << 42, (1 << 20) + 1], 0, 0),
        "\"a\" has dimensions that are too large",
    );
    first(
        tensor("a", &[4, 1 << 40], 0, 0),
        "\"a\" takes 17592186044416 bytes",
    );
    first(
        tensor("a", &[4, 2], 8, 0),
        "rows of 4, which do not divide into the blocks of 32 of Q8_0",
    );
    first(tensor("a", &[4, 2], 4, 0), "\"a\" is of type 4");
    first(tensor("a", &[4, 2], 0, 8), "no multiple of 32");
    first(
        tensor("a", &[4, 2], 0, u64::MAX - 31),
        "\"a\" takes 32 bytes from byte 18446744073709551615 on",
    );
    first(
        tensor("a", &[4, 3], 0, 0),
        "\"a\" reaches into the tensor \"b\"",
    );
    first(tensor("b", &[4, 2], 0, 0), "\"b\" is there twice");
    refused(|file| file.data.truncate(99), "\"b\" takes 68 bytes");
}

#[test]
fn alignments_and_versions_that_there_are_not_are_refused() {
    for alignment in [0u32, 3, 33] {
        refused(
            |file| {
                file.pairs
                    .push(pair("general.alignment", 4, &alignment.to_le_bytes()))
            },
            &format!("\"general.alignment\" is {alignment}, but must be a power of two"),
        );
    }
    refused(
        |file| {
            file.pairs
                .push(pair("general.alignment", 10, &(1u64 << 63).to_le_bytes()))
        },
        "from byte 9223372036854775808 on",
    );
    refused(
        |file| file.pairs.push(pair("general.architecture", 7, &[1])),
        "\"general.architecture\" is there twice",
    );
    refused(|file| file.version = 1, "it is of version 1");
}

#[test]
fn what_is_no_file_is_named() {
    let opened = Gguf::open(Path::new("/dev/null")).unwrap_err();
    assert!(opened.message.contains("is a device"), "{opened}");
    let opened = Gguf::open(Path::new("/")).unwrap_err();
    assert!(opened.message.contains("is a directory"), "{opened}");
    assert_eq!(Gguf::open(Path::new("no/such")).unwrap_err().code, Code::IO);
}
