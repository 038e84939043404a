//! Starts models again whose workers ended.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tenon_plugin_api::{Code, Error};
use tokio::{select, spawn, task::spawn_blocking, time::sleep};
use tracing::{error, info, warn};

use super::{LoadedModel, ModelState, ServedModel};

/// The time in which `max_restarts` counts the ends of workers.
const WINDOW: Duration = Duration::from_secs(600);
/// The pause before the first start. It doubles with each further worker that ends before it has served for `LONG_ENOUGH`.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A worker that has served this long is sound: after its end the next one gets the first pause.
const LONG_ENOUGH: Duration = Duration::from_secs(1);

/// The ends of a model's workers.
#[derive(Default)]
pub struct Ends {
    /// The ends within `WINDOW`.
    recent: Vec<Instant>,
    /// Number of ends since a worker last served for `LONG_ENOUGH`, including the end of that worker.
    in_a_row: u32,
    /// When the current worker began to serve.
    serving_since: Option<Instant>,
}

/// Why a model whose worker ended is not loaded again.
#[derive(Debug, thiserror::Error)]
pub enum GivenUp {
    /// Its workers have ended too often.
    #[error("it ended {0} times within ten minutes, the last time because {1}")]
    TooOften(usize, Error),
    /// It is to be unloaded.
    #[error("it was unloaded before it was started again: {0}")]
    NotWanted(Error),
}

/// Serves a model that was loaded. If it computes in a worker and the worker ends, the model is loaded again. To be called within
/// a runtime.
pub fn serve(served: &Arc<ServedModel>, model: LoadedModel) -> Arc<LoadedModel> {
    let model = answer_with(served, model);
    watch(served.clone(), &model, Ends::default());
    model
}

fn answer_with(served: &ServedModel, model: LoadedModel) -> Arc<LoadedModel> {
    let model = Arc::new(model);
    served.set_state(ModelState::Ready(model.clone()));
    model
}

/// Waits for the end of a model's worker. The model itself is not kept meanwhile.
fn watch(served: Arc<ServedModel>, model: &Arc<LoadedModel>, mut ends: Ends) {
    let Some(most) = model.spec.max_restarts else {
        return;
    };
    ends.serving_since = Some(Instant::now());
    let (failed, end) = (model.runner.failed(), model.runner.end());
    let model = Arc::downgrade(model);
    spawn(async move {
        let why = select! {
            biased;
            why = failed => why,
            () = end.wait() => return,
        };
        // A model that is no longer served is not loaded again.
        if let Some(model) = model.upgrade() {
            restart(served, model, why, ends, most).await;
        }
    });
}

/// Loads a model again until it is loaded, it cannot be loaded, or its worker has ended too often. Nobody else may change the
/// model meanwhile.
async fn restart(
    served: Arc<ServedModel>,
    model: Arc<LoadedModel>,
    mut why: Error,
    mut ends: Ends,
    most: u32,
) {
    let (before, level) = (model.spec.clone(), model.level.clone());
    let _right = served.change().await;
    if !served.answers_with(&model) {
        return;
    }
    drop(model);
    while !before.draining.is_cancelled() {
        match ends.pause_after(&why, most, &served).await {
            Ok(()) => {}
            Err(GivenUp::NotWanted(_)) => return,
            Err(too_often) => return error!(model = served.id, "model failed: {too_often}"),
        }
        let (model, before, level) = (served.clone(), before.clone(), level.clone());
        let load = move || {
            let spec = model.spec_now(&before);
            spec.load(level.as_deref(), spec.progress())
        };
        match spawn_blocking(load).await {
            Ok(Ok(model)) => {
                served.count_restart();
                model.spec.restarts.inc();
                let model = answer_with(&served, model);
                info!(model = served.id, "model ready again");
                return watch(served, &model, ends);
            }
            Ok(Err(error)) if error.code == Code::DEVICE_LOST => why = error,
            Ok(Err(error)) => return fail(&served, &error.message),
            Err(panic) => return fail(&served, &panic.to_string()),
        }
    }
}

fn fail(served: &ServedModel, why: &str) {
    served.set_state(ModelState::Failed(why.to_owned()));
    error!(model = served.id, "model failed: {why}");
}

impl Ends {
    /// Waits until the model may be loaded again after its worker ended. The model counts as being started again from now on, until it
    /// is loaded.
    ///
    /// # Errors
    /// It is not to be loaded again. Its state then says why.
    pub async fn pause_after(
        &mut self,
        why: &Error,
        most: u32,
        served: &ServedModel,
    ) -> Result<(), GivenUp> {
        let count = self.add(Instant::now());
        if count > most as usize {
            let given_up = GivenUp::TooOften(count, why.clone());
            served.set_state(ModelState::Failed(given_up.to_string()));
            return Err(given_up);
        }
        warn!(model = served.id, "the model is loaded again: {why}");
        served.set_state(ModelState::Restarting(why.message.clone()));
        select! {
            biased;
            () = served.unwanted() => {
                let given_up = GivenUp::NotWanted(why.clone());
                served.set_state(ModelState::Unloaded(Some(given_up.to_string())));
                Err(given_up)
            }
            () = sleep(self.pause()) => Ok(()),
        }
    }

    /// Adds an end. Returns how many there were within `WINDOW`.
    fn add(&mut self, now: Instant) -> usize {
        self.recent.retain(|end| now.duration_since(*end) < WINDOW);
        self.recent.push(now);
        let served = self.serving_since.take();
        let was_sound = served.is_some_and(|since| now.duration_since(since) >= LONG_ENOUGH);
        self.in_a_row = match was_sound {
            true => 1,
            false => self.in_a_row + 1,
        };
        self.recent.len()
    }

    /// The pause after the last end.
    fn pause(&self) -> Duration {
        let doubled = 1 << self.in_a_row.saturating_sub(1).min(16);
        (FIRST_PAUSE * doubled).min(LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_recent_ends_count() {
        let (mut ends, start) = (Ends::default(), Instant::now());
        assert_eq!(ends.add(start), 1);
        assert_eq!(ends.add(start + WINDOW / 2), 2);
        assert_eq!(ends.add(start + WINDOW), 2);
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let (mut ends, now) = (Ends::default(), Instant::now());
        for expected in [FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4] {
            ends.serving_since = Some(now);
            ends.add(now + LONG_ENOUGH / 2);
            assert_eq!(ends.pause(), expected);
        }
        for _ in 0..1000 {
            ends.add(now);
        }
        assert_eq!(ends.pause(), LONGEST_PAUSE);
    }

    #[test]
    fn a_worker_that_served_long_enough_is_followed_by_the_first_pause_and_counts_all_the_same() {
        let (mut ends, now) = (Ends::default(), Instant::now());
        for _ in 0..4 {
            ends.add(now);
        }
        ends.serving_since = Some(now);
        assert_eq!(ends.add(now + LONG_ENOUGH), 5);
        assert_eq!(ends.pause(), FIRST_PAUSE);
        // The next worker does not get as far as serving.
        assert_eq!(ends.add(now + LONG_ENOUGH), 6);
        assert_eq!(ends.pause(), FIRST_PAUSE * 2);
    }
}
