//! Loading, and its failures.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use tenon_plugin_api::{Code, LoadArgs};

use crate::{
    finding::{Checked, Finding, ensure, refused},
    measure,
    model_files::{copy, largest, largest_file, missing, scratch, unreadable},
    running::{Running, agreement, args, same, session},
    subject::{Subject, load, load_args, load_reporting},
};

/// Most reports at which loading is cancelled.
const MAX_CANCELLED: u32 = 8;
/// How often a model is loaded and dropped.
const ROUNDS: usize = 6;
/// Bytes that may stay in use after each round, because heaps keep some room.
const KEPT: u64 = 4 << 20;

pub fn missing_io(subject: &Subject) -> Checked {
    let path = missing(subject);
    match load(&*subject.backend()?, Path::new(&path)) {
        Ok(_) => Err(Finding::failed(
            "a path that does not exist was loaded: answer IO",
        )),
        Err(error) if error.code != Code::IO => Err(Finding::warning(format!(
            "the code is {:?} ({}): answer IO, which tells a missing file from a bad one",
            error.code, error.message
        ))),
        Err(error) if !error.message.contains(&path) => Err(Finding::warning(format!(
            "the message does not name the path ({}): name it",
            error.message
        ))),
        Err(error) => Ok(format!("the answer is: {}", error.message)),
    }
}

pub fn truncated_invalid(subject: &Subject) -> Checked {
    let (backend, model) = (subject.backend()?, subject.model_path()?);
    let content = largest_file(model)?;
    if content.len() < 64 {
        return Err(Finding::skipped("the model is too small to be cut off"));
    }
    let folder = scratch()?;
    let copy = copy(model, folder.path()).map_err(unreadable)?;
    let cut_file = largest(&copy).map_err(unreadable)?;
    fs::write(cut_file, &content[..content.len() / 2]).map_err(unreadable)?;
    refused(
        "half of the model's file",
        load(&backend, &copy),
        Code::INVALID,
    )?;
    Ok("half of the file is refused".to_owned())
}

pub fn unknown_device(subject: &Subject) -> Checked {
    const DEVICE: &str = "tenon-check:7";
    let args = LoadArgs {
        devices: vec![DEVICE.to_owned()],
        ..load_args(subject.model_path()?)
    };
    match subject.backend()?.load(&args, Box::new(|_, _| true)) {
        Ok(_) => Err(Finding::failed(
            "a device that does not exist was accepted: compare `LoadArgs::devices` with your devices (`Error::no_device`)",
        )),
        Err(error) if error.message.contains(DEVICE) => Ok("it is refused and named".to_owned()),
        Err(error) => Err(Finding::failed(format!(
            "a device that does not exist is refused without its name ({}): name it",
            error.message
        ))),
    }
}

pub fn cancel_each_report(subject: &Subject) -> Checked {
    let (backend, path) = (subject.backend()?, subject.model_path()?);
    for cancelled in 0..MAX_CANCELLED {
        let reports = Arc::new(AtomicU32::new(0));
        let counter = reports.clone();
        let goes_on =
            move |_: Option<f32>, _: &str| counter.fetch_add(1, Ordering::Relaxed) < cancelled;
        let loaded = load_reporting(&backend, path, Box::new(goes_on));
        if reports.load(Ordering::Relaxed) <= cancelled {
            drop(subject.load(&backend)?);
            return Ok(format!(
                "it stopped at each of its {cancelled} reports, and loads afterwards"
            ));
        }
        refused(
            &format!("a cancelled load (report {cancelled})"),
            loaded,
            Code::CANCELLED,
        )?;
    }
    drop(subject.load(&backend)?);
    Ok(format!(
        "it stopped at each of {MAX_CANCELLED} reports, and loads afterwards"
    ))
}

pub fn twice(subject: &Subject) -> Checked {
    let mut first = Running::new(subject)?;
    let second = load(&first.backend, subject.model_path()?);
    let second = second.map_err(|error| {
        Finding::failed(format!("a second load beside the first one fails ({error}): share nothing that only one model can have"))
    })?;
    let tokens = first.tokens(9);
    let expected = first.alone(0, &tokens)?;
    let mut driver = session(&second, &args())?;
    let found = vec![driver.prompt(0, &tokens)?];
    let worst = same("the second model", &expected[8..], &found)?;
    Ok(agreement(worst))
}

pub fn memory_returns(subject: &Subject) -> Checked {
    let mut after = Vec::new();
    let backend = subject.backend()?;
    let mut weights = 0;
    for _ in 0..ROUNDS {
        let model = subject.load(&backend)?;
        weights = model.info().weight_bytes;
        let mut driver = session(&model, &args())?;
        driver.prompt(0, &[0; 8])?;
        drop((driver, model));
        measure::trim_heap();
        after.push(measure::resident_bytes());
    }
    // The first rounds fill caches.
    let (early, late) = (after[1], after[ROUNDS - 1]);
    let stays = late.saturating_sub(early) / (ROUNDS as u64 - 2);
    ensure(stays <= KEPT.max(weights / 10), || {
        format!(
            "after each load and drop, {} KiB stay: free what a model, a session and a tokenizer take",
            stays >> 10
        )
    })?;
    Ok(format!("{} KiB stay after each load and drop", stays >> 10))
}
