use super::*;

/// The header `Accept` that Chrome sends when a page is opened.
const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";

/// Most bytes of the page with all its files.
const MAX_BYTES: usize = 300_000;

async fn ask(path: &str, headers: &[(&str, &str)]) -> Answer {
    let request = headers
        .iter()
        .fold(Request::get(path), |request, (name, value)| {
            request.header(*name, *value)
        });
    send(router(app_with_keys(&["k"])), request, Body::empty()).await
}

async fn page() -> Answer {
    ask("/", &[("accept", BROWSER)]).await
}

async fn text(path: &str) -> String {
    let answer = ask(path, &[]).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}");
    String::from_utf8(answer.body).unwrap()
}

/// The page with the files that it names, and those that these name, with their paths.
async fn all_files() -> Vec<(String, String)> {
    let mut files = vec![("/".to_owned(), text_of_page().await)];
    let mut index = 0;
    while index < files.len() {
        let content = files[index].1.clone();
        for name in named(&content) {
            let path = format!("/page/{name}");
            if files.iter().all(|(known, _)| *known != path) {
                files.push((path.clone(), text(&path).await));
            }
        }
        index += 1;
    }
    files
}

/// The names of the page's files in a text: in attributes of HTML and in imports.
fn named(content: &str) -> Vec<String> {
    let links = content.split("=\"page/").skip(1);
    let imports = content.split(" from \"./").skip(1);
    let names = links
        .chain(imports)
        .filter_map(|rest| rest.split('"').next());
    names.map(str::to_owned).collect()
}

#[tokio::test]
async fn browsers_get_the_page_and_programs_the_health() {
    let page = page().await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(page.headers["vary"], "accept");
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    let programs: [&[(&str, &str)]; 3] =
        [&[], &[("accept", "*/*")], &[("accept", "application/json")]];
    for headers in programs {
        let root = ask("/", headers).await;
        let health = ask("/health", headers).await;
        assert_eq!(root.status, health.status);
        assert_eq!(root.body, health.body);
        let names = |answer: &Answer| answer.headers.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&root), names(&health));
    }
}

#[tokio::test]
async fn what_a_browser_has_already_is_not_sent_again() {
    for (path, accept) in [("/", BROWSER), ("/page/app.js", "*/*")] {
        let accept = ("accept", accept);
        let first = ask(path, &[accept]).await;
        let etag = first.headers["etag"].to_str().unwrap();
        assert_eq!(first.headers["cache-control"], "no-cache");
        let tags = format!("\"other\", {etag}");
        let again = ask(path, &[accept, ("if-none-match", tags.as_str())]).await;
        assert_eq!(again.status, StatusCode::NOT_MODIFIED, "{path}");
        assert!(again.body.is_empty());
        assert_eq!(again.headers["etag"], etag);
        let other = ask(path, &[accept, ("if-none-match", "\"other\"")]).await;
        assert_eq!(other.body, first.body);
    }
}

#[tokio::test]
async fn the_page_is_small_and_complete() {
    let files = all_files().await;
    let bytes: usize = files.iter().map(|(_, content)| content.len()).sum();
    assert!(bytes <= MAX_BYTES, "{bytes} bytes");
    assert!(files.len() > 20, "{}", files.len());
    // Every file of the folder is used, but for the licence of marked.
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/page")).unwrap();
    assert_eq!(folder.count() - 1, files.len());
}

#[tokio::test]
async fn nothing_is_loaded_from_elsewhere_and_nothing_is_inline() {
    for (path, content) in all_files().await {
        for start in [
            "src=", "href=", "from ", "import ", "import(", "fetch(", "url(", "action=",
        ] {
            for quote in ["", "\"", "'", "`"] {
                for scheme in ["http:", "https:", "//"] {
                    let load = format!("{start}{quote}{scheme}");
                    assert!(!content.contains(&load), "{path}: {load}");
                }
            }
        }
        // A model's text must never become HTML.
        let is_ours = !path.ends_with("marked.js");
        assert!(!is_ours || !content.contains("innerHTML"), "{path}");
    }
    let page = text_of_page().await;
    assert!(!page.contains("<script>") && !page.contains("<style"));
    assert!(!page.contains(" style=") && !page.contains(" onclick="));
}

async fn text_of_page() -> String {
    String::from_utf8(page().await.body).unwrap()
}

#[tokio::test]
async fn a_missing_file_gets_the_envelope() {
    for path in ["/page/nope.js", "/page/index.html", "/page/../Cargo.toml"] {
        let answer = get_path(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(answer.error()["code"], "unknown_url");
    }
}
