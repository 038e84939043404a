//! Checks which crates depend on which. This keeps backends apart from the host and from each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

/// The dependencies that every backend author has to build, by crate. Anything heavier belongs behind a feature that is off by
/// default.
const NEEDS: &[(&str, &[&str])] = &[
    ("tenon-plugin-abi", &["abi_stable"]),
    ("tenon-plugin-api", &["fearless_simd", "tenon-plugin-abi"]),
];

/// The sources that may name `abi_stable`. All other sources use the names that the ABI crate exports. The fixtures are
/// versions of the ABI, and a plugin of another ABI.
const MAY_NAME_ABI_STABLE: &[&str] = &[
    "plugin-api/abi/",
    "host/src/plugin/",
    "tests/fixtures/abi/",
    "tests/fixtures/plugins/other-abi/",
    "tests/tests/end_to_end/dependencies.rs",
];

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
    for (member, allowed) in NEEDS {
        let member = named(&members, member);
        let needs = member.dependencies.iter().filter(|dependency| {
            let of_users = dependency.kind.as_deref() != Some("dev");
            of_users && !dependency.optional
        });
        for dependency in needs {
            let name = &dependency.name;
            assert!(allowed.contains(&name.as_str()), "{name}");
        }
        let default = member.features.get("default");
        assert!(default.is_none_or(Vec::is_empty), "{default:?}");
    }
}

#[test]
fn the_abi_hides_what_it_is_made_of() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders: Vec<PathBuf> = ["host", "plugin-api", "plugins", "tests"]
        .map(|folder| root.join(folder))
        .into();
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
                let names_it = fs::read_to_string(&path).unwrap().contains("abi_stable");
                let may = MAY_NAME_ABI_STABLE
                    .iter()
                    .any(|begin| name.starts_with(begin));
                assert!(may || !names_it, "{name} names abi_stable");
                seen += u32::from(names_it);
            }
        }
    }
    assert!(seen > 3, "only {seen} files were found");
}

#[test]
fn the_host_takes_the_plugin_api_as_it_is_but_for_serde() {
    let members = members();
    for name in ["tenon", "tenon-bench", "tenon-check", "tenon-cli"] {
        let mut dependencies = named(&members, name).dependencies.iter();
        let plugin_api = dependencies.find(|dependency| dependency.name == "tenon-plugin-api");
        let features = &plugin_api.unwrap().features;
        // The checker drives sessions as the unit tests of backends do.
        let may =
            |feature: &String| feature == "serde" || feature == "testing" && name == "tenon-check";
        assert!(features.iter().all(may), "{name}");
    }
}

/// Only `tenon-bench`, `tenon-chat` and `tenon-hub` send requests, and the program gives the server the last one. What the server sends
/// to a collector goes through `otel`.
#[test]
fn the_server_has_no_http_client() {
    let options = "tree --package tenon --edges normal --prefix none --format {lib}";
    let tree = cargo(options);
    let mut libraries = tree.lines();
    assert!(libraries.clone().any(|library| library == "hyper"));
    assert!(libraries.all(|library| library != "reqwest"));
}

