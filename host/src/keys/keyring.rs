use std::sync::Arc;

use super::{Key, KeyHash};

/// All keys of a server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keys {
    all: Vec<Arc<Key>>,
    /// Whether every request needs a key, except for the open routes.
    pub are_needed: bool,
}

impl Keys {
    /// The keys of a server. If two are the same, the first one counts.
    pub fn new(all: Vec<Key>, are_needed: bool) -> Self {
        Self {
            all: all.into_iter().map(Arc::new).collect(),
            are_needed,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.all.iter().map(AsRef::as_ref)
    }

    /// Whether there is a key for administration.
    pub fn have_admin(&self) -> bool {
        self.iter().any(|key| key.rights.is_admin)
    }

    /// The key that a client sent.
    pub fn find(&self, sent: &str) -> Option<&Arc<Key>> {
        let hash = KeyHash::of(sent);
        self.all.iter().find(|key| key.hash == hash)
    }

    /// Takes over the current use of former keys with the same identity.
    pub fn go_on_from(&mut self, former: &Self) {
        for key in &mut self.all {
            let mut formers = former.iter();
            if let Some(former) = formers.find(|former| former.identity == key.identity) {
                Arc::make_mut(key).use_now = former.use_now.clone();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::keys::Rights;

    fn keys(of: &[(&str, &str)]) -> Keys {
        let key = |(name, key): &(&str, &str)| {
            let rights = Rights {
                requests_per_minute: NonZeroU32::new(10),
                ..Rights::default()
            };
            Key::named((*name).to_owned(), KeyHash::of(key), rights)
        };
        Keys::new(of.iter().map(key).collect(), true)
    }

    #[test]
    fn a_key_is_found_by_what_was_sent() {
        let keys = keys(&[("a", "first"), ("b", "second")]);
        let found = |sent: &str| keys.find(sent).map(|key| key.name.as_str());
        assert_eq!(found("second"), Some("b"));
        for wrong in ["", "firs", "first ", "a"] {
            assert_eq!(found(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn another_configuration_gives_no_further_requests() {
        let before = keys(&[("a", "first"), ("b", "second")]);
        drop(before.find("first").unwrap().begin().unwrap());
        let mut after = keys(&[("b", "other"), ("a", "new"), ("c", "first")]);
        after.go_on_from(&before);
        let left = |sent: &str| after.find(sent).unwrap().requests_left().unwrap().left;
        assert_eq!((left("new"), left("other"), left("first")), (9, 10, 10));
    }
}
