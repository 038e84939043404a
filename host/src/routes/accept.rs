//! Which kinds of answers a client prefers: the header `Accept`.

use axum::http::{HeaderMap, header::ACCEPT};

/// The kinds of answers that a client accepts.
pub struct Accepted(String);

impl Accepted {
    pub fn new(headers: &HeaderMap) -> Self {
        let values = headers.get_all(ACCEPT).iter();
        let values: Vec<_> = values.filter_map(|value| value.to_str().ok()).collect();
        Self(values.join(",").to_ascii_lowercase())
    }

    /// Whether a client prefers HTML to JSON. The client has to name HTML: programs that accept everything (`*/*`) get JSON, and
    /// so do those that accept both equally.
    pub fn prefers_html(&self) -> bool {
        let named = |range| self.named(range).unwrap_or(0.0);
        let html = named("text/html");
        html > named("application/json") && html >= named("*/*")
    }

    /// Whether a client that names the format OpenMetrics accepts it at least as gladly as plain text.
    pub fn prefers_open_metrics(&self) -> bool {
        let mut of_text = ["text/plain", "text/*", "*/*"].into_iter();
        let text = of_text.find_map(|range| self.named(range)).unwrap_or(0.0);
        let open_metrics = self.named("application/openmetrics-text");
        open_metrics.is_some_and(|quality| quality > 0.0 && quality >= text)
    }

    /// The quality value of a media type, or of a range of them such as `text/*`. None if the header does not name it.
    fn named(&self, named: &str) -> Option<f32> {
        self.0.split(',').find_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let is_named = parts.next() == Some(named);
            let given = parts.find_map(|parameter| parameter.strip_prefix("q="));
            is_named.then(|| given.map_or(1.0, |given| given.parse().unwrap_or(0.0)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(accept: &'static str) -> Accepted {
        Accepted::new(&HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]))
    }

    #[track_caller]
    fn check(accept: &'static str, expected: bool) {
        assert_eq!(accepted(accept).prefers_html(), expected, "{accept}");
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
        assert!(!Accepted::new(&HeaderMap::new()).prefers_html());
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

    #[test]
    fn open_metrics_must_be_named_and_not_less_welcome_than_text() {
        for (accept, expected) in [
            ("", false),
            ("*/*", false),
            ("text/plain", false),
            ("application/openmetrics-text", true),
            ("Application/OpenMetrics-Text; version=1.0.0", true),
            ("application/openmetrics-text;q=0", false),
            ("application/openmetrics-text;q=0, */*", false),
            ("application/openmetrics-text, */*", true),
            ("application/openmetrics-text;q=0.5, */*;q=0.1", true),
            ("application/openmetrics-text;q=0.5, text/plain", false),
            ("application/openmetrics-text;q=0.5, text/*;q=0.6", false),
            (
                "text/plain;q=0, application/openmetrics-text;q=0.1, */*",
                true,
            ),
        ] {
            assert_eq!(
                accepted(accept).prefers_open_metrics(),
                expected,
                "{accept}"
            );
        }
    }
}
