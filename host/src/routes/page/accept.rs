use axum::http::{HeaderMap, header::ACCEPT};

/// Whether a client prefers HTML to JSON. The client has to name HTML: programs that accept everything (`*/*`) get JSON, and so do
/// those that accept both equally.
pub fn prefers_html(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter();
    let values: Vec<_> = values.filter_map(|value| value.to_str().ok()).collect();
    let accepted = values.join(",").to_ascii_lowercase();
    let html = quality(&accepted, "text/html");
    html > quality(&accepted, "application/json") && html >= quality(&accepted, "*/*")
}

/// The quality value of a media type; 0 if the header does not name it.
fn quality(accepted: &str, media_type: &str) -> f32 {
    let quality = accepted.split(',').find_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_named = parts.next() == Some(media_type);
        let given = parts.find_map(|parameter| parameter.strip_prefix("q="));
        is_named.then(|| given.map_or(Ok(1.0), str::parse))
    });
    quality.and_then(Result::ok).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(accept: &'static str, expected: bool) {
        let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
        assert_eq!(prefers_html(&headers), expected, "{accept}");
    }

    #[test]
    fn only_browsers_prefer_html() {
        let chrome = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        for browser in [
            chrome,
            "text/html",
            "Text/HTML, */*",
            "application/json;q=0.5, text/html",
        ] {
            check(browser, true);
        }
        let programs = [
            "*/*",
            "",
            "application/json",
            "application/json, text/plain, */*",
        ];
        for program in programs {
            check(program, false);
        }
        assert!(!prefers_html(&HeaderMap::new()));
    }

    #[test]
    fn html_must_win() {
        for accept in [
            "text/html, application/json",
            "text/html;q=0.5, application/json;q=0.9",
            "text/html;q=0.5, */*",
            "text/html;q=0",
            "text/html;q=x",
        ] {
            check(accept, false);
        }
    }
}
