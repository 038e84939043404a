//! Other levels of the weights.

use std::{sync::Arc, thread};

use tenon::plugin::Model;
use tenon_plugin_api::{Code, LoadArgs, testing::Row};

use crate::{
    finding::{Checked, Finding, ensure, refused},
    model_files::scratch,
    running::{Running, agreement, args, same, session},
    subject::{Subject, load_args},
};

/// The levels that the model offers, or the case is skipped.
fn levels(model: &Model) -> Checked<Vec<String>> {
    match model.info().requantize_levels.as_slice() {
        [] => Err(Finding::skipped("the model offers no levels")),
        levels => Ok(levels.to_vec()),
    }
}

pub fn old_serves_meanwhile(subject: &Subject) -> Checked {
    let backend = subject.backend()?;
    let model = Arc::new(subject.load(&backend)?);
    let level = levels(&model)?.pop().unwrap_or_default();
    let mut driver = session(&model, &args())?;
    let tokens: Vec<u32> = (0..9)
        .map(|token| token % model.info().vocab_size)
        .collect();
    let mut compute = || -> Checked<Vec<Row>> {
        let row = driver.prompt(0, &tokens)?;
        driver.free(0);
        Ok(vec![row])
    };
    let expected = compute()?;
    let old = model.clone();
    let making = thread::spawn(move || old.requantize(&level, Box::new(|_, _| true)));
    let (mut worst, mut steps) = (0.0_f32, 0);
    while !making.is_finished() {
        worst = worst.max(same("while a new model is made", &expected, &compute()?)?);
        steps += 1;
    }
    let made = making.join();
    made.map_err(|_| Finding::failed("making a new model panicked"))?
        .map_err(|error| Finding::from(error).of("requantize/every-level"))?;
    worst = worst.max(same("after a new model was made", &expected, &compute()?)?);
    Ok(format!("{steps} steps meanwhile: {}", agreement(worst)))
}

pub fn every_level(subject: &Subject) -> Checked {
    let mut running = Running::new(subject)?;
    let levels = levels(&running.model)?;
    let tokens = running.tokens(9);
    for level in &levels {
        let made = running.model.requantize(level, Box::new(|_, _| true));
        let made = made.map_err(|error| {
            Finding::failed(format!(
                "the offered level {level} cannot be had ({error}): do not offer it"
            ))
        })?;
        ensure(made.info().quantization == *level, || {
            format!(
                "the model at {level} says that it is at {}",
                made.info().quantization
            )
        })?;
        let row = session(&made, &args())?.prompt(0, &tokens)?;
        ensure(row.iter().any(|logit| logit.is_finite()), || {
            format!("the model at {level} computes no numbers")
        })?;
    }
    Ok(levels.join(", "))
}

pub fn cancel_leaves_nothing(subject: &Subject) -> Checked {
    let backend = subject.backend()?;
    let model = subject.load(&backend)?;
    let level = levels(&model)?.pop();
    let args = LoadArgs {
        quantize: level,
        ..load_args(subject.model_path()?)
    };
    let folder = scratch()?;
    let output = folder.path().join("written");
    let written = backend.quantize(&args, &output, Box::new(|_, _| false));
    match written {
        Err(error) if error.code == Code::UNSUPPORTED => {
            return Err(Finding::skipped("the plugin writes no models"));
        }
        written => refused("a cancelled call", written, Code::CANCELLED)?,
    }
    let left = std::fs::read_dir(folder.path());
    let left = left.map_or(0, |entries| entries.flatten().count());
    ensure(left == 0, || {
        format!(
            "a cancelled call leaves {left} files: remove what was written before the error is returned"
        )
    })?;
    Ok("nothing is left".to_owned())
}
