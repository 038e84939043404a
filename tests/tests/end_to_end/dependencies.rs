//! Checks which crates depend on which. This keeps backends apart from the host and from each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

/// The dependencies that every backend author has to build. Anything heavier belongs behind a feature that is off by
/// default.
const PLUGIN_API_NEEDS: &[&str] = &["abi_stable", "fearless_simd"];

#[test]
fn crates_depend_on_those_they_may() {
    let members = members();
    for member in &members {
        for dependency in &member.dependencies {
            let Some(path) = &dependency.path else {
                continue;
            };
            let other = members.iter().find(|other| other.folder() == *path);
            let other = other.unwrap_or_else(|| panic!("{path} is outside of the workspace"));
            let (user, used) = (&member.name, &other.name);
            assert!(may_use(member, other), "{user} must not depend on {used}");
        }
    }
}

#[test]
fn the_plugin_api_is_light() {
    let members = members();
    let plugin_api = &named(&members, "tenon-plugin-api");
    let needs = plugin_api.dependencies.iter().filter(|dependency| {
        let of_users = dependency.kind.as_deref() != Some("dev");
        of_users && !dependency.optional
    });
    for dependency in needs {
        let name = &dependency.name;
        assert!(PLUGIN_API_NEEDS.contains(&name.as_str()), "{name}");
    }
    let default = plugin_api.features.get("default");
    assert!(default.is_none_or(Vec::is_empty), "{default:?}");
}

#[test]
fn the_host_takes_the_plugin_api_as_it_is() {
    let members = members();
    for name in ["tenon", "tenon-bench", "tenon-cli"] {
        let mut dependencies = named(&members, name).dependencies.iter();
        let plugin_api = dependencies.find(|dependency| dependency.name == "tenon-plugin-api");
        assert_eq!(plugin_api.unwrap().features, Vec::<String>::new());
    }
}

/// Only `tenon-bench` sends requests.
#[test]
fn the_server_has_no_http_client() {
    let options = "tree --package tenon --edges normal --prefix none --format {lib}";
    let tree = cargo(options);
    let mut libraries = tree.lines();
    assert!(libraries.clone().any(|library| library == "hyper"));
    assert!(libraries.all(|library| library != "reqwest"));
}

/// The rooms of the host, each with the rooms that it uses. These stand above it, so there is no circle. A room is a folder or file
/// of `host/src`, or one of the crates `host/bench` and `host/cli`. `lib` is what `lib.rs` itself has.
const ROOMS: &[(&str, &[&str])] = &[
    ("system", &[]),
    ("text", &[]),
    ("openai", &[]),
    ("markup", &[]),
    ("prompt", &["markup"]),
    ("config", &["markup", "prompt", "system"]),
    ("telemetry", &["config", "text"]),
    ("shutdown", &["telemetry"]),
    ("metrics", &["telemetry"]),
    ("plugin", &["config", "system", "text"]),
    (
        "grammar",
        &["config", "metrics", "plugin", "shutdown", "system"],
    ),
    ("tools", &["grammar", "markup"]),
    ("engine", &["grammar", "metrics", "plugin", "system"]),
    ("reply", &["engine", "markup", "metrics", "prompt"]),
    (
        "models",
        &[
            "config", "engine", "grammar", "markup", "metrics", "plugin", "prompt", "system",
            "tools",
        ],
    ),
    ("error", &["engine", "models", "openai", "prompt", "text"]),
    ("connections", &["config", "error", "metrics"]),
    ("app", &["config", "metrics", "models"]),
    ("layers", &["app", "engine", "error", "text"]),
    (
        "routes",
        &[
            "app", "config", "engine", "error", "grammar", "layers", "markup", "models", "openai",
            "plugin", "prompt", "reply", "text", "tools",
        ],
    ),
    (
        "lib",
        &[
            "app",
            "config",
            "connections",
            "metrics",
            "models",
            "routes",
        ],
    ),
    (
        "serve",
        &[
            "config",
            "connections",
            "lib",
            "shutdown",
            "system",
            "telemetry",
        ],
    ),
    ("bench", &["config", "plugin", "system"]),
    (
        "cli",
        &[
            "config",
            "grammar",
            "models",
            "plugin",
            "serve",
            "shutdown",
            "system",
            "telemetry",
        ],
    ),
];

