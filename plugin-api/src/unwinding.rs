//! Keeps panics in an author's code inside the plugin.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, Ordering},
};

use crate::{Code, Error, Result};

/// An author's object behind a vtable. After a panic every call answers `PANICKED` until the object is dropped. A panic in
/// the drop is caught too.
pub struct Exported<T: ?Sized + 'static> {
    inner: Option<Box<T>>,
    panicked: AtomicBool,
}

impl<T: ?Sized> Exported<T> {
    pub fn new(inner: Box<T>) -> Self {
        Self {
            inner: Some(inner),
            panicked: AtomicBool::new(false),
        }
    }

    /// Calls a method that takes `&self`.
    pub fn call<R>(&self, call: impl FnOnce(&T) -> Result<R>) -> Result<R> {
        let inner = self.inner.as_deref().ok_or_else(panicked_before)?;
        if self.panicked.load(Ordering::Relaxed) {
            return Err(panicked_before());
        }
        let result = caught(|| call(inner));
        self.note(&result);
        result
    }

    /// Calls a method that takes `&mut self`.
    pub fn call_mut<R>(&mut self, call: impl FnOnce(&mut T) -> Result<R>) -> Result<R> {
        if *self.panicked.get_mut() {
            return Err(panicked_before());
        }
        let inner = self.inner.as_deref_mut().ok_or_else(panicked_before)?;
        let result = caught(|| call(inner));
        self.note(&result);
        result
    }

    fn note<R>(&self, result: &Result<R>) {
        if matches!(result, Err(error) if error.code == Code::PANICKED) {
            self.panicked.store(true, Ordering::Relaxed);
        }
    }
}

impl<T: ?Sized> Drop for Exported<T> {
    fn drop(&mut self) {
        let inner = self.inner.take();
        // Nobody is told of a panic here: the host drops the object because it is done with it.
        let _ = caught(|| {
            drop(inner);
            Ok(())
        });
    }
}

/// Runs a call and turns a panic into an error.
pub fn caught<R>(call: impl FnOnce() -> Result<R>) -> Result<R> {
    // State that the panic left half-done is not used again, because the object is marked as panicked.
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| {
        let message = format!("the plugin panicked: {}", panic_message(&*payload));
        // Dropping a payload may panic in turn.
        std::mem::forget(payload);
        Err(Error::new(Code::PANICKED, message))
    })
}

fn panic_message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

fn panicked_before() -> Error {
    Error::new(Code::PANICKED, "the plugin panicked earlier in this object")
}