/// The rooms of the host, each with the rooms that it uses. A room uses only rooms above it in the table, so there is no
/// circle. A room is a folder or file of `host/src`, or a crate of another folder of `host` that uses this library.
/// `lib` is what `lib.rs` itself has.
const ROOMS: &[(&str, &[&str])] = &[
    ("system", &[]),
    ("text", &[]),
    ("detokenize", &[]),
    ("hub", &[]),
    ("openai", &[]),
    ("anthropic", &[]),
    ("conversation", &[]),
    ("markup", &[]),
    ("keys", &[]),
    ("prompt", &["markup"]),
    ("config", &["hub", "keys", "markup", "prompt", "system"]),
    ("telemetry", &["config", "text"]),
    ("shutdown", &["telemetry"]),
    ("metrics", &["keys", "telemetry"]),
    ("otel", &["config", "keys", "text"]),
    ("plugin", &["config", "hub", "system", "text"]),
    (
        "grammar",
        &["config", "metrics", "plugin", "shutdown", "system"],
    ),
    ("tools", &["grammar", "markup"]),
    ("reasoning_budget", &["detokenize", "markup"]),
    (
        "engine",
        &["grammar", "metrics", "plugin", "reasoning_budget", "system"],
    ),
    (
        "reply",
        &[
            "detokenize",
            "engine",
            "keys",
            "markup",
            "metrics",
            "prompt",
        ],
    ),
    (
        "runner",
        &[
            "config",
            "engine",
            "grammar",
            "metrics",
            "plugin",
            "reasoning_budget",
            "shutdown",
            "system",
            "telemetry",
            "text",
        ],
    ),
    (
        "models",
        &[
            "config", "engine", "grammar", "hub", "markup", "metrics", "plugin", "prompt",
            "runner", "system", "tools",
        ],
    ),
    ("rereading", &["models"]),
    ("kept_responses", &["config", "engine"]),
    (
        "error",
        &[
            "anthropic",
            "engine",
            "kept_responses",
            "keys",
            "models",
            "openai",
            "prompt",
            "text",
        ],
    ),
    ("connections", &["config", "error", "metrics"]),
    (
        "app",
        &[
            "kept_responses",
            "metrics",
            "models",
            "otel",
            "plugin",
            "rereading",
        ],
    ),
    (
        "layers",
        &[
            "app",
            "config",
            "connections",
            "engine",
            "error",
            "keys",
            "otel",
            "text",
        ],
    ),
    (
        "routes",
        &[
            "anthropic",
            "app",
            "config",
            "conversation",
            "engine",
            "error",
            "grammar",
            "kept_responses",
            "keys",
            "layers",
            "markup",
            "metrics",
            "models",
            "openai",
            "plugin",
            "prompt",
            "reasoning_budget",
            "reply",
            "rereading",
            "runner",
            "system",
            "telemetry",
            "text",
            "tools",
        ],
    ),
    (
        "reread",
        &[
            "app",
            "config",
            "connections",
            "models",
            "rereading",
            "shutdown",
            "system",
        ],
    ),
    (
        "lib",
        &[
            "app",
            "config",
            "connections",
            "hub",
            "metrics",
            "models",
            "otel",
            "reread",
            "rereading",
            "routes",
        ],
    ),
    (
        "serve",
        &[
            "config",
            "connections",
            "hub",
            "lib",
            "shutdown",
            "system",
            "telemetry",
        ],
    ),
    ("tenon-bench", &["config", "plugin", "system"]),
    ("tenon-check", &["plugin"]),
    ("tenon-hub", &["hub"]),
    (
        "tenon-cli",
        &[
            "config",
            "grammar",
            "hub",
            "markup",
            "models",
            "plugin",
            "runner",
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
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let table = ROOMS.iter();
    let table = table.map(|&(room, used)| (room.to_owned(), owned(used)));
    let mut found = uses_within(&host_source(), "crate::");
    let uses_host = |member: &&Member| {
        let mut others = member.dependencies.iter();
        member.folder().contains("/host/") && others.any(|other| other.name == "tenon")
    };
    for member in members().iter().filter(uses_host) {
        found.insert(member.name.clone(), rooms_used_by(member));
    }
    assert_eq!(found, table.collect());
}

#[test]
fn files_of_a_folder_of_the_host_use_each_other_in_one_direction() {
    let mut folders = vec![(host_source(), "crate::".to_owned())];
    while let Some((folder, prefix)) = folders.pop() {
        let mut left = uses_within(&folder, &prefix);
        let inner = left.keys().filter(|name| folder.join(name).is_dir());
        folders.extend(inner.map(|name| (folder.join(name), format!("{prefix}{name}::"))));
        // Removes modules that use none of the others, until only circles are left.
        while !left.is_empty() {
            let before: BTreeSet<String> = left.keys().cloned().collect();
            left.retain(|_, used| !used.is_disjoint(&before));
            assert!(left.len() < before.len(), "a circle in {prefix} {left:?}");
        }
    }
}

/// The APIs that reach a model, each with its modules of `routes`. Another API is another line, here and in [`WIRE_TYPES`].
const APIS: &[&[&str]] = &[
    &["apply_template", "chat_completions", "tokenize"],
    &["completions"],
    &["responses"],
    &["anthropic", "count_tokens", "messages"],
];

/// The wire types of these APIs: a room, modules of it, and the modules of `routes` that name types of these. What the APIs
/// share in `routes` is not among them, but for `openai` and `docs`.
const WIRE_TYPES: &[(&str, &[&str], &[&str])] = &[
    (
        "openai",
        &["chat", "tools"],
        &["apply_template", "chat_completions"],
    ),
    (
        "openai",
        &["tokens"],
        &["apply_template", "detokenize", "tokenize"],
    ),
    ("openai", &["completion"], &["completions", "embeddings"]),
    (
        "openai",
        &["grammar", "parameters", "response", "structural_tag"],
        &["chat_completions", "completions", "docs", "openai"],
    ),
    ("openai", &["responses"], &["responses"]),
    (
        "openai",
        &["common", "logprobs"],
        &["chat_completions", "openai", "responses"],
    ),
    (
        "anthropic",
        &["content", "events", "message", "request", "tools"],
        &["anthropic", "count_tokens", "messages"],
    ),
];

#[test]
fn no_api_knows_another() {
    let routes = host_source().join("routes");
    let used = uses_within(&routes, "crate::routes::");
    for api in APIS {
        let others = || {
            APIS.iter()
                .filter(|other| other != &api)
                .flat_map(|other| *other)
        };
        for module in *api {
            let other = others().find(|other| used[*module].contains(**other));
            assert_eq!(other, None, "{module}");
        }
    }
    for (room, modules, users) in WIRE_TYPES {
        let definers = definers_of(&face_of(&host_source().join(room)));
        let names_any = |module: &&String| {
            let names = wire_names(room, &routes.join(module));
            let mut defined = names.iter().filter_map(|name| definers.get(name));
            defined.any(|definer| modules.contains(&definer.as_str()))
        };
        let found: Vec<_> = used.keys().filter(names_any).collect();
        assert_eq!(found, *users, "{room} {modules:?}");
    }
}

/// The names of this room that a module's files name.
fn wire_names(room: &str, module: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for code in codes_of(module) {
        let begin = format!("{room}::");
        for path in paths_behind("crate::", &code) {
            if path == room || path == format!("{room}::self") {
                names.extend(names_behind(&begin, &code).map(str::to_owned));
            } else if let Some(inner) = path.strip_prefix(&begin) {
                names.extend(inner.split("::").next().map(str::to_owned));
            }
        }
    }
    names
}

/// The code of a module: its file, and the files of its folder, without tests.
fn codes_of(module: &Path) -> Vec<String> {
    let mut left = vec![module.to_owned(), module.with_extension("rs")];
    let mut codes = Vec::new();
    while let Some(path) = left.pop() {
        if path.file_stem().is_some_and(|name| name == "tests") {
            continue;
        }
        if path.is_dir() {
            let entries = fs::read_dir(path).unwrap();
            left.extend(entries.map(|entry| entry.unwrap().path()));
        } else if path.is_file() {
            codes.push(code_of(&path));
        }
    }
    codes
}

fn host_source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/src")
}

/// The modules of a folder, each with the others that it uses outside of unit tests. Paths to them begin with `prefix`. `lib` is
/// what the file that declares them has itself. Re-exporting a name does not count as using it.
fn uses_within(folder: &Path, prefix: &str) -> BTreeMap<String, BTreeSet<String>> {
    let face = face_of(folder);
    let (definers, own) = (definers_of(&face), items_of(&face));
    let private = without_reexports(&face);
    let mut names: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let used_by_face = |module: &&str| {
        names_behind(&format!("{module}::"), &private)
            .next()
            .is_some()
    };
    let of_face = modules_of(&face).filter(used_by_face).map(str::to_owned);
    names.insert("lib", of_face.chain(names_under(prefix, &face)).collect());
    for module in modules_of(&face) {
        let (inner, path) = (folder.join(module), folder.join(format!("{module}.rs")));
        let names = names.entry(module).or_default();
        collect_names(&inner, "super::", prefix, names);
        collect_names(&path, "super::", prefix, names);
    }
    let definer = |name: &String| match definers.get(name) {
        Some(module) => Some(module.as_str()),
        None => own.contains(name.as_str()).then_some("lib"),
    };
    let used = |user: &str, names: BTreeSet<String>| {
        let definers = names.iter().filter_map(definer);
        definers
            .filter(|&name| name != user)
            .map(str::to_owned)
            .collect()
    };
    names
        .into_iter()
        .map(|(user, names)| (user.to_owned(), used(user, names)))
        .collect()
}

/// The names of the items that this code defines, except modules.
fn items_of(code: &str) -> BTreeSet<&str> {
    const KINDS: [&str; 8] = [
        "const ",
        "enum ",
        "fn ",
        "macro_rules! ",
        "static ",
        "struct ",
        "trait ",
        "type ",
    ];
    let is_inner = |c: char| c.is_alphanumeric() || c == '_';
    let names = KINDS.iter().flat_map(|kind| code.split(kind).skip(1));
    names
        .map(|rest| rest.split(|c| !is_inner(c)).next().unwrap_or_default())
        .collect()
}

/// This code without its `pub use`.
fn without_reexports(code: &str) -> String {
    let mut parts = code.split("pub use ");
    let first = parts.next().unwrap_or_default();
    let rest = parts.filter_map(|part| part.split_once(';'));
    rest.fold(first.to_owned(), |code, (_, rest)| code + rest)
}

/// The code of the file that declares a folder's modules.
fn face_of(folder: &Path) -> String {
    let face = ["mod.rs", "lib.rs"].map(|name| folder.join(name));
    let face = face.into_iter().find(|path| path.is_file());
    code_of(&face.unwrap_or(folder.with_extension("rs")))
}

/// The modules that this code declares.
fn modules_of(face: &str) -> impl Iterator<Item = &str> {
    let declared = face.split("mod ").skip(1);
    let declared = declared.filter_map(|rest| rest.split_once(';'));
    declared.map(|(name, _)| name)
}

/// The modules that this code declares, by themselves and by the items that it re-exports from them: using such an item counts
/// as using the module that defines it.
fn definers_of(face: &str) -> BTreeMap<String, String> {
    let mut definers = BTreeMap::new();
    for module in modules_of(face) {
        let begin = format!("{module}::");
        let items = names_behind(&begin, face).chain([module]);
        definers.extend(items.map(|item| (item.to_owned(), module.to_owned())));
    }
    definers
}

/// Adds the names that follow `up` (`super::` once or several times) or `prefix` in the paths of a file or a folder's files.
fn collect_names(path: &Path, up: &str, prefix: &str, names: &mut BTreeSet<String>) {
    if path.file_stem().is_some_and(|name| name == "tests") {
        return;
    }
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            let deeper = if path.ends_with("mod.rs") {
                ""
            } else {
                "super::"
            };
            collect_names(&path, &format!("{up}{deeper}"), prefix, names);
        }
    } else if path.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
        let code = code_of(path);
        names.extend(names_behind(up, &code).map(str::to_owned));
        names.extend(names_under(prefix, &code));
    }
}

