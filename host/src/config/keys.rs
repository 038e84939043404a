//! `[[keys]]`: keys of clients with rights and limits of their own.

use std::{
    collections::HashMap,
    fs,
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use super::refusals::Refusals;
use crate::{
    keys::{Key, KeyHash, Rights},
    system::secret_variables,
};

/// Most bytes of a key's name.
const MAX_NAME: usize = 64;

/// A key of a client. With at least one, every request needs a key, as with `api_keys`.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawKey {
    /// Name of the key in the log and in metrics, where the key itself is never shown.
    name: String,
    /// The key: what clients send as `Authorization: Bearer <key>` or `x-api-key: <key>`. Instead of it, `key_file` or `env` says
    /// where the key is.
    #[serde(serialize_with = "as_hash")]
    key: Option<String>,
    /// File with the key, relative to this file. It is read whenever the configuration is, and the configuration whenever the file
    /// changes.
    key_file: Option<PathBuf>,
    /// Environment variable with the key.
    env: Option<String>,
    /// Names of the models that requests with the key may use. One that ends with `*` stands for all names with that beginning.
    /// Default: all models.
    models: Option<Vec<String>>,
    /// Most requests in a minute (POST, except administration). Default: no limit.
    requests_per_minute: Option<NonZeroU32>,
    /// Most tokens in a minute, of prompts and answers together. A request may begin as long as some are left. Tokens that it takes
    /// beyond the limit are taken from the next minutes. Default: no limit.
    tokens_per_minute: Option<NonZeroU32>,
    /// Most requests at the same time (POST, except administration). Default: no limit.
    max_concurrent: Option<NonZeroU32>,
    /// Most urgent `priority` of requests with the key: a lower number counts as this one. Default: no limit.
    priority_max: Option<i32>,
    /// Whether the key is one for administration too, as those in `admin_keys`.
    #[serde(default)]
    admin: bool,
}

/// Serializes a key as its hash.
pub fn as_hash<S: Serializer>(key: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    let hash = key.as_deref().map(|key| KeyHash::of(key).to_string());
    hash.serialize(serializer)
}

/// Serializes keys as their hashes.
pub fn as_hashes<S: Serializer>(keys: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(keys.iter().map(|key| KeyHash::of(key).to_string()))
}

/// Whether a header can carry this key.
pub fn can_be_sent(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Fetches the keys that are in files and environment variables. Returns these files.
pub fn fetch(raw: &mut [RawKey], refusals: &mut Refusals) -> Vec<PathBuf> {
    let keys = raw.iter_mut().enumerate();
    keys.filter_map(|(index, key)| key.fetch(&index.to_string(), refusals))
        .collect()
}

/// Resolves keys that were fetched, and checks that no two have the same name or are the same.
pub fn resolve(raw: Vec<RawKey>, refusals: &mut Refusals) -> Vec<Key> {
    let (mut names, mut owners) = (HashMap::new(), HashMap::new());
    let mut keys = Vec::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let place = index.to_string();
        let key = |name| ["keys", &place, name];
        check_name(&raw.name, &key("name"), refusals);
        if let Some(first) = names.insert(raw.name.clone(), index) {
            let why = format!(
                "cannot be \"{}\": keys[{first}] has that name already",
                raw.name
            );
            refusals.refuse(&key("name"), &why);
        }
        if let Some(text) = &raw.key
            && let Some(first) = owners.insert(text.clone(), index)
        {
            let why =
                format!("is the same key as that of keys[{first}]: each client needs its own");
            refusals.refuse(&key("key"), &why);
        }
        keys.push(raw.resolve(&place, refusals));
    }
    keys
}

impl RawKey {
    /// Fetches the key. Returns the file that it is in, if it is in one.
    fn fetch(&mut self, index: &str, refusals: &mut Refusals) -> Option<PathBuf> {
        let place = ["keys", index, self.source()];
        let sources = [
            self.key.is_some(),
            self.key_file.is_some(),
            self.env.is_some(),
        ];
        if sources.into_iter().filter(|&is_given| is_given).count() != 1 {
            refusals.refuse(&place[..2], "needs one of key, key_file and env");
            return None;
        }
        let file = self.key_file.as_deref();
        let file = file.map(|file| refusals.whole_path(&place, file));
        if self.key.is_none() && refusals.secrets().is_some() {
            match self.fetched(file.as_deref(), refusals) {
                Ok(key) => self.key = key,
                Err(why) => refusals.refuse(&place, &why),
            }
        }
        file
    }

    fn fetched(&self, file: Option<&Path>, refusals: &Refusals) -> Result<Option<String>, String> {
        if let Some(file) = file {
            return of_file(file).map(Some);
        }
        let (Some(name), Some(variables)) = (&self.env, refusals.secrets()) else {
            return Ok(None);
        };
        // Even if the value is refused, it may be a key.
        secret_variables::add(name);
        let value = variables.get(name);
        let value = value.ok_or_else(|| format!("names the variable {name}, which is not set"))?;
        Ok(Some(value.clone()))
    }

    /// The name of the field that says where the key is.
    fn source(&self) -> &'static str {
        match (&self.key_file, &self.env) {
            (Some(_), _) => "key_file",
            (None, Some(_)) => "env",
            (None, None) => "key",
        }
    }

    fn resolve(self, index: &str, refusals: &mut Refusals) -> Key {
        let place = |name| ["keys", index, name];
        if self.key.as_deref().is_some_and(|key| !can_be_sent(key)) {
            let why = "must be a key of printable ASCII characters without spaces, and not empty";
            refusals.refuse(&place(self.source()), why);
        }
        if let Some([]) = self.models.as_deref() {
            let why = "must name a model, or be left out for all models";
            refusals.refuse(&place("models"), why);
        }
        for name in self.models.iter().flatten() {
            refusals.check_not_empty(&place("models"), name);
        }
        // Where secrets are not read, there is no hash.
        let hash = self.key.as_deref().map_or(KeyHash::NONE, KeyHash::of);
        let rights = Rights {
            is_admin: self.admin,
            models: self.models,
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: self.tokens_per_minute,
            max_concurrent: self.max_concurrent,
            priority_max: self.priority_max,
        };
        Key::named(self.name, hash, rights)
    }
}

fn check_name(name: &str, place: &[&str], refusals: &mut Refusals) {
    let is_plain = name.len() <= MAX_NAME && name.chars().all(|c| !c.is_control());
    if name.is_empty() || !is_plain {
        let why = format!("must be a name of 1 to {MAX_NAME} bytes on one line");
        refusals.refuse(place, &why);
    }
}

fn of_file(file: &Path) -> Result<String, String> {
    let text = fs::read_to_string(file);
    let text =
        text.map_err(|error| format!("names {}, which cannot be read: {error}", file.display()))?;
    Ok(text.trim_end().to_owned())
}
