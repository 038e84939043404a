//! The backends that come with Tenon, for messages about one that is missing. Nothing else in the host knows them.

use std::path::Path;

use super::model_file::{ModelFile, ModelFormat};

/// A backend that comes with Tenon.
struct KnownBackend {
    /// The plugin's id.
    id: &'static str,
    /// The file of its library.
    library: &'static str,
    /// The format that it loads.
    loads: ModelFormat,
}

const KNOWN: &[KnownBackend] = &[
    KnownBackend {
        id: "org.tenon.candle-quantized",
        library: "libtenon_plugin_candle_quantized.so",
        loads: ModelFormat::Gguf,
    },
    KnownBackend {
        id: "org.tenon.llama-cpp",
        library: "libtenon_plugin_llama_cpp.so",
        loads: ModelFormat::Gguf,
    },
    KnownBackend {
        id: "org.tenon.candle",
        library: "libtenon_plugin_candle.so",
        loads: ModelFormat::HuggingFace,
    },
    KnownBackend {
        id: "org.tenon.echo",
        library: "libtenon_plugin_echo.so",
        loads: ModelFormat::Echo,
    },
];

/// How to get a plugin's library, and how to find out why a file is not used.
const GET: &str = "`make build` leaves it in target/dist/plugins, `tenon plugins list` says why a file is not used";

/// Advice about a model that none of the plugins with these ids can load, in a sentence. None if the plugins' own answers say all
/// that is known about the model.
pub fn advice(model: &Path, ids: &[&str]) -> Option<String> {
    let format = match ModelFile::at(model) {
        ModelFile::Other(sentence) => return Some(sentence),
        ModelFile::Unknown => return None,
        ModelFile::Model(format) => format,
    };
    let loads = |known: &&KnownBackend| known.loads == format;
    let (there, missing): (Vec<_>, Vec<_>) = KNOWN
        .iter()
        .filter(loads)
        .partition(|known| ids.contains(&known.id));
    let libraries: Vec<_> = missing.iter().map(|known| known.library).collect();
    let libraries = libraries.join(" or ");
    let what = match format {
        ModelFormat::Gguf => "a GGUF file",
        ModelFormat::HuggingFace => "a Hugging Face directory",
        ModelFormat::Echo => "an echo file",
    };
    match (missing.is_empty(), there.is_empty()) {
        (true, _) => None,
        (_, true) => Some(format!(
            "it is {what}, which needs the backend in {libraries}: put it into a plugin directory ({GET})"
        )),
        (_, false) => Some(format!(
            "it is {what}, which the missing backend in {libraries} may load: put it into a plugin directory ({GET})"
        )),
    }
}

/// The library of the backend with this id, or whose id ends with this name, and what to do with it. None for other backends.
pub fn library_of(name: &str) -> Option<String> {
    let is_named =
        |known: &&KnownBackend| known.id == name || known.id.rsplit('.').next() == Some(name);
    let known = KNOWN.iter().find(is_named)?;
    Some(format!(
        "put {} into a plugin directory ({GET})",
        known.library
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_missing_backend_is_named_by_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("a.gguf");
        fs::write(&model, "GGUF").unwrap();
        let sentence = advice(&model, &["org.tenon.echo"]).unwrap();
        for part in [
            "libtenon_plugin_candle_quantized.so",
            "libtenon_plugin_llama_cpp.so",
            "`make build`",
        ] {
            assert!(sentence.contains(part), "{sentence}");
        }
        let other = advice(&model, &["org.tenon.candle-quantized"]).unwrap();
        assert!(
            other.contains("libtenon_plugin_llama_cpp.so may load"),
            "{other}"
        );
        let all = ["org.tenon.candle-quantized", "org.tenon.llama-cpp"];
        assert_eq!(advice(&model, &all), None);
        let library = library_of("candle").unwrap();
        assert!(
            library.starts_with("put libtenon_plugin_candle.so into"),
            "{library}"
        );
        assert_eq!(library_of("quantized"), None);
    }
}
