//! Tests of what a process in a sandbox can do. Child processes enter it and try everything, because nothing can leave a sandbox.

use std::{
    collections::BTreeMap,
    env,
    ffi::CString,
    fs::{self, File},
    io::{self, Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, chown, lchown, symlink},
        net::{UnixDatagram, UnixListener, UnixStream},
    },
    panic::catch_unwind,
    path::{Path, PathBuf},
    process::{Command, Stdio, exit, id},
    ptr,
    sync::mpsc::channel,
    thread,
    time::SystemTime,
};

use super::*;

const CHILD: &str = "system::sandbox::tests::in_the_sandbox";
const PLACE: &str = "TENON_TEST_SANDBOX";

type Attempt = fn(&Path) -> io::Result<()>;

/// Attempts that work in the sandbox. Each attempt gets the directory of the test.
const ALLOWED: &[(&str, Attempt)] = &[
    ("read the model", |place| read(&place.join("model/weights"))),
    ("read what a link beside the model leads to", |place| {
        read(&place.join("model/link"))
    }),
    (
        "read what a link in a folder of the model leads to",
        |place| read(&place.join("model/pooling/link")),
    ),
    ("read what was given as a file", |place| {
        read(&place.join("single"))
    }),
    ("open anew a file that was given as an open one", |_| {
        read("/proc/self/fd/0".as_ref())
    }),
    ("write the cache", |place| {
        fs::create_dir(place.join("cache/new"))?;
        fs::write(place.join("cache/file"), "x")?;
        fs::rename(place.join("cache/file"), place.join("cache/new/file"))?;
        fs::remove_dir_all(place.join("cache/new"))
    }),
    ("list the system's programs", |_| {
        fs::read_dir("/usr").map(drop)
    }),
    ("read about the machine", |_| read("/proc/meminfo".as_ref())),
    ("read about itself", |_| read("/proc/self/maps".as_ref())),
    ("discard bytes", |_| fs::write("/dev/null", "x")),
    ("share memory", |_| {
        let path = PathBuf::from(format!("/dev/shm/tenon-test-{}", id()));
        fs::write(&path, "x")?;
        fs::remove_file(path)
    }),
    ("start a program of the system", |_| {
        run(&mut Command::new("true"))
    }),
    ("start this program", |_| {
        let mut command = Command::new(env::current_exe()?);
        run(command.arg("--help"))
    }),
    ("name a thread", |_| name_a_thread()),
    ("stay without further privileges", |_| {
        let status = fs::read_to_string("/proc/thread-self/status")?;
        match status.contains("NoNewPrivs:\t1\n") {
            true => Ok(()),
            false => Err(io::Error::other(status.replace('\n', " "))),
        }
    }),
    ("make a pair of sockets", |_| UnixStream::pair().map(drop)),
    ("copy a file with its rights and times", |place| {
        let path = place.join("cache/copied");
        fs::copy(place.join("model/weights"), &path)?;
        File::options()
            .write(true)
            .open(path)?
            .set_modified(SystemTime::UNIX_EPOCH)
    }),
    ("limit itself", |_| limit(0)),
];