/// The rooms that another crate of the host uses.
fn rooms_used_by(member: &Member) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let source = Path::new(member.folder()).join("src");
    collect_names(&source, "tenon::", "tenon::", &mut names);
    let is_room = |name: &String| ROOMS.iter().any(|(room, _)| room == name);
    let room = |name| {
        if is_room(&name) {
            name
        } else {
            "lib".to_owned()
        }
    };
    names.into_iter().map(room).collect()
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
    let names = trees_behind(begin, code).flat_map(parts_of);
    names.filter_map(|part| part.split("::").next())
}

/// The names that follow the module path `prefix`, also where it is spread over groups: `crate::{a::{b::C}}` has the prefix
/// `crate::a::`.
fn names_under(prefix: &str, code: &str) -> BTreeSet<String> {
    let (root, modules) = prefix.split_at(prefix.find("::").map_or(0, |at| at + 2));
    let paths = paths_behind(root, code);
    let inner = paths
        .iter()
        .filter_map(|path| path.strip_prefix(modules)?.split("::").next());
    inner.map(str::to_owned).collect()
}

/// The whole paths that follow `begin`.
fn paths_behind(begin: &str, code: &str) -> Vec<String> {
    trees_behind(begin, code).flat_map(expanded).collect()
}

/// What follows `begin` in paths: `a::b::C` or `{a::{b, c}, d`.
fn trees_behind<'a>(begin: &str, code: &'a str) -> impl Iterator<Item = &'a str> {
    let is_inner = |c: char| c.is_alphanumeric() || "_:".contains(c);
    let begins = code.match_indices(begin).map(|(at, _)| at);
    let begins = begins.filter(move |&at| !code[..at].ends_with(is_inner));
    begins.map(move |at| {
        let path = &code[at + begin.len()..];
        let mut depth = 0;
        let is_end = |c: char| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth <= 0 && !is_inner(c)
        };
        &path[..path.find(is_end).unwrap_or(path.len())]
    })
}

