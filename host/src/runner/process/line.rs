//! The sending side of a socket, for many threads. A thread that sends writes by itself if there is room, because waking another
//! thread would take longer than the write.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{spawn, sync::Notify, time::sleep};
use tokio_util::bytes::{Buf, BytesMut};

use super::socket::Sending;

/// The time after which a socket that the system cannot watch is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// The sending side of a socket. Dropping it closes that side, once everything is written.
pub struct Line(Arc<Unsent>);

struct Unsent {
    socket: Sending,
    /// Bytes that found no room in the socket so far.
    rest: Mutex<BytesMut>,
    /// Notified when there is a rest, and when the line is dropped.
    wake: Notify,
    is_dropped: AtomicBool,
}

impl Line {
    /// A line over this socket. To be called within a runtime, which writes what finds no room at once.
    pub fn new(socket: Sending) -> Self {
        let unsent = Arc::new(Unsent {
            socket,
            rest: Mutex::default(),
            wake: Notify::new(),
            is_dropped: AtomicBool::new(false),
        });
        let rest = unsent.clone();
        spawn(async move { rest.write_rests().await });
        Self(unsent)
    }

    /// Sends bytes, all before those of later calls. Never blocks.
    pub fn send(&self, bytes: &[u8]) {
        let mut rest = self.0.rest();
        let written = match rest.is_empty() {
            true => self.0.write_now(bytes),
            false => 0,
        };
        if written < bytes.len() {
            rest.extend_from_slice(&bytes[written..]);
            self.0.wake.notify_one();
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.0.is_dropped.store(true, Ordering::Release);
        self.0.wake.notify_one();
    }
}

impl Unsent {
    /// Writes the bytes that find room now. Returns how many bytes are done with: all of them if the other side is gone.
    fn write_now(&self, bytes: &[u8]) -> usize {
        self.socket.write_now(bytes).unwrap_or(bytes.len())
    }

    async fn write_rests(&self) {
        loop {
            self.wake.notified().await;
            while self.has_rest() {
                if self.socket.writable().await.is_err() {
                    sleep(RETRY).await;
                }
                let mut rest = self.rest();
                let done = self.write_now(&rest);
                rest.advance(done);
            }
            if self.is_dropped.load(Ordering::Acquire) {
                return;
            }
        }
    }

    fn has_rest(&self) -> bool {
        !self.rest().is_empty()
    }

    fn rest(&self) -> MutexGuard<'_, BytesMut> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{env, os::unix::net::UnixStream, process::Command};

    use rustix::process::{Resource, Rlimit, setrlimit};
    use tokio::{io::AsyncReadExt, runtime};

    use super::{super::socket::halves, *};

    #[tokio::test]
    async fn everything_arrives_in_order_and_then_the_end() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (_input, output) = halves(ours).unwrap();
        let (mut theirs, _open) = halves(theirs).unwrap();
        let line = Line::new(output);
        let sent: Vec<Vec<u8>> = (0..100).map(|at| vec![at; 50_000]).collect();
        sent.iter().for_each(|bytes| line.send(bytes));
        drop(line);
        let mut received = Vec::new();
        theirs.read_to_end(&mut received).await.unwrap();
        assert!(received == sent.concat());
    }

    /// A child process runs the test, because the limit of descriptors belongs to a process.
    #[test]
    fn what_finds_no_room_is_written_although_no_file_can_be_opened() {
        const CHILD: &str = "TENON_TEST_NO_FILES";
        if env::var_os(CHILD).is_some() {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            return runtime.unwrap().block_on(send_much_without_files());
        }
        let test = "runner::process::line::tests::what_finds_no_room_is_written_although_no_file_can_be_opened";
        let mut child = Command::new(env::current_exe().unwrap());
        let child = child.args(["--exact", test, "--nocapture"]).env(CHILD, "");
        let done = child.output().unwrap();
        assert!(done.status.success(), "{done:?}");
        assert!(String::from_utf8_lossy(&done.stdout).contains("1 passed"));
    }

    async fn send_much_without_files() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (_input, output) = halves(ours).unwrap();
        let (mut theirs, _open) = halves(theirs).unwrap();
        let line = Line::new(output);
        let none = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        setrlimit(Resource::Nofile, none).unwrap();
        assert!(std::fs::File::open("/dev/null").is_err());
        let sent = vec![7; 3_000_000];
        line.send(&sent);
        let mut received = vec![0; sent.len()];
        let read = theirs.read_exact(&mut received);
        let read = tokio::time::timeout(Duration::from_secs(30), read).await;
        read.expect("it arrives").unwrap();
        assert!(received == sent);
    }

    #[tokio::test]
    async fn nothing_is_kept_for_who_is_gone() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (_input, output) = halves(ours).unwrap();
        let line = Line::new(output);
        drop(theirs);
        for _ in 0..100 {
            line.send(&[0; 50_000]);
            tokio::task::yield_now().await;
        }
        assert!(line.0.rest().is_empty());
    }
}
