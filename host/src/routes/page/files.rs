use std::sync::LazyLock;

use sha2::{Digest, Sha256};

/// The document. Its links begin with `page/`.
pub static INDEX: LazyLock<File> =
    LazyLock::new(|| File::new("index.html", include_str!("../../../page/index.html")));

/// All other files.
static FILES: LazyLock<Vec<File>> = LazyLock::new(|| {
    macro_rules! files {
        ($($name:literal),* $(,)?) => {
            vec![$(File::new($name, include_str!(concat!("../../../page/", $name)))),*]
        };
    }
    files![
        "answer.js",
        "answers.js",
        "api.js",
        "app.js",
        "composer.js",
        "dialogs.js",
        "dom.js",
        "icon.svg",
        "markdown.js",
        "marked.js",
        "message.js",
        "models.js",
        "request.js",
        "settings.js",
        "shortcuts.js",
        "sidebar.js",
        "store.js",
        "style.css",
        "theme.js",
        "themes.js",
        "transcript.js",
    ]
});

/// The file with this name, unless it is the document.
pub fn file(name: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.name == name)
}

/// A file of the page, which is part of the program.
pub struct File {
    name: &'static str,
    /// Its text.
    pub content: &'static str,
    /// Its entity tag, made from its text. It is a weak one, because the file may be sent compressed.
    pub etag: String,
}

impl File {
    fn new(name: &'static str, content: &'static str) -> Self {
        let hash = Sha256::digest(content);
        let etag = hash.iter().take(8).map(|byte| format!("{byte:02x}"));
        Self {
            name,
            content,
            etag: format!("W/\"{}\"", etag.collect::<String>()),
        }
    }

    /// The value of `Content-Type`.
    pub fn content_type(&self) -> &'static str {
        match self.name.rsplit('.').next() {
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => "text/html; charset=utf-8",
        }
    }
}
