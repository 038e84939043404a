//! Tests of files: the facts of a valid model file, and the faults of invalid files.

use std::fs;

use llama_cpp_sys_2 as sys;
use tenon_plugin_api::{Code, Model, TokenKind};

use super::{load, model_path, smol, write_gguf};
use crate::gguf;

#[test]
fn knows_the_model() {
    let info = smol().info();
    let vocabulary = smol().tokenizer().unwrap().vocabulary().unwrap();
    assert_eq!(
        (info.architecture.as_str(), info.quantization.as_str()),
        ("llama", "Q4_1")
    );
    assert_eq!((info.context_length, info.vocab_size), (8192, 49152));
    assert_eq!(vocabulary.len(), 49152);
    assert!(
        (130_000_000..140_000_000).contains(&info.parameters),
        "{}",
        info.parameters
    );
    assert!(info.chat_template.unwrap().contains("<|im_start|>"));
    let ends: Vec<_> = info
        .eos
        .iter()
        .map(|&token| vocabulary.bytes(token))
        .collect();
    assert!(
        ends.contains(&b"<|im_end|>".as_slice()) && ends.contains(&b"<|endoftext|>".as_slice())
    );
    assert!(
        info.eos
            .iter()
            .all(|&token| vocabulary.kind(token) == TokenKind::CONTROL)
    );
}

#[test]
fn loading_can_be_cancelled() {
    let error = load(&model_path(), |_| false).err().unwrap();
    assert_eq!(error.code, Code::CANCELLED);
}

#[test]
fn what_is_no_whole_model_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, content: &[u8], expected: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        let error = load(&path, |_| true).err().unwrap();
        assert!(
            error.message.contains(name) && error.message.contains(expected),
            "{error}"
        );
    };
    let model = fs::read(model_path()).unwrap();
    check(
        "half.gguf",
        &model[..model.len() / 2],
        "but the file has 49181216",
    );
    check("header.gguf", &model[..1000], "damaged or truncated");
    check(
        "page.gguf",
        b"<!DOCTYPE html>",
        r#"is not a GGUF file (it begins with "<!DOCTYP")"#,
    );
    check("empty.gguf", b"", "it is empty");
    check(
        "version.gguf",
        b"GGUF\x63\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        "version",
    );

    let missing = load(&folder.path().join("missing.gguf"), |_| true)
        .err()
        .unwrap();
    assert!(
        missing.code == Code::IO && missing.message.contains("does not exist"),
        "{missing}"
    );
    let directory = load(folder.path(), |_| true).err().unwrap();
    assert!(directory.message.contains("is a directory"), "{directory}");
}

#[test]
fn a_split_model_is_asked_for_by_its_first_part() {
    let folder = tempfile::tempdir().unwrap();
    let part = |number: u16, name: &str| {
        let path = folder.path().join(name);
        // SAFETY: the keys are C strings.
        write_gguf(&path, |file| unsafe {
            sys::gguf_set_val_u16(file, c"split.no".as_ptr(), number);
            sys::gguf_set_val_u16(file, c"split.count".as_ptr(), 2);
        });
        path
    };
    let first = part(0, "m-00001-of-00002.gguf");
    assert_eq!(gguf::read_model(&first).unwrap().parts, 2);
    let missing = gguf::check_model(&first).unwrap_err().message;
    assert!(
        missing.contains("m-00002-of-00002.gguf does not exist"),
        "{missing}"
    );
    let second = part(1, "m-00002-of-00002.gguf");
    gguf::check_model(&first).unwrap();
    let later = gguf::read_model(&second).unwrap_err().message;
    assert!(
        later.contains("part 2") && later.contains("-00001-of-00002.gguf"),
        "{later}"
    );
    let renamed = gguf::check_model(&part(0, "renamed.gguf"))
        .unwrap_err()
        .message;
    assert!(
        renamed.contains("its name must end in -00001-of-00002.gguf"),
        "{renamed}"
    );
}
