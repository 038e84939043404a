//! Who may depend on whom: what keeps backends apart from the host and from each other.

use std::{collections::BTreeMap, env, path::Path, process::Command};

use serde::Deserialize;

/// What every backend's author has to build. Anything heavier belongs behind a feature that is off by default.
const PLUGIN_API_NEEDS: &[&str] = &["abi_stable", "wide"];

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
    let host = named(&members, "tenon");
    let mut dependencies = host.dependencies.iter();
    let plugin_api = dependencies.find(|dependency| dependency.name == "tenon-plugin-api");
    assert_eq!(plugin_api.unwrap().features, Vec::<String>::new());
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
        "tenon-tests" => ["tenon", "tenon-plugin-api"].contains(&used.name.as_str()),
        // Plugins, and what several of them share.
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
    let output = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let metadata: Metadata = serde_json::from_slice(&output.stdout).unwrap();
    metadata.packages
}
