//! Plugins that crash, hang or never end do not affect the server.

use std::{
    fs,
    os::unix::{fs::MetadataExt, net::UnixListener},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::json;
use tenon::plugin::Registry;
use tenon_tests::{PATIENCE, PluginFolder, ServerOptions, artifacts, ends_within};

const CRASHES: &str = "tenon_fixture_crashes";
const ECHO: &str = "tenon_plugin_echo";

#[test]
fn a_library_that_crashes_before_it_has_answered_is_refused() {
    check(
        "load-abort",
        "crashed while being loaded (signal: 6 (SIGABRT)",
    );
    check(
        "load-segfault",
        "crashed while being loaded (signal: 11 (SIGSEGV)",
    );
    check(
        "init-abort",
        "crashed while starting (`init`) (signal: 6 (SIGABRT)",
    );
    check(
        "init-panic",
        "did not start: the plugin panicked: told to panic",
    );
    check(
        "devices-segfault",
        "crashed while listing its devices (`devices`)",
    );
}

#[test]
fn a_library_that_ends_the_process_is_refused() {
    let expected = "ended the process while being loaded (exit status: 3)";
    check("load-exit", expected);
    check("init-exit", "ended the process while starting (`init`)");
    check("load-daemon", "while listing its devices (`devices`)");
}

#[test]
fn a_library_that_allocates_without_end_is_refused() {
    let limit = "took more than the 4 GiB of memory that a plugin may have before it loads a model";
    check("init-reserve", &format!("{limit}, while starting (`init`)"));
    check(
        "devices-reserve",
        &format!("{limit}, while listing its devices"),
    );
}

#[test]
fn a_library_with_an_illegal_instruction_is_refused() {
    let by_itself = "ended itself while being loaded (with the illegal instruction of";
    check("load-trap", by_itself);
    check("init-trap", "ended itself while starting (`init`)");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn an_instruction_that_the_cpu_lacks_is_named() {
    let needs = "needs AMX_TILE, which this CPU or its kernel does not offer (`tilezero` while";
    check("load-amx", &format!("{needs} being loaded)"));
    check("init-amx", &format!("{needs} starting (`init`))"));
    if !is_x86_feature_detected!("avx512f") {
        check("init-avx512", "needs AVX512F, which this CPU or its kernel");
    }
}

#[test]
fn what_a_library_prints_does_no_harm_and_the_end_of_it_is_kept() {
    let folder = folder(&["harmless", "init-noise"]);
    let listed = folder.list();
    assert_eq!(listed.ids(), ["org.tenon.fixture.harmless"]);
    let details = listed.0["refused"][0]["details"].as_str().unwrap();
    assert!(details.contains("line 99999 of much noise"), "{details}");
    assert!(details.len() <= 16 << 10, "{}", details.len());
}

/// Each of these libraries takes as long as it may. One after the other, they would take four times as long as the server
/// has.
#[tokio::test]
async fn libraries_that_hang_cost_one_time_out_together_and_leave_no_process() {
    let names = ["load-hang", "load-cling", "init-cling", "load-close"];
    let libraries = folder(&names);
    let directory = libraries.path("");
    let mut server = ServerOptions::new(&[ECHO])
        .file("a.echo", "")
        .arguments(&["a.echo", "--plugins", directory.to_str().unwrap()])
        .start();
    for name in names {
        let found = server.wait_for_log(&format!("{name}.so "));
        let expected = match name {
            "load-close" => "crashed while being loaded (signal: 9 (SIGKILL)",
            "init-cling" => "was still starting (`init`) after 10 seconds",
            _ => "was still being loaded after 10 seconds",
        };
        assert!(found.contains(expected), "{found}");
    }
    let client = server.client();
    let parameters = json!({"temperature": 0});
    assert_eq!(client.chat("Hi", parameters).await, "Hi");
    for name in ["load-cling", "init-cling"] {
        check_child_ended(&libraries.path(&format!("{name}.so")));
    }
}

#[test]
fn a_library_that_computes_without_end_is_refused() {
    let folder = folder(&["init-spin", "devices-spin", "supports-spin"]);
    let mut options = folder.options();
    options.try_timeout = Duration::from_secs(2);
    options.models = vec!["bad.crashes".into()];
    let registry = Registry::load(&options);
    assert!(registry.plugins().is_empty());
    let reasons = registry.refused().iter().map(|refused| &refused.reason);
    let reasons: Vec<_> = reasons.collect();
    for expected in [
        "init-spin.so was still starting (`init`) after 2 seconds",
        "devices-spin.so was still listing its devices (`devices`) after 2 seconds",
        "supports-spin.so was still looking at bad.crashes (`supports`) after 2 seconds",
    ] {
        let is_told = reasons.iter().any(|reason| reason.contains(expected));
        assert!(is_told, "{expected}: {reasons:?}");
    }
}

#[test]
fn a_child_that_a_library_leaves_behind_ends_and_holds_nothing_up() {
    let folder = folder(&["init-child"]);
    assert_eq!(folder.list().ids(), ["org.tenon.fixture.init-child"]);
    check_child_ended(&folder.path("init-child.so"));
}

#[test]
fn a_model_that_a_library_crashes_on_is_no_reason_to_refuse_it_for_others() {
    for (deed, expected) in [
        ("segfault", "crashed while looking at BAD (`supports`)"),
        ("exit", "ended the process while looking at BAD"),
        ("panic", "the plugin panicked: told to panic"),
        ("reserve", "before it loads a model, while looking at BAD"),
    ] {
        let name = format!("supports-{deed}");
        let folder = folder(&[&name]);
        let mut options = folder.options();
        // Plugins are asked only about model files that exist.
        let bad = folder.path("bad.crashes");
        fs::write(&bad, "a model").unwrap();
        let bad = bad.to_str().unwrap();
        let models = ["a.crashes", bad, "b.crashes", "c.echo"];
        options.models = models.map(Into::into).into();
        let registry = Registry::load(&options);
        let id = format!("org.tenon.fixture.{name}");
        let choose = |path: &str, name: Option<&str>| {
            let backend = registry.choose(Path::new(path), name);
            backend.map(|backend| backend.descriptor().id.clone())
        };
        assert_eq!(choose("a.crashes", None), Ok(id.clone()));
        assert_eq!(choose("b.crashes", None), Ok(id.clone()));
        assert_eq!(choose("c.echo", Some(&id)), Ok(id.clone()));
        for named in [None, Some(id.as_str())] {
            let why = choose(bad, named).unwrap_err().to_string();
            assert!(why.contains(&expected.replace("BAD", bad)), "{why}");
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_library_that_needs_another_cpu_for_a_model_is_refused() {
    let folder = folder(&["supports-amx"]);
    let mut options = folder.options();
    options.models = vec!["bad.crashes".into()];
    let registry = Registry::load(&options);
    assert!(registry.plugins().is_empty());
    let reason = &registry.refused()[0].reason;
    let expected = "needs AMX_TILE, which this CPU or its kernel does not offer (`tilezero` while looking at bad.crashes";
    assert!(reason.contains(expected), "{reason}");
}

#[test]
fn only_regular_files_are_looked_at() {
    let folder = PluginFolder::with(ECHO);
    let fifo = Command::new("mkfifo").arg(folder.path("pipe.so")).status();
    assert!(fifo.unwrap().success());
    fs::create_dir(folder.path("directory.so")).unwrap();
    let _socket = UnixListener::bind(folder.path("socket.so")).unwrap();
    let link = |to: &Path, name| std::os::unix::fs::symlink(to, folder.path(name)).unwrap();
    link(Path::new("/dev/zero"), "device.so");
    link(Path::new("missing.so"), "dangling.so");
    link(artifacts().library(CRASHES), "link.so");

    let listed = folder.list();
    assert_eq!(listed.ids().len(), 2, "{:#}", listed.0);
    for (name, expected) in [
        ("pipe.so", "is a named pipe, not a file"),
        ("directory.so", "is a directory, not a file"),
        ("socket.so", "is a socket, not a file"),
        ("device.so", "is a device, not a file"),
        ("dangling.so", "cannot be read (No such file or directory"),
    ] {
        listed.check_refused(&folder.path(name), expected);
    }
}

/// Checks the reason for refusing the fixture with this behaviour.
#[track_caller]
fn check(name: &str, expected: &str) {
    let folder = folder(&[name]);
    folder
        .list()
        .check_refused(&folder.path(&format!("{name}.so")), expected);
}

/// A folder with the fixture's library under these names. A name is what the library does.
fn folder(names: &[&str]) -> PluginFolder {
    let folder = PluginFolder::empty();
    for name in names {
        folder.install(CRASHES, &format!("{name}.so"));
    }
    folder
}

/// Checks that the process ends that a library has started. It has been killed, but not by this process.
#[track_caller]
fn check_child_ended(library: &Path) {
    let inode = fs::metadata(library).unwrap().ino();
    let file = PathBuf::from(format!("/dev/shm/tenon-fixture-child-{inode}"));
    let id = fs::read_to_string(&file).unwrap().parse().unwrap();
    fs::remove_file(&file).unwrap();
    let ended = ends_within(id, PATIENCE);
    assert!(ended, "the process {id} of {library:?} runs on");
}