/// Attempts that are refused in the sandbox.
const REFUSED: &[(&str, Attempt)] = &[
    ("read passwords", |_| read("/etc/shadow".as_ref())),
    ("read the user's files", |place| {
        read(&place.join("home/secret"))
    }),
    ("list the user's files", |place| {
        fs::read_dir(place.join("home")).map(drop)
    }),
    ("read them through a program of the system", |place| {
        run(Command::new("cat").arg(place.join("home/secret")))
    }),
    ("make a file of the user", |place| {
        fs::write(place.join("home/new"), "x")
    }),
    ("write the model", |place| {
        File::options()
            .write(true)
            .open(place.join("model/weights"))
            .map(drop)
    }),
    ("run a program that it wrote", |place| {
        let path = place.join("cache/true");
        fs::copy("/bin/true", &path)?;
        run(&mut Command::new(path))
    }),
    ("connect over TCP", |place| {
        let port = fs::read_to_string(place.join("model/port"))?;
        TcpStream::connect(format!("127.0.0.1:{port}")).map(drop)
    }),
    ("listen for TCP", |_| {
        TcpListener::bind("127.0.0.1:0").map(drop)
    }),
    ("send datagrams", |_| {
        UdpSocket::bind("127.0.0.1:0").map(drop)
    }),
    ("connect to a Unix socket", |place| {
        UnixStream::connect(place.join("home/socket")).map(drop)
    }),
    ("send to a Unix socket", |_| {
        UnixDatagram::unbound().map(drop)
    }),
    ("change the rights of the user's files", |place| {
        let rights = fs::Permissions::from_mode(0o600);
        fs::set_permissions(place.join("home/secret"), rights)
    }),
    ("change rights with the newest call", |place| {
        let path = text(place, "home/secret");
        // SAFETY: the path ends with a zero.
        outcome(unsafe { libc::syscall(452, libc::AT_FDCWD, path.as_ptr(), 0o600, 0) })
    }),
    ("change the owner of the user's files", |place| {
        // SAFETY: the call has no arguments.
        let user = unsafe { libc::getuid() };
        chown(place.join("home/secret"), Some(user), None)
    }),
    ("change the owner of the user's links", |place| {
        // SAFETY: the call has no arguments.
        let user = unsafe { libc::getuid() };
        lchown(place.join("home/secret"), Some(user), None)
    }),
    ("change the times of the user's files", |place| {
        let path = text(place, "home/secret");
        // SAFETY: the path ends with a zero. Without times the kernel takes the present one.
        let result = unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), ptr::null(), 0) };
        outcome(result.into())
    }),
    ("change attributes of the user's files", |place| {
        let (path, name) = (text(place, "home/secret"), c"user.tenon");
        // SAFETY: the path and the name end with a zero, and the value has no bytes.
        let result = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), ptr::null(), 0, 0) };
        outcome(result.into())
    }),
    ("limit its parent", |_| {
        // SAFETY: the call has no arguments.
        limit(unsafe { libc::getppid() })
    }),
    ("read its parent's environment", |_| {
        // SAFETY: the call has no arguments.
        let parent = unsafe { libc::getppid() };
        read(format!("/proc/{parent}/environ").as_ref())
    }),
    ("trace", |_| call(libc::SYS_ptrace, [0; 2])),
    ("use io_uring", |_| call(libc::SYS_io_uring_setup, [1, 0])),
    ("leave a namespace", |_| call(libc::SYS_unshare, [0, 0])),
    #[cfg(target_arch = "x86_64")]
    ("make a socket by its x32 number", |_| {
        let x32 = 0x4000_0000 + libc::SYS_socket;
        call(x32, [libc::AF_INET, libc::SOCK_STREAM])
    }),
];

/// Attempts that are refused only by newer kernels, with a word of the sentence about older kernels.
const REFUSED_BY_NEW_KERNELS: &[(&str, &str, Attempt)] = &[
    ("truncate the model", "truncate", |place| {
        let path = text(place, "model/weights");
        // SAFETY: the path ends with a zero.
        let result = unsafe { libc::truncate(path.as_ptr(), 0) };
        outcome(result.into())
    }),
    ("signal its parent", "signals", |_| {
        // SAFETY: no signal is sent, only whether it may be is asked.
        let result = unsafe { libc::kill(libc::getppid(), 0) };
        outcome(result.into())
    }),
];

