//! Tells the program how it is compiled, for `tenon doctor`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let level = std::env::var("OPT_LEVEL").unwrap_or_default();
    println!("cargo:rustc-env=TENON_OPT_LEVEL={level}");
}
