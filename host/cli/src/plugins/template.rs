//! The files of a new plugin's project. They are part of this program.

use std::borrow::Cow;

use clap::ValueEnum;
use rust_embed::RustEmbed;

/// A project in Rust for a plugin called `my-backend`.
#[derive(RustEmbed)]
#[folder = "templates/rust"]
struct InRust;

/// The files around the example in C, in a project for a plugin called `my-backend`.
#[derive(RustEmbed)]
#[folder = "templates/c"]
struct InC;

/// The crates `tenon-plugin-api` and `tenon-plugin-abi`, and the header for C.
#[derive(RustEmbed)]
#[folder = "../../plugin-api"]
struct Sdk;

/// The workspace that the crates of the SDK take their versions of other crates from.
const WORKSPACE: &str = include_str!("../../../../Cargo.toml");
/// The example in C: a whole backend.
const EXAMPLE_IN_C: &str = include_str!("../../../../plugins/ngram-c/ngram.c");

/// A language to write plugins in.
#[derive(Clone, Copy, ValueEnum)]
pub enum Language {
    Rust,
    C,
}

/// The name of a plugin, in its two spellings.
pub struct Names {
    /// Of the crate: `my-backend`.
    pub package: String,
    /// Of the library, without `lib`: `my_backend`.
    pub library: String,
}

/// A path in the project's folder, and the file's content.
pub type ProjectFile = (String, Cow<'static, [u8]>);

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

    fn fill_in(&self, text: &str) -> Cow<'static, [u8]> {
        let text = text
            .replace("my-backend", &self.package)
            .replace("my_backend", &self.library);
        text.into_bytes().into()
    }
}

/// The files of a project.
pub fn files(names: &Names, language: Language) -> Vec<ProjectFile> {
    let mut files = match language {
        Language::Rust => in_rust(names),
        Language::C => in_c(names),
    };
    files.push(("LICENSE".to_owned(), sdk_file("LICENSE")));
    files
}

fn in_rust(names: &Names) -> Vec<ProjectFile> {
    let mut files = filled_in::<InRust>(names);
    let sdk = Sdk::iter().map(|path| (format!("vendor/plugin-api/{path}"), sdk_file(&path)));
    files.extend(sdk);
    let workspace = sdk_workspace().into_bytes().into();
    files.push(("vendor/Cargo.toml".to_owned(), workspace));
    files
}

fn in_c(names: &Names) -> Vec<ProjectFile> {
    let mut files = filled_in::<InC>(names);
    let example = EXAMPLE_IN_C
        .replace("org.tenon.ngram-c", "org.example.my-backend")
        .replace("N-grams in C", "my-backend");
    files.push(("src/plugin.c".to_owned(), names.fill_in(&example)));
    let header = "include/tenon_plugin.h";
    files.push((header.to_owned(), sdk_file(header)));
    files
}

/// The files of a template, with the name of the plugin.
fn filled_in<T: RustEmbed>(names: &Names) -> Vec<ProjectFile> {
    let files = T::iter().map(|path| {
        let content = T::get(&path).map(|file| file.data).unwrap_or_default();
        let content = names.fill_in(&String::from_utf8_lossy(&content));
        (path.into_owned(), content)
    });
    files.collect()
}

fn sdk_file(path: &str) -> Cow<'static, [u8]> {
    Sdk::get(path).map(|file| file.data).unwrap_or_default()
}

/// The workspace with the crates of the SDK alone.
fn sdk_workspace() -> String {
    let line = |line: &str| match line.split(" = ").next() {
        Some("members") => "members = [\"plugin-api\", \"plugin-api/abi\"]\n".to_owned(),
        Some("exclude") => String::new(),
        _ => format!("{line}\n"),
    };
    WORKSPACE.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of a project called `other`, by path.
    fn project(language: Language) -> Vec<(String, String)> {
        project_called("other", language)
    }

    fn project_called(name: &str, language: Language) -> Vec<(String, String)> {
        let files = files(&Names::new(name).unwrap(), language).into_iter();
        let text = |content: Cow<[u8]>| String::from_utf8_lossy(&content).into_owned();
        files.map(|(path, content)| (path, text(content))).collect()
    }

    fn text<'a>(files: &'a [(String, String)], path: &str) -> &'a str {
        let found = files.iter().find(|(found, _)| found == path);
        &found.unwrap_or_else(|| panic!("no {path}")).1
    }

    #[test]
    fn a_name_has_a_form_for_each_place() {
        let names = Names::new("tiny-rwkv7").unwrap();
        let filled = names.fill_in("my-backend libmy_backend.so");
        assert_eq!(*filled, *b"tiny-rwkv7 libtiny_rwkv7.so");
        for name in ["", "-a", "a-", "7b", "My-backend", "a_b", "a/b", "größe"] {
            assert!(Names::new(name).is_none(), "{name}");
        }
    }

    #[test]
    fn a_project_has_its_name_everywhere() {
        for language in [Language::Rust, Language::C] {
            let files = project(language);
            let own = files
                .iter()
                .filter(|(path, _)| !path.starts_with("vendor/"));
            for (path, content) in own {
                let named = ["my-backend", "my_backend", "org.tenon.ngram"];
                assert!(!named.iter().any(|name| content.contains(name)), "{path}");
            }
            assert!(text(&files, "LICENSE").contains("Apache License"));
            assert!(text(&files, ".gitignore").contains("/plugins"));
        }
        assert!(text(&project(Language::Rust), "src/lib.rs").contains("\"org.example.other\""));
        assert!(text(&project(Language::C), "src/plugin.c").contains("\"org.example.other\""));
    }

    #[test]
    fn a_project_has_the_sdk() {
        let files = project(Language::Rust);
        assert!(text(&files, "vendor/plugin-api/src/lib.rs").contains("pub mod guide"));
        let workspace = text(&files, "vendor/Cargo.toml");
        assert!(workspace.contains("members = [\"plugin-api\", \"plugin-api/abi\"]\n"));
        let files = project(Language::C);
        assert!(text(&files, "include/tenon_plugin.h").contains("TENON_ABI_MAJOR"));
    }

    #[test]
    fn the_guide_quotes_the_project() {
        let project = project_called("my-backend", Language::Rust);
        let guide = sdk_file("GUIDE.md");
        let guide = String::from_utf8_lossy(&guide);
        let quotes = guide.split("```rust,ignore\n").skip(1);
        let quotes: Vec<_> = quotes.filter_map(|rest| rest.split("```").next()).collect();
        assert!(quotes.len() >= 6, "{quotes:?}");
        for quote in quotes {
            let quoted = project
                .iter()
                .any(|(path, text)| path.starts_with("src/") && text.contains(quote));
            assert!(quoted, "{quote}");
        }
    }
}
