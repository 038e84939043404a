//! Model files with one or two mistakes, of the kinds that downloads, disks and people make. The same seed gives the same
//! mistakes.

mod gguf;
mod json;

use std::{
    fs,
    path::{Path, PathBuf},
};

use fastrand::Rng;
use serde_json::{Value, json};

use crate::{
    Backend,
    models::{Family, TestModel},
};

/// Valid files, and the folder for the damaged ones.
pub struct Mutants {
    folder: PathBuf,
    gguf: Vec<u8>,
    /// The byte at which the tensors' data begins, and the places of the numbers before it.
    data: usize,
    fields: Vec<gguf::Field>,
}

/// The files of a directory that a backend reads.
const FILES: [&str; 6] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
];

impl Mutants {
    /// Writes valid files of a small model into an empty folder.
    pub fn new(folder: &Path, family: Family) -> Self {
        let model = TestModel::tiny(family);
        let (file, whole) = (folder.join("whole.gguf"), folder.join("whole"));
        model.write_gguf(&file);
        model.write_dir(&whole);
        let generation =
            r#"{"eos_token_id": [2, 0], "temperature": 0.7, "top_k": 40, "top_p": 0.9}"#;
        fs::write(whole.join("generation_config.json"), generation).expect("a file");
        let index = r#"{"weight_map": {"a": "model.safetensors"}, "metadata": {"total_size": 5}}"#;
        fs::write(whole.join("model.safetensors.index.json"), index).expect("a file");
        add_steps(&whole.join("tokenizer.json"));
        let gguf = fs::read(file).expect("a file");
        let (fields, data) = gguf::fields(&gguf);
        Self {
            folder: folder.to_owned(),
            gguf,
            data,
            fields,
        }
    }

    /// Writes the damaged file or directory of this number for a backend. Returns its path and its mistakes.
    pub fn write(&self, number: u64, backend: Backend) -> (PathBuf, String) {
        let mut random = Rng::with_seed(number);
        match backend {
            Backend::Candle => self.write_dir(&mut random),
            Backend::LlamaCpp | Backend::CandleQuantized => self.write_gguf(&mut random),
        }
    }

    fn write_gguf(&self, random: &mut Rng) -> (PathBuf, String) {
        let mut bytes = self.gguf.clone();
        let mut what = String::new();
        for _ in 0..random.usize(1..=2) {
            what += &match random.u32(0..8) {
                0 => truncate(&mut bytes, random),
                1 => flip_byte(&mut bytes, self.data, random),
                2 => gguf::break_weight(&mut bytes, self.data, random),
                _ => gguf::change_field(&mut bytes, &self.fields, random),
            };
        }
        let path = self.folder.join("broken.gguf");
        fs::write(&path, bytes).expect("a file");
        (path, what)
    }

    fn write_dir(&self, random: &mut Rng) -> (PathBuf, String) {
        let (whole, broken) = (self.folder.join("whole"), self.folder.join("broken"));
        fs::create_dir_all(&broken).expect("a folder");
        let name = FILES[random.usize(0..FILES.len())];
        for file in FILES {
            fs::copy(whole.join(file), broken.join(file)).expect("a copy");
        }
        // If there is an index, the single file is not read.
        if name != "model.safetensors.index.json" && random.bool() {
            fs::remove_file(broken.join("model.safetensors.index.json")).expect("a file");
        }
        let path = broken.join(name);
        let mut bytes = fs::read(&path).expect("a file");
        let (header, tail) = match name {
            "model.safetensors" => json::safetensors_header(&bytes),
            _ => (0..bytes.len(), 0),
        };
        let mut what = format!("{name}: ");
        what += &match random.u32(0..8) {
            0 => truncate(&mut bytes, random),
            1 => flip_byte(&mut bytes, header.end, random),
            _ => {
                let (text, changed) = json::change(&bytes[header.clone()], random);
                let rest = bytes.split_off(header.end);
                bytes = match tail {
                    0 => text.into_bytes(),
                    _ => [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &rest].concat(),
                };
                changed
            }
        };
        fs::write(path, bytes).expect("a file");
        (broken, what)
    }
}

/// Adds steps that tokenizers of other models have.
fn add_steps(tokenizer: &Path) {
    let text = fs::read(tokenizer).expect("a file");
    let mut json: Value = serde_json::from_slice(&text).expect("JSON");
    let steps =
        json!([{"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": " +"}, "content": " "}]);
    let normalizers = [
        &json["normalizer"],
        &json!({"type": "Sequence", "normalizers": steps}),
    ];
    let normalizers: Vec<_> = normalizers
        .into_iter()
        .filter(|step| !step.is_null())
        .collect();
    json["normalizer"] = json!({"type": "Sequence", "normalizers": normalizers});
    let begin = json!({"id": "begin", "ids": [1], "tokens": ["begin"]});
    let piece = json!({"SpecialToken": {"id": "begin", "type_id": 0}});
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    json["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [piece, text],
        "pair": [piece, text],
        "special_tokens": {"begin": begin},
    });
    fs::write(tokenizer, json.to_string()).expect("a file");
}

fn truncate(bytes: &mut Vec<u8>, random: &mut Rng) -> String {
    let len = random.usize(0..bytes.len().max(1));
    bytes.truncate(len);
    format!("cut to {len} bytes; ")
}

/// Changes one of the first bytes.
fn flip_byte(bytes: &mut [u8], header: usize, random: &mut Rng) -> String {
    let Some(last) = header.min(bytes.len()).checked_sub(1) else {
        return String::new();
    };
    let (at, byte) = (random.usize(0..=last), random.u8(..));
    bytes[at] = byte;
    format!("byte {at} is {byte}; ")
}
