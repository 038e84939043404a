//! Progress of loading a model.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use crate::plugin::ReportProgress;

/// Shows the progress on a terminal, and cancels loading when the server stops.
pub fn progress(id: &str, draining: CancellationToken) -> ReportProgress {
    if !std::io::stderr().is_terminal() {
        return Box::new(move |_, _| !draining.is_cancelled());
    }
    let bar = progress_bar(format!("loading {id}"));
    Box::new(move |fraction, _| {
        if let Some(fraction) = fraction {
            bar.set_position((fraction * 100.0) as u64);
        }
        !draining.is_cancelled()
    })
}

/// A progress bar from 0 to 100 for a terminal.
pub fn progress_bar(message: String) -> ProgressBar {
    let bar = ProgressBar::new(100).with_message(message);
    // The template is a constant that parses.
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:40}] {percent}% {elapsed}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}
