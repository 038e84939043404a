//! GGUF files in parts, as llama-gguf-split writes them.

use std::{
    fs::File,
    io::BufWriter,
    path::{Path, PathBuf},
};

use candle_core::{
    Device, Result,
    quantized::{QTensor, gguf_file, gguf_file::Value},
};

/// Writes the model of one file as several files into this folder. Returns their paths.
pub fn split_gguf(path: &Path, folder: &Path, parts: usize) -> Vec<PathBuf> {
    try_split(path, folder, parts).expect("a GGUF file in parts")
}

fn try_split(path: &Path, folder: &Path, parts: usize) -> Result<Vec<PathBuf>> {
    let mut file = File::open(path)?;
    let content = gguf_file::Content::read(&mut file)?;
    let mut names: Vec<_> = content.tensor_infos.keys().cloned().collect();
    names.sort();
    let each = names.len().div_ceil(parts);
    let mut paths = Vec::new();
    for (number, names) in names.chunks(each).enumerate() {
        let tensors = names.iter().map(|name| {
            let tensor = content.tensor(&mut file, name, &Device::Cpu)?;
            Ok((name.as_str(), tensor))
        });
        let tensors: Vec<(&str, QTensor)> = tensors.collect::<Result<_>>()?;
        let tensors: Vec<_> = tensors
            .iter()
            .map(|(name, tensor)| (*name, tensor))
            .collect();
        let mut metadata = match number {
            0 => content.metadata.clone(),
            _ => Default::default(),
        };
        for (key, value) in [
            ("split.no", Value::U16(number as u16)),
            ("split.count", Value::U16(parts as u16)),
            (
                "split.tensors.count",
                Value::I32(content.tensor_infos.len() as i32),
            ),
        ] {
            metadata.insert(key.to_owned(), value);
        }
        let metadata: Vec<_> = metadata
            .iter()
            .map(|(key, value)| (key.as_str(), value))
            .collect();
        let path = folder.join(format!("model-{:05}-of-{parts:05}.gguf", number + 1));
        let mut part = BufWriter::new(File::create(&path)?);
        gguf_file::write(&mut part, &metadata, &tensors)?;
        paths.push(path);
    }
    Ok(paths)
}