/// `a::b::C` of itself; `a::{b, c}` and `d` of `{a::{b, c}, d`.
fn parts_of(tree: &str) -> impl Iterator<Item = &str> {
    let group = tree.strip_prefix('{').unwrap_or(tree);
    let mut depth = 0;
    let parts = group.split(move |c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth == 0 && c == ','
    });
    parts.map(str::trim).filter(|part| !part.is_empty())
}

/// `a::b`, `a::c` and `d` of `{a::{b, c}, d`.
fn expanded(tree: &str) -> Vec<String> {
    let path = |part: &str| match part.split_once('{') {
        None => vec![part.to_owned()],
        Some((begin, group)) => {
            let inner = expanded(group.trim_end_matches('}'));
            inner.iter().map(|path| format!("{begin}{path}")).collect()
        }
    };
    parts_of(tree).flat_map(path).collect()
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
    let is_one_of = |names: &[&str]| names.contains(&used.name.as_str());
    match user.name.as_str() {
        "tenon-plugin-abi" | "tenon-client" => false,
        "tenon-plugin-api" => is_one_of(&["tenon-plugin-abi"]),
        "tenon" => is_one_of(&["tenon-plugin-api"]),
        "tenon-chat" => is_one_of(&["tenon-client"]),
        "tenon-hub" => is_one_of(&["tenon", "tenon-client"]),
        "tenon-check" | "tenon-tests" => is_one_of(&["tenon", "tenon-plugin-api"]),
        "tenon-bench" => is_one_of(&["tenon", "tenon-plugin-api", "tenon-client"]),
        "tenon-cli" => is_one_of(&[
            "tenon",
            "tenon-plugin-api",
            "tenon-bench",
            "tenon-chat",
            "tenon-check",
            "tenon-hub",
        ]),
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
