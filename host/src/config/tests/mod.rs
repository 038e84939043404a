mod changes;
mod files;
mod layering;
mod refusals;

use std::{fs, path::Path};

use tempfile::TempDir;

use super::{Config, Flags, ModelPath, environment::Environment, load_from};

/// Loads this text as `tenon.toml` under these variables and flags, with /home/ada as the home directory. In the result,
/// the directory of the file is `DIR`.
fn load(toml: &str, variables: &[(&str, &str)], flags: &Flags) -> Result<Config, Vec<String>> {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("tenon.toml");
    fs::write(&file, toml).unwrap();
    let environment = environment(&[&[("HOME", "/home/ada")], variables].concat());
    let result = load_from(Some(&file), &environment, flags);
    result
        .map(|config| relative_to(directory.path(), config))
        .map_err(|error| {
            let shown = directory.path().display().to_string();
            let problems = error.problems.into_iter();
            problems
                .map(|problem| problem.replace(&format!("{shown}/"), ""))
                .collect()
        })
}

/// The configuration of an empty file.
pub fn defaults() -> Config {
    load_toml("")
}

fn load_toml(toml: &str) -> Config {
    load(toml, &[], &Flags::default()).unwrap()
}

fn environment(variables: &[(&str, &str)]) -> Environment {
    let owned = variables
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    Environment::new(owned)
}

fn relative_to(directory: &Path, mut config: Config) -> Config {
    let strip = |path: &mut std::path::PathBuf| {
        if let Ok(rest) = path.strip_prefix(directory) {
            *path = Path::new("DIR").join(rest);
        }
    };
    config.plugins.directories.iter_mut().for_each(strip);
    for model in &mut config.models {
        if let ModelPath::Local(path) = &mut model.path {
            strip(path);
        }
        model.chat_template.iter_mut().for_each(strip);
    }
    config
}
