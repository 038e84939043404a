//! Keeps all models together within the memory budget: idle models make room for one that is to be loaded, the least recently
//! used one first.

use std::{fs, path::Path, sync::Arc, time::Duration};

use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout_at},
};
use tracing::{info, warn};

use super::{Catalog, FormerModels, ModelState, ServedModel, put_away::put_away, served::Reserved};

/// How long a load waits for the last requests of the models that were unloaded for it.
const LAST_REQUESTS: Duration = Duration::from_secs(60);

/// Why there is no room for a model.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// The model would not even fit alone.
    #[error(
        "it takes about {needed} bytes, more than the memory_budget_bytes of {budget}: raise that, or choose a smaller level (quantize)"
    )]
    Alone {
        /// Bytes that the model takes.
        needed: u64,
        /// The budget in bytes.
        budget: u64,
    },
    /// Other models are in use.
    #[error("it takes about {needed} bytes, but models in use ({}) take {used} of the memory_budget_bytes of {budget}: try again later, or raise that", ids.join(", "))]
    InUse {
        /// Bytes that the model takes.
        needed: u64,
        /// Bytes that the others take.
        used: u64,
        /// The budget in bytes.
        budget: u64,
        /// The others.
        ids: Vec<String>,
    },
    /// Unloaded models still answer their last requests.
    #[error(
        "it takes about {needed} bytes, but models that were unloaded for it still answer their last requests and take {leaving} of the memory_budget_bytes of {budget}: try again later, or raise that"
    )]
    Leaving {
        /// Bytes that the model takes.
        needed: u64,
        /// Bytes that the unloaded models take.
        leaving: u64,
        /// The budget in bytes.
        budget: u64,
    },
}

/// A model that takes memory.
struct Taker {
    served: Arc<ServedModel>,
    bytes: u64,
}

/// Unloads idle models until there is room for another load of this one, and sets that room aside. The memory that the model takes
/// now counts too, because the new load exists beside the old one. None: there is no budget.
///
/// # Errors
/// There is no room, with the figures.
pub async fn make_room(
    served: &ServedModel,
    catalog: &Catalog,
) -> Result<Option<Reserved>, NoRoom> {
    let Some(budget) = catalog.now().config.server.memory_budget_bytes else {
        return Ok(None);
    };
    let needed = expected_bytes(served).await;
    if needed > budget {
        return Err(NoRoom::Alone { needed, budget });
    }
    let deadline = Instant::now() + LAST_REQUESTS;
    loop {
        let Room {
            left,
            mut former,
            reserved,
        } = unload_for(needed, budget, served, catalog).await;
        let used = total(&left);
        if needed + used > budget {
            return Err(NoRoom::InUse {
                needed,
                used,
                budget,
                ids: left.iter().map(|taker| taker.served.id.clone()).collect(),
            });
        }
        let leaving = former.bytes();
        if needed + used + leaving <= budget {
            return Ok(reserved);
        }
        // A model stays in memory only while its last requests run. Other loads may go on meanwhile.
        if timeout_at(deadline, former.one_ended()).await.is_err() {
            return Err(NoRoom::Leaving {
                needed,
                leaving,
                budget,
            });
        }
    }
}

/// Unloads idle models if a model that was loaded takes more than was expected.
pub async fn settle(served: &ServedModel, catalog: &Catalog) {
    let Some(budget) = catalog.now().config.server.memory_budget_bytes else {
        return;
    };
    served.note_bytes(loaded_bytes(served).await);
    let Room { left, .. } = unload_for(0, budget, served, catalog).await;
    let used = total(&left);
    if used > budget {
        let models: Vec<_> = left.iter().map(|taker| taker.served.id.as_str()).collect();
        warn!(
            models = models.join(", "),
            "the loaded models take {used} bytes, more than the memory_budget_bytes of {budget}"
        );
    }
}

/// The result of unloading models.
struct Room {
    /// The models that are left.
    left: Vec<Taker>,
    /// The unloaded models that have not ended.
    former: FormerModels,
    /// The room that was needed, if it is free of models that are left.
    reserved: Option<Reserved>,
}

/// Unloads models other than this one until `needed` bytes and the models that are left fit into the budget.
async fn unload_for(needed: u64, budget: u64, served: &ServedModel, catalog: &Catalog) -> Room {
    // Two loads must not count on the same room.
    let mut former = catalog.room.lock().await;
    let mut left = takers(needed, served, catalog).await;
    while needed + total(&left) > budget {
        let Some(victim) = victim(&left, served, catalog) else {
            break;
        };
        let Some(right) = left[victim].served.begin_change().await else {
            // Another task is changing the model, so it is in use.
            break;
        };
        let Taker {
            served: victim,
            bytes,
        } = left.swap_remove(victim);
        if let ModelState::Ready(model) = victim.state() {
            former.push(model.runner.end(), bytes);
        }
        victim.note_gave_way(true);
        put_away(right, &victim, catalog, ModelState::Unloaded(None)).await;
        info!(model = victim.id, "unloaded to make room for {}", served.id);
    }
    // Forgets the unloaded models that have ended.
    former.bytes();
    let fits = needed > 0 && needed + total(&left) <= budget;
    Room {
        left,
        former: former.clone(),
        reserved: fits.then(|| served.reserve(needed)),
    }
}

