//! Checks that the CPU has the instructions that llama.cpp was compiled for. llama.cpp chooses them when it is compiled; on
//! a CPU without them its first forward would end the process.

use std::ffi::c_int;

use llama_cpp_sys_2 as sys;
use tenon_plugin_api::{Code, Error, Result};

/// One extension of the instruction set.
struct CpuExtension {
    name: &'static str,
    compiled: bool,
    present: bool,
}

/// Refuses a build for newer CPUs.
pub fn check() -> Result<()> {
    match lacking(&extensions()) {
        None => Ok(()),
        Some(names) => Err(Error::new(
            Code::UNSUPPORTED,
            format!(
                "this build of llama.cpp needs {names}, which this CPU lacks: use a build for this CPU, or put the file into the \
                 folder of its level (such as x86-64-v4)"
            ),
        )),
    }
}

/// The instructions that this build of llama.cpp uses, in words.
pub fn compiled_for() -> String {
    let extensions = extensions().into_iter();
    let compiled = extensions.filter(|extension| extension.compiled);
    let names: Vec<&str> = compiled.map(|extension| extension.name).collect();
    match names[..] {
        [] => "compiled without extensions".to_owned(),
        _ => format!("compiled for {}", names.join(", ")),
    }
}

fn lacking(extensions: &[CpuExtension]) -> Option<String> {
    let lacking = extensions
        .iter()
        .filter(|extension| extension.compiled && !extension.present);
    let names: Vec<&str> = lacking.map(|extension| extension.name).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

fn extension(
    name: &'static str,
    compiled: unsafe extern "C" fn() -> c_int,
    present: bool,
) -> CpuExtension {
    CpuExtension {
        name,
        // SAFETY: these functions return constants.
        compiled: unsafe { compiled() } != 0,
        present,
    }
}

#[cfg(target_arch = "x86_64")]
fn extensions() -> Vec<CpuExtension> {
    use std::arch::is_x86_feature_detected as has;

    // llama.cpp enables these extensions together.
    let avx512 = has!("avx512f")
        && has!("avx512bw")
        && has!("avx512cd")
        && has!("avx512dq")
        && has!("avx512vl");
    vec![
        extension("SSSE3", sys::ggml_cpu_has_ssse3, has!("ssse3")),
        extension("AVX", sys::ggml_cpu_has_avx, has!("avx")),
        extension("AVX2", sys::ggml_cpu_has_avx2, has!("avx2")),
        extension("BMI2", sys::ggml_cpu_has_bmi2, has!("bmi2")),
        extension("F16C", sys::ggml_cpu_has_f16c, has!("f16c")),
        extension("FMA", sys::ggml_cpu_has_fma, has!("fma")),
        extension("AVX-VNNI", sys::ggml_cpu_has_avx_vnni, has!("avxvnni")),
        extension("AVX-512", sys::ggml_cpu_has_avx512, avx512),
        extension(
            "AVX512-VBMI",
            sys::ggml_cpu_has_avx512_vbmi,
            has!("avx512vbmi"),
        ),
        extension(
            "AVX512-VNNI",
            sys::ggml_cpu_has_avx512_vnni,
            has!("avx512vnni"),
        ),
        extension(
            "AVX512-BF16",
            sys::ggml_cpu_has_avx512_bf16,
            has!("avx512bf16"),
        ),
    ]
}

#[cfg(target_arch = "aarch64")]
fn extensions() -> Vec<CpuExtension> {
    use std::arch::is_aarch64_feature_detected as has;

    vec![
        extension("FP16", sys::ggml_cpu_has_fp16_va, has!("fp16")),
        extension("DotProd", sys::ggml_cpu_has_dotprod, has!("dotprod")),
        extension("I8MM", sys::ggml_cpu_has_matmul_int8, has!("i8mm")),
        extension("SVE", sys::ggml_cpu_has_sve, has!("sve")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_lacking(extensions: &[(&'static str, bool, bool)], expected: Option<&str>) {
        let extension = |&(name, compiled, present)| CpuExtension {
            name,
            compiled,
            present,
        };
        let extensions: Vec<CpuExtension> = extensions.iter().map(extension).collect();
        assert_eq!(lacking(&extensions).as_deref(), expected);
    }

    #[test]
    fn what_was_compiled_and_is_not_there_is_named() {
        check_lacking(&[("AVX", true, true), ("AVX-512", false, false)], None);
        check_lacking(&[("AVX", false, true)], None);
        check_lacking(
            &[
                ("AVX", true, true),
                ("FMA", true, false),
                ("AVX-512", true, false),
            ],
            Some("FMA, AVX-512"),
        );
    }

    #[test]
    fn this_build_is_for_this_cpu() {
        assert_eq!(check(), Ok(()));
    }
}
