//! Which process listens at a TCP port.

use std::{fs, path::Path};

/// A process.
#[derive(Debug, PartialEq, Eq)]
pub struct Process {
    pub id: u32,
    /// Its program and arguments, shortened.
    pub command: String,
}

/// Most characters of a command that are shown.
const SHOWN: usize = 60;

/// The process that listens at a port of this machine. None if there is none, or if it belongs to another user.
pub fn of(port: u16) -> Option<Process> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let tables = tables
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok());
    let sockets: Vec<String> = tables.flat_map(|table| listening(&table, port)).collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut owners = ids.filter(|id| has_one_of(*id, &sockets));
    owners.next().map(|id| Process {
        id,
        command: command(id),
    })
}

/// The links below `/proc/ID/fd` to sockets that listen at a port, such as `socket:[4711]`.
fn listening(table: &str, port: u16) -> Vec<String> {
    /// The state LISTEN.
    const LISTEN: &str = "0A";
    let end = format!(":{port:04X}");
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[_, local, _, state, ..] = &fields[..] else {
            return None;
        };
        let inode = fields
            .get(9)
            .filter(|_| local.ends_with(&end) && state == LISTEN)?;
        Some(format!("socket:[{inode}]"))
    };
    table.lines().skip(1).filter_map(inode).collect()
}

fn has_one_of(process: u32, sockets: &[String]) -> bool {
    let open = fs::read_dir(Path::new("/proc").join(process.to_string()).join("fd"));
    let open = open.into_iter().flatten().flatten();
    let links = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    let mut links = links.filter_map(|link| link.to_str().map(str::to_owned));
    links.any(|link| sockets.contains(&link))
}

fn command(process: u32) -> String {
    let words = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let words = String::from_utf8_lossy(&words).replace('\0', " ");
    words.trim().chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_process_at_a_port_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let owner = of(port).unwrap();
        assert_eq!(owner.id, std::process::id());
        assert!(!owner.command.is_empty());
        drop(listener);
        assert_eq!(of(port), None);
    }
}
