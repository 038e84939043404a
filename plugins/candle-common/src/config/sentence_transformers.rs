//! Files of the library sentence-transformers beside a model. They say how the vectors of a text's tokens become one vector.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};
use tenon_plugin_api::{Pooling, Result, files::read_json};

const MODULES: &str = "modules.json";
const USUAL_FOLDER: &str = "1_Pooling";
const POOLING: &str = "config.json";

/// One step that a text goes through. The first step is the model.
#[derive(Deserialize)]
struct Module {
    /// A Python class, with its module path.
    #[serde(rename = "type")]
    class: String,
    path: String,
}

/// The pooling of the model in a directory. Without any statement it is the mean. None if the vector of a text is made in
/// another way.
///
/// # Errors
/// `IO`; `INVALID` for files that make no sense.
pub fn pooling(directory: &Path) -> Result<Option<Pooling>> {
    let modules: Option<Vec<Module>> = read_json(&directory.join(MODULES))?;
    let mut folder = USUAL_FOLDER;
    for module in modules.iter().flatten() {
        match module.class.rsplit('.').next() {
            Some("Transformer" | "Normalize") => {}
            Some("Pooling") => folder = &module.path,
            _ => return Ok(None),
        }
    }
    let config = read_json(&directory.join(folder).join(POOLING))?;
    Ok(config.map_or(Some(Pooling::Mean), |config| mode(&config)))
}

/// The pooling that a configuration names by flags or by one word. None if it names several.
fn mode(config: &Map<String, Value>) -> Option<Pooling> {
    let word = config.get("pooling_mode").and_then(Value::as_str);
    let flags = config.iter().filter(|(_, value)| **value == true);
    let modes: Vec<_> = flags
        .filter_map(|(key, _)| key.strip_prefix("pooling_mode_"))
        .chain(word)
        .collect();
    match modes.as_slice() {
        // The two means differ by a factor, and the length of a vector does not matter.
        [] | ["mean" | "mean_tokens" | "mean_sqrt_len_tokens"] => Some(Pooling::Mean),
        ["cls" | "cls_token"] => Some(Pooling::Cls),
        ["lasttoken"] => Some(Pooling::Last),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn of(config: &str) -> Option<Pooling> {
        mode(&serde_json::from_str(config).unwrap())
    }

    #[test]
    fn one_known_way_is_taken() {
        let flags = r#"{"word_embedding_dimension": 8, "pooling_mode_cls_token": false, "include_prompt": true"#;
        let with = |mode: &str| of(&format!("{flags}, {mode}}}"));
        assert_eq!(
            with(r#""pooling_mode_lasttoken": true"#),
            Some(Pooling::Last)
        );
        assert_eq!(
            with(r#""pooling_mode_mean_tokens": true"#),
            Some(Pooling::Mean)
        );
        assert_eq!(with(r#""pooling_mode": "cls""#), Some(Pooling::Cls));
        assert_eq!(with(r#""pooling_mode_max_tokens": true"#), None);
        let both = r#""pooling_mode_mean_tokens": true, "pooling_mode_lasttoken": true"#;
        assert_eq!(with(both), None);
    }

    #[test]
    fn modules_say_where_it_is_and_what_follows() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let found = || pooling(folder.path());
        assert_eq!(found().unwrap(), Some(Pooling::Mean));

        for name in ["1_Pooling", "2_Pooling"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        write(
            "1_Pooling/config.json",
            r#"{"pooling_mode_lasttoken": true}"#,
        );
        write(
            "2_Pooling/config.json",
            r#"{"pooling_mode_cls_token": true}"#,
        );
        assert_eq!(found().unwrap(), Some(Pooling::Last));

        let module = |path: &str, class: &str| {
            format!(
                r#"{{"idx": 0, "name": "0", "path": "{path}", "type": "sentence_transformers.models.{class}"}}"#
            )
        };
        let (model, pooling) = (module("", "Transformer"), module("2_Pooling", "Pooling"));
        write("modules.json", &format!("[{model}, {pooling}]"));
        assert_eq!(found().unwrap(), Some(Pooling::Cls));
        let dense = module("3_Dense", "Dense");
        write("modules.json", &format!("[{model}, {pooling}, {dense}]"));
        assert_eq!(found().unwrap(), None);

        write("modules.json", "{");
        assert!(found().unwrap_err().message.contains("modules.json"));
    }
}