#[test]
fn rooms_of_the_host_use_those_above_them() {
    for (index, (room, used)) in ROOMS.iter().enumerate() {
        let above = &ROOMS[..index];
        let is_above = |name: &&str| above.iter().any(|(other, _)| other == name);
        assert!(used.iter().all(is_above), "{room}");
    }
    let host = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host");
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in fs::read_dir(host.join("src")).unwrap() {
        let path = entry.unwrap().path();
        let room = path.file_stem().unwrap().to_str().unwrap();
        collect_uses(&path, "crate::", found.entry(room.to_owned()).or_default());
    }
    for room in ["bench", "cli"] {
        let used = found.entry(room.to_owned()).or_default();
        collect_uses(&host.join(room).join("src"), "tenon::", used);
    }
    for (room, used) in &mut found {
        used.remove(room);
    }
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let table = ROOMS.iter();
    let table = table.map(|&(room, used)| (room.to_owned(), owned(used)));
    assert_eq!(uses_within(&host_source(), "crate::"), table.collect());
}

/// The rooms that a file, or all files of a folder, name in paths that begin with `root`.
fn collect_uses(path: &Path, root: &str, used: &mut BTreeSet<String>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            collect_uses(&entry.unwrap().path(), root, used);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        let text = fs::read_to_string(path).unwrap();
        let code = text.lines().filter_map(|line| line.split("//").next());
        let code: String = code.flat_map(|line| [line, "\n"]).collect();
        for (at, start) in code.match_indices(root) {
            used.extend(first_names(&code[at + start.len()..]).map(room_of));
        }
    } else if path.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
        let code = code_of(path);
        names.extend(names_behind(up, &code).map(str::to_owned));
        names.extend(names_behind(prefix, &code).map(str::to_owned));
    }
}

/// The text of a file without comments, unit tests and `self::`.
fn code_of(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("mod tests {").next().unwrap_or_default();
    let code = code.lines().filter_map(|line| line.split("//").next());
    let code: String = code.flat_map(|line| [line, "\n"]).collect();
    code.replace("self::", "")
}

/// The names that follow `begin` in paths.
fn names_behind<'a>(begin: &str, code: &'a str) -> impl Iterator<Item = &'a str> {
    let is_inner = |c: char| c.is_alphanumeric() || "_:".contains(c);
    let begins = code.match_indices(begin).map(|(at, _)| at);
    let begins = begins.filter(move |&at| !code[..at].ends_with(is_inner));
    begins.flat_map(move |at| first_names(&code[at + begin.len()..]))
}

/// `a` of `a::b::C`; `a` and `d` of `{a::{b, c}, d}`.
fn first_names(path: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    let is_end = |c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth <= 0 && !(c.is_alphanumeric() || "_:".contains(c))
    };
    let tree = &path[..path.find(is_end).unwrap_or(path.len())];
    let group = tree.strip_prefix('{').unwrap_or(tree);
    let mut depth = 0;
    let parts = group.split(move |c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth == 0 && c == ','
    });
    let names = parts.filter_map(|part| part.trim().split("::").next());
    names.filter(|name| !name.is_empty())
}

/// A crate of the workspace.
#[derive(Deserialize)]
struct Member {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
    features: BTreeMap<String, Vec<String>>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    optional: bool,
    features: Vec<String>,
    path: Option<String>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

impl Member {
    fn folder(&self) -> &str {
        let folder = Path::new(&self.manifest_path).parent();
        folder.and_then(Path::to_str).unwrap()
    }

    fn is_plugin(&self) -> bool {
        let mut kinds = self.targets.iter().flat_map(|target| &target.kind);
        kinds.any(|kind| kind == "cdylib")
    }
}

fn may_use(user: &Member, used: &Member) -> bool {
    let is_for_plugins = used.folder().contains("/plugins/");
    match user.name.as_str() {
        "tenon-plugin-api" => false,
        "tenon" => used.name == "tenon-plugin-api",
        "tenon-bench" | "tenon-tests" => {
            ["tenon", "tenon-plugin-api"].contains(&used.name.as_str())
        }
        "tenon-cli" => ["tenon", "tenon-bench", "tenon-plugin-api"].contains(&used.name.as_str()),
        // Plugins, and crates that several plugins share.
        _ => used.name == "tenon-plugin-api" || is_for_plugins && !used.is_plugin(),
    }
}

fn named<'a>(members: &'a [Member], name: &str) -> &'a Member {
    members.iter().find(|member| member.name == name).unwrap()
}

fn members() -> Vec<Member> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Member>,
    }
    let metadata = cargo("metadata --no-deps --format-version 1");
    let metadata: Metadata = serde_json::from_str(&metadata).unwrap();
    metadata.packages
}

/// The output of cargo with these arguments.
fn cargo(arguments: &str) -> String {
    let output = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(arguments.split(' '))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
