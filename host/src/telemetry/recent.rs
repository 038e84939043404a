//! The last warnings and errors of the log, for the status page.

use std::{
    collections::VecDeque,
    fmt::{self, Write as _},
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

use crate::text::shortened;

/// Most problems that are kept.
const MOST: usize = 20;
/// Most bytes of a problem's text.
const MAX_TEXT: usize = 600;

static PROBLEMS: Mutex<VecDeque<Problem>> = Mutex::new(VecDeque::new());

/// A warning or an error of the log.
#[derive(Clone, Debug)]
pub struct Problem {
    pub at: SystemTime,
    pub text: String,
}

/// The last warnings and errors, the newest first.
pub fn recent_problems() -> Vec<Problem> {
    problems().iter().rev().cloned().collect()
}

/// A layer of the log that keeps warnings and errors.
pub struct Recent;

impl<S: Subscriber> Layer<S> for Recent {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // A more verbose level is greater.
        if *event.metadata().level() > Level::WARN {
            return;
        }
        let text = EventText::of(event).whole();
        let problem = Problem {
            at: SystemTime::now(),
            text: shortened(&text, MAX_TEXT).into_owned(),
        };
        let mut problems = problems();
        if problems.len() == MOST {
            problems.pop_front();
        }
        problems.push_back(problem);
    }
}

fn problems() -> MutexGuard<'static, VecDeque<Problem>> {
    // A panic while the lock was held cannot have left the list half written.
    PROBLEMS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The message of an event, and its other fields.
#[derive(Default)]
pub(super) struct EventText {
    pub message: String,
    fields: String,
}

impl EventText {
    pub fn of(event: &Event<'_>) -> Self {
        let mut text = Self::default();
        event.record(&mut text);
        text
    }

    fn whole(self) -> String {
        match self.fields.is_empty() {
            true => self.message,
            false => format!("{} ({})", self.message, self.fields),
        }
    }

    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if field.name() == "message" {
            self.message = value.to_string();
            return;
        }
        if !self.fields.is_empty() {
            self.fields += ", ";
        }
        // Writing to a String does not fail.
        let _ = write!(self.fields, "{} {value}", field.name());
    }
}

impl Visit for EventText {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::{layer::SubscriberExt, registry};

    use super::*;

    #[test]
    fn only_problems_are_kept_the_newest_first_and_not_too_many() {
        tracing::subscriber::with_default(registry().with(Recent), || {
            tracing::info!("started");
            for number in 0..MOST {
                tracing::warn!(number, model = "m", "it is slow");
            }
            tracing::error!("it {}", "stopped");
        });
        let texts: Vec<_> = recent_problems()
            .into_iter()
            .map(|problem| problem.text)
            .collect();
        assert_eq!(texts.len(), MOST);
        assert_eq!(texts[0], "it stopped");
        assert_eq!(texts[1], "it is slow (number 19, model m)");
    }
}
