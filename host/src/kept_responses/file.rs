//! Responses that are kept in a file, so that they outlive the server: a database of SQLite. One server uses a file at a time.

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

use super::store::{KeptResponse, Store, StoreError};
use crate::{config, engine::ClientId};

/// SQLite's number for files of this program: `tenr`.
const APPLICATION: i32 = 0x7465_6e72;
/// The version of the tables below.
const VERSION: i32 = 1;
/// How long a starting server waits until a former one has closed the file.
const PATIENCE: Duration = Duration::from_secs(5);

/// `used` counts up with each use of a response. `kept_at` is in seconds since 1970.
const TABLES: &str = "
    CREATE TABLE responses (
        id TEXT PRIMARY KEY,
        client INTEGER NOT NULL,
        kept_at INTEGER NOT NULL,
        used INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        response TEXT NOT NULL,
        input TEXT NOT NULL
    ) STRICT;
    CREATE INDEX by_use ON responses (used, bytes);
    CREATE INDEX by_age ON responses (kept_at);
";
const NEXT_USE: &str = "(SELECT COALESCE(MAX(used), 0) + 1 FROM responses)";

/// The responses of a file, bounded by bytes and time.
pub struct ResponseFile {
    connection: Connection,
    limits: config::Responses,
}

impl ResponseFile {
    /// Opens a file, or makes one that only this user can read.
    ///
    /// # Errors
    /// The file cannot be written, is damaged, is no file of responses, or is in use.
    pub fn open(path: &Path, limits: config::Responses) -> Result<Self, StoreError> {
        let failed = |error: StoreError| {
            let path = path.display();
            StoreError(format!(
                "the file of responses {path} cannot be used: {error}"
            ))
        };
        let made = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path);
        made.map_err(|error| failed(StoreError(error.to_string())))?;
        let connection = connect(path).map_err(failed)?;
        let mut file = Self { connection, limits };
        file.shrink().map_err(failed)?;
        Ok(file)
    }

    fn expired_before(&self) -> i64 {
        let most = i64::try_from(self.limits.max_kept_time.as_secs()).unwrap_or(i64::MAX);
        now().saturating_sub(most)
    }

    /// Drops the responses that are too old, and the least recently used ones until the others fit into the limit.
    fn shrink(&mut self) -> Result<(), StoreError> {
        let oldest = self.expired_before();
        let most = i64::try_from(self.limits.max_kept_bytes).unwrap_or(i64::MAX);
        let transaction = self.connection.transaction()?;
        drop_more(&transaction, oldest, most)?;
        Ok(transaction.commit()?)
    }
}

impl Store for ResponseFile {
    fn set_limits(&mut self, limits: config::Responses) -> Result<(), StoreError> {
        self.limits = limits;
        self.shrink()
    }

    fn keep(&mut self, id: String, response: KeptResponse) -> Result<(), StoreError> {
        response.check_size(&self.limits)?;
        let oldest = self.expired_before();
        let most = i64::try_from(self.limits.max_kept_bytes).unwrap_or(i64::MAX);
        let transaction = self.connection.transaction()?;
        let sql = format!("INSERT OR REPLACE INTO responses VALUES (?, ?, ?, {NEXT_USE}, ?, ?, ?)");
        transaction.execute(
            &sql,
            params![
                id,
                number(response.client),
                now(),
                response.bytes() as i64,
                &*response.response,
                &*response.input,
            ],
        )?;
        drop_more(&transaction, oldest, most)?;
        Ok(transaction.commit()?)
    }

    fn get(&mut self, id: &str, client: ClientId) -> Result<Option<KeptResponse>, StoreError> {
        let sql =
            "SELECT response, input FROM responses WHERE id = ? AND client = ? AND kept_at >= ?";
        let key = params![id, number(client), self.expired_before()];
        let read = |row: &rusqlite::Row| {
            let (response, input): (String, String) = (row.get(0)?, row.get(1)?);
            Ok(KeptResponse {
                client,
                response: response.into(),
                input: input.into(),
            })
        };
        let found = self.connection.query_row(sql, key, read).optional()?;
        if found.is_some() {
            let sql = format!("UPDATE responses SET used = {NEXT_USE} WHERE id = ?");
            // On a full disk the response can still be read. Only its use is not counted.
            let _ = self.connection.execute(&sql, [id]);
        }
        Ok(found)
    }