#[test]
fn a_sandbox_allows_the_model_and_the_cache_but_no_other_files_and_no_network() {
    let place = place();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    fs::write(place.path().join("model/port"), port).unwrap();
    let _socket = UnixListener::bind(place.path().join("home/socket")).unwrap();
    let child = run_child(place.path());
    let told = child.get("sentences").cloned().unwrap_or_default();
    if told.contains("Landlock is off") {
        return assert_ne!(child["thread: connect over TCP"], "worked");
    }
    for (name, _) in ALLOWED {
        assert_eq!(child[*name], "worked", "{name}");
        assert_eq!(child[&format!("thread: {name}")], "worked", "{name}");
    }
    let by_new_kernels = REFUSED_BY_NEW_KERNELS.iter();
    let by_new_kernels = by_new_kernels.filter(|(_, word, _)| !told.contains(word));
    let by_all = REFUSED.iter().map(|(name, _)| name);
    for name in by_all.chain(by_new_kernels.map(|(name, ..)| name)) {
        assert_ne!(child[*name], "worked", "{name}");
        assert_ne!(child[&format!("thread: {name}")], "worked", "{name}");
    }
    let secret = &child["read a file that was open before"];
    assert_eq!(secret, "worked");
    let weights = fs::read_to_string(place.path().join("model/weights"));
    assert_eq!(weights.unwrap(), "weights");
}

/// Without a sandbox everything works that a sandbox refuses, so the refusals come from it.
#[test]
fn without_a_sandbox_the_refused_files_and_connections_work() {
    let place = place();
    for name in [
        "read the user's files",
        "make a file of the user",
        "change the rights of the user's files",
        "change the owner of the user's files",
        "change the owner of the user's links",
        "change the times of the user's files",
        "limit its parent",
        "read its parent's environment",
    ] {
        let (_, attempt) = REFUSED.iter().find(|(other, _)| *other == name).unwrap();
        attempt(place.path()).unwrap();
    }
    for name in ["listen for TCP", "send datagrams", "send to a Unix socket"] {
        let (_, attempt) = REFUSED.iter().find(|(other, _)| *other == name).unwrap();
        attempt(place.path()).unwrap();
    }
}

#[test]
fn a_process_with_several_threads_does_not_enter() {
    let entered = thread::scope(|scope| {
        let beside = scope.spawn(|| Sandbox::default().enter());
        beside.join().unwrap()
    });
    assert!(matches!(entered, Err(SandboxError::Threads)), "{entered:?}");
}

/// Forks, because a test has a thread beside it. The child prints `name: outcome` lines.
#[test]
#[ignore = "the other tests run it in a process of its own"]
fn in_the_sandbox() {
    let place = PathBuf::from(env::var_os(PLACE).unwrap());
    // SAFETY: the other thread only waits for this one, so it holds no lock.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let result = catch_unwind(|| enter_and_attempt_all(&place));
        exit(result.is_err().into());
    }
    let mut status = 0;
    // SAFETY: the status is written to a variable of this function.
    let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((ended, status), (child, 0));
}

fn enter_and_attempt_all(place: &Path) {
    let mut open = File::open(place.join("home/secret")).unwrap();
    let mut readable: Vec<_> = ["model", "single", "missing"]
        .map(|name| place.join(name))
        .into();
    readable.push("/proc/self/fd/0".into());
    let sandbox = Sandbox {
        readable,
        writable: vec![place.join("cache")],
    };
    let sentences = sandbox.enter().unwrap();
    // The line that the test runner began ends first.
    println!(
        "\n= sentences: {}",
        sentences.join(" ").replace(": ", " - ")
    );
    let read = open.read_to_string(&mut String::new());
    print("", "read a file that was open before", read.map(drop));
    attempt_all("", place);
    thread::scope(|scope| scope.spawn(|| attempt_all("thread: ", place)).join()).unwrap();
}

fn attempt_all(prefix: &str, place: &Path) {
    for (name, attempt) in ALLOWED.iter().chain(REFUSED) {
        print(prefix, name, attempt(place));
    }
    for (name, _, attempt) in REFUSED_BY_NEW_KERNELS {
        print(prefix, name, attempt(place));
    }
}

