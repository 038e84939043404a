use std::{
    hash::{DefaultHasher, Hash, Hasher},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use super::{
    KeyHash,
    bucket::{Bucket, BucketLevel},
};

/// A key of a client.
#[derive(Clone, Debug)]
pub struct Key {
    /// Name of the key in the log and in metrics.
    pub name: String,
    pub rights: Rights,
    /// Identifies the client of the key.
    pub identity: u64,
    pub(super) hash: KeyHash,
    /// Shared by all versions of the key's entry in the configuration.
    pub(super) use_now: Arc<UseNow>,
}

/// What requests with a key may do. None: no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    pub is_admin: bool,
    /// Names of models. One that ends with `*` stands for all names with the beginning before it.
    pub models: Option<Vec<String>>,
    pub requests_per_minute: Option<NonZeroU32>,
    pub tokens_per_minute: Option<NonZeroU32>,
    pub max_concurrent: Option<NonZeroU32>,
    /// The most urgent `priority`, which is the lowest number.
    pub priority_max: Option<i32>,
}

/// The current use of a key.
#[derive(Debug, Default)]
pub(super) struct UseNow {
    requests: Bucket,
    tokens: Bucket,
    /// Number of running requests.
    running: AtomicU32,
}

/// The limit of a key that a request exceeds, and the time after which it would not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    Requests(u32, Duration),
    Tokens(u32, Duration),
    /// Without a time, because it is unknown when a running request ends.
    Concurrent(u32),
}

/// A running request. Ends when this is dropped.
#[derive(Debug)]
pub struct RunningRequest(Arc<UseNow>);

impl Key {
    /// A key of `[[keys]]`. Its name identifies the client, so the client stays the same when its key is replaced.
    pub fn named(name: String, hash: KeyHash, rights: Rights) -> Self {
        Self::new(identity(name.as_bytes()), name, hash, rights)
    }

    /// A key of `api_keys` or `admin_keys`. `place` is its place there.
    pub fn listed(place: String, hash: KeyHash, is_admin: bool) -> Self {
        let rights = Rights {
            is_admin,
            ..Rights::default()
        };
        Self::new(identity(hash.bytes()), place, hash, rights)
    }

    fn new(identity: u64, name: String, hash: KeyHash, rights: Rights) -> Self {
        Self {
            name,
            rights,
            identity,
            hash,
            use_now: Arc::default(),
        }
    }

    /// Whether requests with the key may use a model that has these names.
    pub fn may_use<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> bool {
        let allows = |allowed: &String, name: &str| match allowed.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => allowed == name,
        };
        let Some(allowed) = &self.rights.models else {
            return true;
        };
        names.any(|name| allowed.iter().any(|allowed| allows(allowed, name)))
    }

    /// Whether the number of requests or tokens is limited.
    pub fn is_limited(&self) -> bool {
        let rights = &self.rights;
        let minutely = [rights.requests_per_minute, rights.tokens_per_minute];
        minutely.iter().any(Option::is_some) || rights.max_concurrent.is_some()
    }

    /// Begins a request, if the limits allow it.
    pub fn begin(&self) -> Result<RunningRequest, Exceeded> {
        self.check_tokens()?;
        let running = self.run()?;
        if let Some(limit) = self.rights.requests_per_minute {
            let taken = self.use_now.requests.take_one(limit);
            taken.map_err(|wait| Exceeded::Requests(limit.get(), wait))?;
        }
        Ok(running)
    }

    fn run(&self) -> Result<RunningRequest, Exceeded> {
        let before = self.use_now.running.fetch_add(1, Ordering::Relaxed);
        // Dropped if there are too many.
        let running = RunningRequest(self.use_now.clone());
        match self.rights.max_concurrent {
            Some(most) if before >= most.get() => Err(Exceeded::Concurrent(most.get())),
            _ => Ok(running),
        }
    }

    /// Checks that there are tokens left.
    pub fn check_tokens(&self) -> Result<(), Exceeded> {
        let Some(limit) = self.rights.tokens_per_minute else {
            return Ok(());
        };
        match self.use_now.tokens.wait_for_one(limit) {
            Duration::ZERO => Ok(()),
            wait => Err(Exceeded::Tokens(limit.get(), wait)),
        }
    }

    /// Takes tokens, even if fewer are left.
    pub fn take_tokens(&self, count: u64) {
        if let Some(limit) = self.rights.tokens_per_minute {
            self.use_now.tokens.overdraw(limit, count);
        }
    }

    /// The requests that are left. None without a limit.
    pub fn requests_left(&self) -> Option<BucketLevel> {
        let limit = self.rights.requests_per_minute?;
        Some(self.use_now.requests.level(limit))
    }

    /// The tokens that are left. None without a limit.
    pub fn tokens_left(&self) -> Option<BucketLevel> {
        let limit = self.rights.tokens_per_minute?;
        Some(self.use_now.tokens.level(limit))
    }
}

/// Compares entries of the configuration, without their current use.
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.hash, &self.rights) == (&other.name, &other.hash, &other.rights)
    }
}

impl Drop for RunningRequest {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

fn identity(of: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(rights: Rights) -> Key {
        Key::named("k".to_owned(), KeyHash::of("secret"), rights)
    }

    #[test]
    fn models_are_named_or_begin_so() {
        let named = |models: &[&str]| {
            let models = models.iter().map(|&name| name.to_owned()).collect();
            key(Rights {
                models: Some(models),
                ..Rights::default()
            })
        };
        let some = named(&["small", "claude-*"]);
        for (names, expected) in [
            (&["small"][..], true),
            (&["smaller"], false),
            (&["chat", "claude-opus"], true),
            (&["chat", "claude-*"], true),
            (&["chat", "gpt"], false),
        ] {
            assert_eq!(some.may_use(names.iter().copied()), expected, "{names:?}");
        }
        assert!(!named(&[]).may_use(["small"].into_iter()));
        assert!(key(Rights::default()).may_use(["small"].into_iter()));
    }

    #[test]
    fn a_refused_request_leaves_everything_as_it_is() {
        let key = key(Rights {
            requests_per_minute: NonZeroU32::new(3),
            max_concurrent: NonZeroU32::new(1),
            ..Rights::default()
        });
        let first = key.begin().unwrap();
        assert_eq!(key.begin().unwrap_err(), Exceeded::Concurrent(1));
        drop(first);
        assert_eq!(key.requests_left().unwrap().left, 2);
        drop(key.begin().unwrap());
        drop(key.begin().unwrap());
        let Err(Exceeded::Requests(3, wait)) = key.begin() else {
            panic!("more than three requests")
        };
        assert!(wait > Duration::from_secs(19) && wait <= Duration::from_secs(20));
        // The place of the refused one is free.
        assert_eq!(key.use_now.running.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_request_begins_while_tokens_are_left() {
        let key = key(Rights {
            tokens_per_minute: NonZeroU32::new(60),
            ..Rights::default()
        });
        key.take_tokens(59);
        drop(key.begin().unwrap());
        key.take_tokens(31);
        let Err(Exceeded::Tokens(60, wait)) = key.begin() else {
            panic!("there are no tokens")
        };
        assert!(wait > Duration::from_secs(30) && wait <= Duration::from_secs(31));
        assert_eq!(key.tokens_left().unwrap().left, 0);
    }
}
