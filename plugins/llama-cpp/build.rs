//! Compiles the C++ shim against the headers of the llama.cpp that is linked.

use std::{env, path::Path};

fn main() {
    let cmake_dir = env::var("DEP_LLAMA_GGML_CMAKE_DIR")
        .expect("llama-cpp-sys-2 says where it installed llama.cpp");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .include(Path::new(&cmake_dir).join("../../include"))
        .file("src/shim.cpp")
        .compile("tenon_llama_shim");
    println!("cargo:rerun-if-changed=src/shim.cpp");
}
