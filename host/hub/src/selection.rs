//! The choice of the files of a repository that make up a model.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The quantization of a model whose name states none.
const USUAL: &str = "Q4_K_M";
/// Words in the names of GGUF files that are no language models: encoders of images, and statistics for quantizing.
const BESIDES: &[&str] = &["mmproj", "imatrix"];
/// Files with these endings belong to a model in safetensors. They are small.
const ENDINGS: &[&str] = &[".json", ".jinja"];
/// Other files of such a model, all of its tokenizer.
const TOKENIZER: &[&str] = &["tokenizer.model", "merges.txt", "vocab.txt"];
/// The settings for the pooling of embeddings, which have a directory of their own.
const POOLING: &str = "1_Pooling/config.json";

/// The files of a repository that make up one model.
#[derive(Debug, PartialEq, Eq)]
pub struct Selection {
    /// All of them, with their directories in the repository.
    pub files: Vec<String>,
    /// The one to load: the first part of a GGUF file. None: the directory.
    entry: Option<String>,
}

impl Selection {
    /// The model that `which` names among these files: a quantization, or a file. None: the one that fits best.
    ///
    /// # Errors
    /// No model or several models have this name, or parts are missing. The text continues a sentence after a colon.
    pub fn of<'a>(
        files: impl Iterator<Item = &'a str>,
        which: Option<&str>,
    ) -> Result<Self, String> {
        let files: Vec<&str> = files.collect();
        let ggufs = Self::ggufs(&files);
        // A backend may load files of any kind.
        if let Some(file) =
            which.filter(|which| SplitPart::of(which).is_none() && files.contains(which))
        {
            let file = file.to_owned();
            return Ok(Self {
                files: vec![file.clone()],
                entry: Some(file),
            });
        }
        match which {
            Some(which) => named(ggufs, which)?,
            None if ggufs.is_empty() => Self::safetensors(&files)
                .ok_or("it has neither GGUF files nor safetensors, with a config.json: choose another repository")?,
            None => usual(ggufs),
        }
        .whole()
    }

    /// Every model in GGUF files, by name.
    pub fn ggufs(files: &[&str]) -> Vec<Self> {
        let is_model = |file: &&&str| {
            let name = file.to_lowercase();
            name.ends_with(".gguf") && !BESIDES.iter().any(|word| name.contains(word))
        };
        let mut models: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for file in files.iter().filter(is_model) {
            let whole = SplitPart::of(file).map_or(*file, |part| part.whole);
            models.entry(whole).or_default().push(file.to_string());
        }
        let selection = |mut files: Vec<String>| {
            files.sort();
            Self {
                entry: files.first().cloned(),
                files,
            }
        };
        models.into_values().map(selection).collect()
    }

    /// The model in safetensors. None if there is none.
    pub fn safetensors(files: &[&str]) -> Option<Self> {
        let weights = weights(files);
        if weights.is_empty() || !files.contains(&"config.json") {
            return None;
        }
        let others = files.iter().filter(|file| is_beside_weights(file));
        let files = weights.iter().chain(others).map(ToString::to_string);
        Some(Self {
            files: files.collect(),
            entry: None,
        })
    }

    /// The model's file, or its directory, in this copy of the repository.
    pub fn path_in(&self, snapshot: &Path) -> PathBuf {
        match &self.entry {
            Some(entry) => snapshot.join(entry),
            None => snapshot.to_owned(),
        }
    }

    /// The text after the repository's name that names this model. None for a directory.
    pub fn which(&self) -> Option<&str> {
        self.entry.as_deref()
    }

    /// Returns the selection if no part of its files is missing.
    fn whole(self) -> Result<Self, String> {
        let parts = self.files.iter().filter_map(|file| SplitPart::of(file));
        let mut counts: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
        for part in parts {
            counts.entry(part.whole).or_insert((0, part.count)).0 += 1;
        }
        match counts.iter().find(|(_, (found, count))| found != count) {
            Some((whole, (found, count))) => Err(format!(
                "only {found} of the {count} parts of {whole} are there"
            )),
            None => Ok(self),
        }
    }

    /// Whether this text is the model's file, or its quantization: a part of the file's name between hyphens, points and slashes.
    fn is_called(&self, which: &str) -> bool {
        let (Some(entry), which) = (&self.entry, which.to_lowercase()) else {
            return false;
        };
        let whole = SplitPart::of(entry)
            .map_or(entry.as_str(), |part| part.whole)
            .to_lowercase();
        let is_end = |c: Option<char>| c.is_none_or(|c| "-./".contains(c));
        let mut places = whole.match_indices(&which);
        entry.to_lowercase() == which
            || places.any(|(at, _)| {
                is_end(whole[..at].chars().next_back())
                    && is_end(whole[at + which.len()..].chars().next())
            })
    }
}

fn named(ggufs: Vec<Selection>, which: &str) -> Result<Selection, String> {
    let entries = |models: &[Selection]| {
        let entries: Vec<_> = models.iter().filter_map(Selection::which).collect();
        entries.join(", ")
    };
    if ggufs.is_empty() {
        return Err(format!("it has no GGUF files, so leave :{which} out"));
    }
    let all = entries(&ggufs);
    let mut found: Vec<_> = ggufs
        .into_iter()
        .filter(|model| model.is_called(which))
        .collect();
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(another), false) => {
            found.push(another);
            Err(format!(
                "several of its files are {which}; name one of them: {}",
                entries(&found)
            ))
        }
        (None, _) => Err(format!("it has no {which}; it has {all}")),
    }
}