fn total(takers: &[Taker]) -> u64 {
    takers.iter().map(|taker| taker.bytes).sum()
}

/// The models that take memory, and those for which it is set aside. If `needed` counts the coming load of `loading`, only what it
/// takes already is counted here.
async fn takers(needed: u64, loading: &ServedModel, catalog: &Catalog) -> Vec<Taker> {
    let mut takers = Vec::new();
    for served in &catalog.now().models {
        let bytes = match served.id == loading.id && needed > 0 {
            true => loaded_bytes(served).await,
            false => bytes_of(served).await,
        };
        if bytes > 0 {
            let served = served.clone();
            takers.push(Taker { served, bytes });
        }
    }
    takers
}

/// Index of the model to unload next: the least recently used one. Models with running requests are left out unless the
/// configuration allows to unload them.
fn victim(takers: &[Taker], served: &ServedModel, catalog: &Catalog) -> Option<usize> {
    let may_be_busy = catalog.now().config.server.unload_busy_models;
    let others = takers.iter().enumerate();
    let others = others.filter(|(_, taker)| taker.served.id != served.id);
    let unloadable = others.filter_map(|(index, taker)| {
        let is_busy = taker.served.is_busy()?;
        let last_use = taker.served.last_use()?;
        (may_be_busy || !is_busy).then_some((last_use, index))
    });
    unloadable.min().map(|(_, index)| index)
}

/// Bytes that a model takes, and those that are set aside for its load. 0: it is not loaded.
async fn bytes_of(served: &ServedModel) -> u64 {
    let taken = match served.state() {
        ModelState::Restarting(_) => expected_bytes(served).await,
        _ => loaded_bytes(served).await,
    };
    taken + served.reserved_bytes()
}

async fn loaded_bytes(served: &ServedModel) -> u64 {
    let ModelState::Ready(model) = served.state() else {
        return 0;
    };
    let asked = spawn_blocking(move || model.memory_bytes()).await;
    asked.unwrap_or_else(|_| served.last_bytes())
}

/// The bytes that a model took when it was last loaded. Before its first load, the size of its files.
async fn expected_bytes(served: &ServedModel) -> u64 {
    match served.last_bytes() {
        0 => {
            let Some(path) = served.path() else {
                return 0;
            };
            let asked = spawn_blocking(move || file_bytes(&path)).await;
            asked.unwrap_or_default()
        }
        bytes => bytes,
    }
}

/// The size of all files of a directory, or of a file and the other parts of its model. 0 if it cannot be looked at.
fn file_bytes(path: &Path) -> u64 {
    let folder = match path.is_dir() {
        true => path,
        false => path.parent().unwrap_or(Path::new(".")),
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let counts = |file: &fs::DirEntry| path.is_dir() || is_part_of(&file.path(), path);
    let sizes = entries
        .filter(counts)
        .filter_map(|file| fs::metadata(file.path()).ok());
    sizes.map(|file| file.len()).sum()
}

/// Whether a file is the model's, or the other part of a model that is cut into several files: `a-00001-of-00003.gguf`.
fn is_part_of(file: &Path, model: &Path) -> bool {
    let uncut = |path: &Path| {
        let name = path.file_name()?.to_str()?;
        let (begin, count) = name.rsplit_once("-of-")?;
        let (stem, _) = begin.rsplit_once('-')?;
        Some((stem.to_owned(), count.to_owned()))
    };
    file.file_name() == model.file_name()
        || uncut(model).is_some_and(|uncut_model| uncut(file) == Some(uncut_model))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_of_a_model_count() {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in [
            ("a-00001-of-00002.gguf", 1),
            ("a-00002-of-00002.gguf", 2),
            ("b-00001-of-00002.gguf", 4),
            ("whole.gguf", 8),
        ] {
            fs::write(folder.path().join(name), vec![0; bytes]).unwrap();
        }
        for (name, bytes) in [
            ("a-00001-of-00002.gguf", 3),
            ("whole.gguf", 8),
            ("", 15),
            ("none", 0),
        ] {
            assert_eq!(file_bytes(&folder.path().join(name)), bytes, "{name}");
        }
    }
}
