//! The services of the host for a plugin in C.

use std::{ffi::c_void, ptr};

use tenon_plugin_api::{
    LogLevel,
    abi::{
        HostBox,
        c::{HostVtable, Object, ProgressVtable, Str},
    },
};

use super::{lend, read};

/// The host, as a plugin sees it. It is never dropped, because a plugin may keep it.
pub fn host(services: HostBox) -> Object<HostVtable> {
    let cache_dir = services.cache_dir().into_string();
    let host = Box::leak(Box::new(Host {
        services,
        cache_dir,
    }));
    Object {
        this: (&raw mut *host).cast(),
        vtable: &HOST,
    }
}

struct Host {
    services: HostBox,
    cache_dir: String,
}

static HOST: HostVtable = HostVtable {
    size: size_of::<HostVtable>(),
    log: Some(log),
    threads: Some(threads),
    cache_dir: Some(cache_dir),
};

/// # Safety
/// `this` is from [`host`].
unsafe fn services<'a>(this: *mut c_void) -> &'a Host {
    // SAFETY: the caller says so, and the host is never dropped.
    unsafe { &*this.cast::<Host>() }
}

unsafe extern "C" fn log(this: *mut c_void, level: u32, target: Str, message: Str) {
    // SAFETY: the plugin passes its host back, and valid texts.
    let (host, target, message) =
        unsafe { (services(this), read::words(target), read::words(message)) };
    let (target, message) = ((&*target).into(), (&*message).into());
    host.services.log(LogLevel(level), target, message);
}

unsafe extern "C" fn threads(this: *mut c_void) -> u32 {
    // SAFETY: the plugin passes its host back.
    let host = unsafe { services(this) };
    host.services.threads().max(1)
}

unsafe extern "C" fn cache_dir(this: *mut c_void) -> Str {
    // SAFETY: the plugin passes its host back.
    let host = unsafe { services(this) };
    lend::text(&host.cache_dir)
}

/// Takes the fraction, which is negative if unknown, and what is being done. False: the call has to stop.
pub type Report<'a> = dyn Fn(f32, &str) -> bool + Sync + 'a;

/// The progress of a call, as a plugin sees it. It must not be used after `report` ends.
pub fn progress(report: &&Report<'_>) -> Object<ProgressVtable> {
    Object {
        this: ptr::from_ref(report).cast_mut().cast(),
        vtable: &PROGRESS,
    }
}

static PROGRESS: ProgressVtable = ProgressVtable {
    size: size_of::<ProgressVtable>(),
    report: Some(report),
};

unsafe extern "C" fn report(this: *mut c_void, fraction: f32, message: Str) -> u32 {
    // SAFETY: `progress` made this pointer, and the plugin uses it during the call only.
    let (report, message) = unsafe { (*this.cast::<&Report<'_>>(), read::words(message)) };
    report(fraction, &message).into()
}
