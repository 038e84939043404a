//! `tenon plugins new`

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;

use super::template::{self, Language, Names};

/// Write a project for a plugin of your own: a whole backend, and the SDK.
#[derive(Args)]
pub struct New {
    /// The folder to write. Its name is the name of the plugin: lower-case letters, digits and `-`, such as my-backend.
    path: PathBuf,
    /// The language to write it in.
    #[arg(long, value_enum, value_name = "LANGUAGE", default_value_t = Language::Rust)]
    lang: Language,
}

impl New {
    pub fn run(self) -> anyhow::Result<()> {
        let name = self.path.file_name().and_then(|name| name.to_str());
        let Some(names) = name.and_then(Names::new) else {
            bail!(
                "{} cannot be the name of a plugin: use lower-case letters, digits and `-`, and begin with a letter",
                self.path.display()
            );
        };
        if self.path.exists() {
            bail!(
                "{} exists already: choose another name",
                self.path.display()
            );
        }
        for (path, content) in template::files(&names, self.lang) {
            let path = self.path.join(path);
            write(&path, &content).with_context(|| format!("cannot write {}", path.display()))?;
        }
        print!("{}", next_steps(&self.path, &names, self.lang));
        Ok(())
    }
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, content)
}

/// What to do with the project: the build, and a chat.
fn next_steps(path: &Path, names: &Names, language: Language) -> String {
    let (path, library) = (path.display(), &names.library);
    let (build, built, model, needs) = match language {
        Language::Rust => (
            "cargo build --release",
            "target/release/",
            "rhyme.imitate",
            "The SDK is in vendor/. The first build needs a network, because cargo fetches public crates.\n",
        ),
        Language::C => ("make", "", "rhyme.ngram", ""),
    };
    format!(
        "{path} is a whole backend. Build it, and serve its model:\n\n    cd {path}\n    {build}\n    mkdir -p plugins && cp \
         {built}lib{library}.so plugins/\n    tenon serve models/{model} --plugins plugins\n\n{needs}README.md there says what is in \
         which file.\n"
    )
}