fn print(prefix: &str, name: &str, result: io::Result<()>) {
    let outcome = match result {
        Ok(()) => "worked".to_owned(),
        Err(error) => error.to_string(),
    };
    println!("= {prefix}{name}: {outcome}");
}

/// Runs the child, and returns the outcome of each attempt.
fn run_child(place: &Path) -> BTreeMap<String, String> {
    let mut command = Command::new(env::current_exe().unwrap());
    let arguments = [
        "--ignored",
        "--exact",
        CHILD,
        "--nocapture",
        "--test-threads=1",
    ];
    command.args(arguments).env(PLACE, place);
    let plugin = File::open(place.join("elsewhere/plugin")).unwrap();
    let output = command.stdin(plugin).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("= "));
    let outcomes = lines.filter_map(|line| line.rsplit_once(": "));
    outcomes
        .map(|(name, outcome)| (name.to_owned(), outcome.to_owned()))
        .collect()
}

/// A directory with a model, a cache and a home.
fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    for name in ["model/pooling", "cache", "home", "elsewhere"] {
        fs::create_dir_all(path(name)).unwrap();
    }
    for (name, content) in [
        ("model/weights", "weights"),
        ("elsewhere/blob", "weights"),
        ("elsewhere/settings", "mean"),
        ("elsewhere/plugin", "plugin"),
        ("single", "weights"),
        ("home/secret", "secret"),
    ] {
        fs::write(path(name), content).unwrap();
    }
    symlink("../elsewhere/blob", path("model/link")).unwrap();
    symlink("../../elsewhere/settings", path("model/pooling/link")).unwrap();
    place
}

/// The path of a file in a directory, as C libraries have it.
fn text(place: &Path, file: &str) -> CString {
    CString::new(place.join(file).as_os_str().as_bytes()).unwrap()
}

/// Gives a process the limit that it has. 0: this process.
fn limit(process: i32) -> io::Result<()> {
    let mut now = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: each pointer is null or that of a variable of this function.
    let result = unsafe {
        libc::prlimit(process, libc::RLIMIT_CORE, ptr::null(), &raw mut now);
        libc::prlimit(process, libc::RLIMIT_CORE, &raw const now, ptr::null_mut())
    };
    outcome(result.into())
}

fn read(path: &Path) -> io::Result<()> {
    fs::read(path).map(drop)
}

fn run(command: &mut Command) -> io::Result<()> {
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    match quiet.status()?.success() {
        true => Ok(()),
        false => Err(io::Error::other("the program failed")),
    }
}

/// Names another thread than the calling one.
fn name_a_thread() -> io::Result<()> {
    let (tell, told) = channel();
    let (end, ended) = channel::<()>();
    let body = move || {
        // SAFETY: the call has no arguments.
        let _ = tell.send(unsafe { libc::syscall(libc::SYS_gettid) });
        let _ = ended.recv();
    };
    let thread = thread::spawn(body);
    let number = told.recv().map_err(io::Error::other)?;
    let file = File::options()
        .write(true)
        .open(format!("/proc/self/task/{number}/comm"));
    let named = file.and_then(|mut file| file.write_all(b"named"));
    drop(end);
    thread.join().map_err(|_| io::Error::other("a panic"))?;
    named
}

fn call(number: i64, arguments: [i32; 2]) -> io::Result<()> {
    // SAFETY: none of the tried calls reads memory with these arguments.
    outcome(unsafe { libc::syscall(number, arguments[0], arguments[1], 0) })
}

/// The outcome of a system call. A kernel that finds an argument bad has not refused the call.
fn outcome(result: i64) -> io::Result<()> {
    let error = io::Error::last_os_error();
    match (result, error.raw_os_error()) {
        (-1, Some(libc::EFAULT)) => Ok(()),
        (-1, _) => Err(error),
        _ => Ok(()),
    }
}
