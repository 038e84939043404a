//! Compiles the C++ shim against the headers of the linked llama.cpp, and checks the build of that llama.cpp.

mod amx;

use std::{env, fs, path::Path};

fn main() {
    let cmake_dir = env::var("DEP_LLAMA_GGML_CMAKE_DIR")
        .expect("llama-cpp-sys-2 says where it installed llama.cpp");
    let lib_dir = Path::new(&cmake_dir).join("..");
    // The same bytes are other instructions on other CPUs.
    if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        refuse_broken_amx(&lib_dir);
    }
    compile_shim(&lib_dir.join("../include"));
}

fn refuse_broken_amx(lib_dir: &Path) {
    let entries = lib_dir.read_dir().expect("the folder of the libraries");
    for entry in entries {
        let path = entry.expect("a library").path();
        if path.extension().is_some_and(|extension| extension == "a") {
            let library = fs::read(&path).expect("a library that can be read");
            if let Some(compiler) = amx::broken_by(&library) {
                panic!(
                    "{} has AMX instructions that {compiler} breaks: leave CFLAGS and CXXFLAGS to .cargo/config.toml, or use GCC 13",
                    path.display()
                );
            }
        }
    }
}

fn compile_shim(include: &Path) {
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .include(include)
        .file("src/shim.cpp")
        .compile("tenon_llama_shim");
    println!("cargo:rerun-if-changed=src/shim.cpp");
}