    fn remove(&mut self, id: &str, client: ClientId) -> Result<bool, StoreError> {
        let sql = "DELETE FROM responses WHERE id = ? AND client = ? AND kept_at >= ?";
        let key = params![id, number(client), self.expired_before()];
        Ok(self.connection.execute(sql, key)? > 0)
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(PATIENCE)?;
    // Deleted data is overwritten.
    connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA secure_delete = ON;")?;
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    match (number("application_id")?, number("user_version")?) {
        (APPLICATION, VERSION) => check(&connection)?,
        (APPLICATION, version) => {
            return Err(StoreError(format!(
                "another version of the server has written it (its tables have version {version}, this one's {VERSION}); name another file"
            )));
        }
        (0, 0) if is_empty(&connection)? => make(&connection)?,
        _ => {
            return Err(StoreError(
                "it is a database of another program; name another file".to_owned(),
            ));
        }
    }
    // This changes the file, so it comes after the checks.
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")?;
    Ok(connection)
}

fn check(connection: &Connection) -> Result<(), StoreError> {
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    match found.as_str() {
        "ok" => Ok(()),
        found => Err(damaged(found)),
    }
}

fn is_empty(connection: &Connection) -> Result<bool, StoreError> {
    let sql = "SELECT COUNT(*) = 0 FROM sqlite_schema";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

fn make(connection: &Connection) -> Result<(), StoreError> {
    let versions =
        format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};");
    Ok(connection.execute_batch(&format!("BEGIN; {TABLES} {versions} COMMIT;"))?)
}

/// Drops the responses from before `oldest`, and the least recently used ones until the others have at most `most` bytes.
fn drop_more(connection: &Connection, oldest: i64, most: i64) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM responses WHERE kept_at < ?", [oldest])?;
    let sql = "DELETE FROM responses WHERE used IN (
        SELECT used FROM (SELECT used, SUM(bytes) OVER (ORDER BY used DESC) AS newer FROM responses) WHERE newer > ?
    )";
    connection.execute(sql, [most])?;
    Ok(())
}

/// A client's number as SQLite stores it: signed.
fn number(client: ClientId) -> i64 {
    client.0.cast_signed()
}

fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn damaged(why: &str) -> StoreError {
    StoreError(format!(
        "it is damaged or no database ({why}); move it away or name another file"
    ))
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                damaged(&error.to_string())
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Self("another program has it open; name another file".to_owned())
            }
            Some(ErrorCode::DiskFull) => Self("the disk is full".to_owned()),
            _ => Self(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::kept_responses::store::tests::{check, limits, response};

    const HOUR: Duration = Duration::from_secs(3600);

    fn open(folder: &TempDir, max_kept_bytes: usize) -> Result<ResponseFile, StoreError> {
        ResponseFile::open(&folder.path().join("kept.db"), limits(max_kept_bytes, HOUR))
    }

    #[test]
    fn responses_are_bounded_and_their_client_s() {
        let folder = TempDir::new().unwrap();
        check(|limits| {
            let path = folder.path().join("kept.db");
            Box::new(ResponseFile::open(&path, limits).unwrap())
        });
    }

    #[test]
    fn a_response_outlives_its_server_for_its_time() {
        let folder = TempDir::new().unwrap();
        let client = ClientId(u64::MAX);
        for id in ["a", "b"] {
            let mut file = open(&folder, 100).unwrap();
            file.keep(id.to_owned(), response(u64::MAX)).unwrap();
        }
        let mut file = open(&folder, 10).unwrap();
        assert!(
            file.get("a", client).unwrap().is_none(),
            "the limit is lower"
        );
        let kept = file.get("b", client).unwrap().unwrap();
        assert_eq!((&*kept.response, &*kept.input), ("12345678", "[]"));
        let long_ago = "UPDATE responses SET kept_at = kept_at - 3601";
        file.connection.execute(long_ago, []).unwrap();
        assert!(file.get("b", client).unwrap().is_none());
        assert!(!file.remove("b", client).unwrap());
        file.keep("c".to_owned(), response(1)).unwrap();
        let count = "SELECT COUNT(*) FROM responses";
        let count: u32 = file
            .connection
            .query_row(count, [], |row| row.get(0))
            .unwrap();
        assert_eq!(count, 1);
    }

    #[test]
    fn a_full_disk_keeps_what_there_is() {
        let folder = TempDir::new().unwrap();
        let mut file = open(&folder, 1 << 20).unwrap();
        file.keep("a".to_owned(), response(1)).unwrap();
        let pages: u32 = file
            .connection
            .pragma_query_value(None, "page_count", |row| row.get(0))
            .unwrap();
        file.connection
            .pragma_update(None, "max_page_count", pages)
            .unwrap();
        let large = KeptResponse {
            input: "x".repeat(100_000).into(),
            ..response(1)
        };
        let error = file.keep("b".to_owned(), large).unwrap_err();
        assert_eq!(error.to_string(), "the disk is full");
        assert!(file.get("a", ClientId(1)).unwrap().is_some());
        assert!(file.get("b", ClientId(1)).unwrap().is_none());
    }

    #[test]
    fn other_files_are_refused_and_left_as_they_are() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("kept.db");
        let refusal = || open(&folder, 100).err().unwrap().to_string();
        fs::write(
            &path,
            "no database, but a text that is long enough for its header ".repeat(20),
        )
        .unwrap();
        assert!(
            refusal().contains("damaged or no database"),
            "{}",
            refusal()
        );
        assert!(
            fs::read_to_string(&path)
                .unwrap()
                .starts_with("no database")
        );
        fs::remove_file(&path).unwrap();
        let other = Connection::open(&path).unwrap();
        other.execute_batch("CREATE TABLE mine (a)").unwrap();
        drop(other);
        assert!(refusal().contains("of another program"), "{}", refusal());
        fs::remove_file(&path).unwrap();
        let file = open(&folder, 100).unwrap();
        file.connection
            .pragma_update(None, "user_version", VERSION + 1)
            .unwrap();
        drop(file);
        assert!(refusal().contains("another version"), "{}", refusal());
        let nowhere = ResponseFile::open(Path::new("/nonexistent/kept.db"), limits(100, HOUR));
        assert!(
            nowhere
                .err()
                .unwrap()
                .to_string()
                .contains("/nonexistent/kept.db")
        );
    }
}
