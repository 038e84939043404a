//! The lines that a worker writes to its standard error output, which the server reads.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, Write},
};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::{queue::LogQueue, recent::EventText};
use crate::text::shortened;

/// The first byte of each line of a worker's log: the record separator, which no text begins with.
const LOG_LINE: u8 = 0x1e;
/// The first byte of a line with the message of an error alone: the unit separator.
const ERROR: u8 = 0x1f;
/// Most bytes of an error's message. A line of this length is written to a pipe as a whole.
const MAX_ERROR: usize = 1000;

/// A line that a worker wrote.
#[derive(Debug, PartialEq, Eq)]
pub enum FromWorker<'a> {
    /// A line of the worker's log.
    Logged(&'a [u8]),
    /// The message of an error. The log has it too, in a line of its own.
    Error(Cow<'a, str>),
    /// A line that the plugin or another library printed.
    Printed,
}

impl<'a> FromWorker<'a> {
    /// Says what a line is, by its mark.
    pub fn of(line: &'a [u8]) -> Self {
        match line {
            [LOG_LINE, line @ ..] => Self::Logged(line),
            [ERROR, message @ ..] => Self::Error(String::from_utf8_lossy(message.trim_ascii())),
            _ => Self::Printed,
        }
    }
}

/// A queue whose lines are marked.
#[derive(Clone)]
pub struct Marked(pub LogQueue);

impl Write for Marked {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            self.0.write_all(&[&[LOG_LINE], line].concat())?;
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the messages of errors to a worker's standard error output before the call that logs them returns. If an error is the last thing
/// that the worker logs, the server can say why it ended.
pub struct LastError(pub File);

impl<S: Subscriber> Layer<S> for LastError {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == Level::ERROR {
            // Without a reader there is nobody to tell.
            let _ = (&self.0).write_all(&line_of(&EventText::of(event).message));
        }
    }
}

fn line_of(message: &str) -> Vec<u8> {
    let message = message.replace('\n', " ");
    let message = shortened(message.trim(), MAX_ERROR);
    [&[ERROR], message.as_bytes(), b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_an_error_is_one_line() {
        let line = line_of("it ends:\nGGML_ASSERT(a) failed\n");
        assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
        let message = Cow::Borrowed("it ends: GGML_ASSERT(a) failed");
        assert_eq!(FromWorker::of(&line), FromWorker::Error(message));
        assert!(line_of(&"x".repeat(5000)).len() < 1100);
        assert_eq!(FromWorker::of(b"out of memory\n"), FromWorker::Printed);
        let logged = FromWorker::Logged(b"INFO ready\n");
        assert_eq!(FromWorker::of(b"\x1eINFO ready\n"), logged);
    }
}
