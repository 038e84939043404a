//! Tests the build script's check that no AMX code is linked that its compiler broke.

#[path = "../../build/amx.rs"]
mod check;

use check::broken_by;

const LDTILECFG: &[u8] = b"\xc4\xe2\x78\x49\x44\x24\x10";
const GCC_12: &[u8] = b"\0GCC: (Debian 12.2.0-14+deb12u1) 12.2.0\0";
const GCC_13: &[u8] = b"\0GCC: (Ubuntu 13.3.0-6ubuntu2~24.04) 13.3.0\0";
const CLANG: &[u8] = b"\0Debian clang version 14.0.6\0";

#[test]
fn only_amx_code_of_an_old_gcc_is_broken() {
    let library = |parts: &[&[u8]]| parts.concat();
    let broken = |parts: &[&[u8]]| broken_by(&library(parts));
    assert_eq!(broken(&[LDTILECFG, GCC_12]).as_deref(), Some("GCC 12"));
    assert_eq!(
        broken(&[GCC_13, LDTILECFG, GCC_12]).as_deref(),
        Some("GCC 12")
    );
    assert_eq!(broken(&[LDTILECFG, GCC_13]), None);
    assert_eq!(broken(&[LDTILECFG, CLANG]), None);
    assert_eq!(broken(&[GCC_12]), None);
}

#[test]
fn instructions_like_ldtilecfg_are_others() {
    for other in [
        // tilerelease
        b"\xc4\xe2\x78\x49\xc0",
        // sttilecfg [rax]
        b"\xc4\xe2\x79\x49\x00",
        // Another opcode of the same map.
        b"\xc4\xe2\x78\xf2\x00",
    ] {
        assert_eq!(broken_by(&[other, GCC_12].concat()), None, "{other:x?}");
    }
}