/// The first model at the usual quantization, else the first one. There is at least one.
fn usual(mut ggufs: Vec<Selection>) -> Selection {
    let place = ggufs.iter().position(|model| model.is_called(USUAL));
    ggufs.swap_remove(place.unwrap_or(0))
}

/// The files of weights. Some repositories have the weights a second time under other names, which are left out.
fn weights<'a>(files: &[&'a str]) -> Vec<&'a str> {
    let all = files.iter().copied();
    let all = all.filter(|file| file.ends_with(".safetensors") && !file.contains('/'));
    let (usual, others): (Vec<_>, Vec<_>) =
        all.partition(|file| *file == "model.safetensors" || file.starts_with("model-"));
    if usual.is_empty() { others } else { usual }
}

fn is_beside_weights(file: &str) -> bool {
    let is_of_root = !file.contains('/') && ENDINGS.iter().any(|ending| file.ends_with(ending));
    // Indices of weights in other formats.
    let is_foreign = file.ends_with(".index.json") && !file.ends_with(".safetensors.index.json");
    is_of_root && !is_foreign || TOKENIZER.contains(&file) || file == POOLING
}

/// A part of a model that is cut into several files: `model-00001-of-00002.gguf`.
struct SplitPart<'a> {
    /// The name before the number.
    whole: &'a str,
    count: u32,
}

impl<'a> SplitPart<'a> {
    fn of(file: &'a str) -> Option<Self> {
        let (stem, _) = file.rsplit_once('.')?;
        let (begin, count) = stem.rsplit_once("-of-")?;
        let (whole, number) = begin.rsplit_once('-')?;
        let is_number = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
        (is_number(number) && is_number(count)).then_some(())?;
        Some(Self {
            whole,
            count: count.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(files: &[&str], which: Option<&str>) -> Result<Vec<String>, String> {
        let selection = Selection::of(files.iter().copied(), which)?;
        Ok(selection.files)
    }

    const MANY: &[&str] = &[
        "README.md",
        "M-BF16.gguf",
        "M-IQ4_XS.gguf",
        "M-Q4_K_M.gguf",
        "M-Q8_0-00001-of-00002.gguf",
        "M-Q8_0-00002-of-00002.gguf",
        "UD/M-UD-Q4_K_XL.gguf",
        "imatrix.gguf",
        "mmproj-M-Q4_K_M.gguf",
    ];

    #[test]
    fn a_quantization_is_a_part_of_the_name() {
        for (which, expected) in [
            (None, &["M-Q4_K_M.gguf"][..]),
            (Some("q4_k_m"), &["M-Q4_K_M.gguf"]),
            (Some("IQ4_XS"), &["M-IQ4_XS.gguf"]),
            (
                Some("Q8_0"),
                &["M-Q8_0-00001-of-00002.gguf", "M-Q8_0-00002-of-00002.gguf"],
            ),
            (Some("UD-Q4_K_XL"), &["UD/M-UD-Q4_K_XL.gguf"]),
            (Some("M-BF16.gguf"), &["M-BF16.gguf"]),
            (Some("README.md"), &["README.md"]),
            (
                Some("M-Q8_0-00001-of-00002.gguf"),
                &["M-Q8_0-00001-of-00002.gguf", "M-Q8_0-00002-of-00002.gguf"],
            ),
        ] {
            assert_eq!(select(MANY, which).unwrap(), expected, "{which:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_said_with_what_is() {
        for (files, which, expected) in [
            (
                MANY,
                Some("Q4_XS"),
                "it has no Q4_XS; it has M-BF16.gguf, M-IQ4_XS.gguf",
            ),
            (
                &["a-Q8_0.gguf", "b-Q8_0.gguf"],
                Some("Q8_0"),
                "name one of them: a-Q8_0.gguf, b-Q8_0.gguf",
            ),
            (
                &["config.json", "model.safetensors"],
                Some("Q8_0"),
                "leave :Q8_0 out",
            ),
            (
                &["config.json", "pytorch_model.bin"],
                None,
                "neither GGUF files nor safetensors",
            ),
            (
                &["a-00001-of-00003.gguf", "a-00003-of-00003.gguf"],
                None,
                "only 2 of the 3 parts of a are there",
            ),
        ] {
            let why = select(files, which).unwrap_err();
            assert!(why.contains(expected), "{why}");
        }
    }

    #[test]
    fn without_the_usual_quantization_the_first_one_is_taken() {
        let files = ["M-Q8_0.gguf", "M-Q5_K_M.gguf"];
        assert_eq!(select(&files, None).unwrap(), ["M-Q5_K_M.gguf"]);
    }

    #[test]
    fn a_directory_is_its_weights_and_what_is_read_with_them() {
        let files = [
            "1_Pooling/config.json",
            "README.md",
            "chat_template.jinja",
            "config.json",
            "consolidated.safetensors",
            "merges.txt",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "onnx/config.json",
            "original/model.safetensors",
            "pytorch_model.bin",
            "pytorch_model.bin.index.json",
            "tokenizer.json",
        ];
        let mut selected = select(&files, None).unwrap();
        selected.sort();
        let expected = [
            "1_Pooling/config.json",
            "chat_template.jinja",
            "config.json",
            "merges.txt",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
        ];
        assert_eq!(selected, expected);
        let selection = Selection::of(files.into_iter(), None).unwrap();
        assert_eq!(selection.path_in(Path::new("/s")), Path::new("/s"));
    }
}
