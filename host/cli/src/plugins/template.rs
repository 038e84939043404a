//! The files of a new plugin's project, which are part of this program: a template, and the SDK.

use std::borrow::Cow;

use rust_embed::RustEmbed;

/// A project for a plugin called `my-backend`.
#[derive(RustEmbed)]
#[folder = "templates/rust"]
struct Template;

/// The crates `tenon-plugin-api` and `tenon-plugin-abi`.
#[derive(RustEmbed)]
#[folder = "../../plugin-api"]
struct Sdk;

/// The workspace that the crates of the SDK take their versions of other crates from.
const WORKSPACE: &str = include_str!("../../../../Cargo.toml");

/// The name of a plugin, in the forms that its files have it in.
pub struct Names {
    /// Of the crate: `my-backend`.
    pub package: String,
    /// Of the library, without `lib`: `my_backend`.
    pub library: String,
}

impl Names {
    /// None if no crate can have this name.
    pub fn new(name: &str) -> Option<Self> {
        let words: Vec<&str> = name.split('-').collect();
        let is_word = |word: &&str| {
            let mut letters = word.chars();
            letters
                .next()
                .is_some_and(|first| first.is_ascii_lowercase())
                && letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        };
        words.iter().all(is_word).then(|| Self {
            package: name.to_owned(),
            library: words.join("_"),
        })
    }

    fn fill_in(&self, text: &str) -> String {
        text.replace("my-backend", &self.package)
            .replace("my_backend", &self.library)
    }
}

/// The files of a project: paths in its folder, and contents.
pub fn files(names: &Names) -> Vec<(String, Cow<'static, [u8]>)> {
    let mut files = Vec::new();
    for path in Template::iter() {
        let content = Template::get(&path)
            .map(|file| file.data)
            .unwrap_or_default();
        let text = names.fill_in(&String::from_utf8_lossy(&content));
        files.push((path.into_owned(), text.into_bytes().into()));
    }
    for path in Sdk::iter() {
        let content = Sdk::get(&path).map(|file| file.data).unwrap_or_default();
        if path == "LICENSE" {
            files.push(("LICENSE".to_owned(), content.clone()));
        }
        files.push((format!("vendor/plugin-api/{path}"), content));
    }
    files.push((
        "vendor/Cargo.toml".to_owned(),
        sdk_workspace().into_bytes().into(),
    ));
    files
}

/// The workspace with the crates of the SDK alone.
fn sdk_workspace() -> String {
    let line = |line: &str| match line.starts_with("members = ") {
        true => "members = [\"plugin-api\", \"plugin-api/abi\"]\n".to_owned(),
        false => format!("{line}\n"),
    };
    WORKSPACE.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_form_for_each_place() {
        let names = Names::new("tiny-rwkv7").unwrap();
        let filled = names.fill_in("my-backend libmy_backend.so");
        assert_eq!(filled, "tiny-rwkv7 libtiny_rwkv7.so");
        for name in ["", "-a", "a-", "7b", "My-backend", "a_b", "a/b", "größe"] {
            assert!(Names::new(name).is_none(), "{name}");
        }
    }

    #[test]
    fn the_guide_quotes_the_project() {
        let guide = Sdk::get("GUIDE.md").unwrap().data;
        let guide = String::from_utf8_lossy(&guide);
        let sources = Template::iter().map(|path| Template::get(&path).unwrap().data);
        let sources: Vec<_> = sources
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .collect();
        let quotes = guide.split("```rust,ignore\n").skip(1);
        let quotes: Vec<_> = quotes
            .map(|rest| rest.split("```").next().unwrap())
            .collect();
        assert!(quotes.len() >= 6, "{quotes:?}");
        for quote in quotes {
            assert!(
                sources.iter().any(|source| source.contains(quote)),
                "{quote}"
            );
        }
    }

    #[test]
    fn a_project_has_its_name_everywhere_and_the_sdk() {
        let files = files(&Names::new("other").unwrap());
        let text = |name: &str| {
            let (_, content) = files.iter().find(|(path, _)| path == name).unwrap();
            String::from_utf8(content.to_vec()).unwrap()
        };
        for (path, content) in &files {
            let content = String::from_utf8_lossy(content);
            let is_sdk = path.starts_with("vendor/");
            assert!(is_sdk || !content.contains("my-backend"), "{path}");
        }
        assert!(text("Cargo.toml").contains("name = \"other\""));
        assert!(text("src/lib.rs").contains("\"org.example.other\""));
        assert!(text("LICENSE").contains("Apache License"));
        assert!(text("vendor/plugin-api/src/lib.rs").contains("pub mod guide"));
        let workspace = text("vendor/Cargo.toml");
        assert!(workspace.contains("members = [\"plugin-api\", \"plugin-api/abi\"]\n"));
        assert!(text(".gitignore").contains("/target"));
    }
}
