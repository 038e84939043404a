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
/// The pause before the first start. It doubles each time that the worker ends within `WINDOW`.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The recent ends of a model's workers.
#[derive(Default)]
struct Ends(Vec<Instant>);

/// Serves a model that was loaded. If it is in a worker, and that ends, the model is loaded again. To be called within a runtime.
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
fn watch(served: Arc<ServedModel>, model: &Arc<LoadedModel>, ends: Ends) {
    let Some(most) = model.spec.max_restarts else {
        return;
    };
    let (failed, end) = (model.runner.failed(), model.runner.end());
    let model = Arc::downgrade(model);
    spawn(async move {
        let why = select! {
            biased;
            why = failed => why,
            () = end.wait() => return,
        };
        // A model that is not served any more is not missed.
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
    let (spec, level) = (model.spec.clone(), model.level.clone());
    let _right = served.change().await;
    if !served.answers_with(&model) {
        return;
    }
    drop(model);
    while !spec.draining.is_cancelled() {
        let count = ends.add(Instant::now());
        if count > most as usize {
            let why =
                format!("it ended {count} times within ten minutes, the last time because {why}");
            return fail(&served, &why);
        }
        warn!(model = served.id, "the model is loaded again: {why}");
        served.set_state(ModelState::Restarting(why.message.clone()));
        sleep(pause(count)).await;
        let (spec, level) = (spec.clone(), level.clone());
        let load = move || spec.load(level.as_deref(), spec.progress());
        match spawn_blocking(load).await {
            Ok(Ok(model)) => {
                let model = answer_with(&served, model);
                served.count_restart();
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

/// The pause before a model is loaded again whose worker ended `count` times.
fn pause(count: usize) -> Duration {
    let doubled = 1 << (count - 1).min(16);
    (FIRST_PAUSE * doubled).min(LONGEST_PAUSE)
}

impl Ends {
    /// Adds an end. Returns how many there were within `WINDOW`.
    fn add(&mut self, now: Instant) -> usize {
        self.0.retain(|end| now.duration_since(*end) < WINDOW);
        self.0.push(now);
        self.0.len()
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
        assert_eq!(pause(1), FIRST_PAUSE);
        assert_eq!(pause(3), FIRST_PAUSE * 4);
        assert_eq!(pause(1000), LONGEST_PAUSE);
    }
}
