//! Finds AMX code that its compiler broke. GCC before version 13 takes `ldtilecfg` for a read of 8 bytes, and drops the
//! stores that fill the other 56 bytes of the tile configuration.

/// The text that GCC writes into object files. The version follows its closing parenthesis.
const SIGNATURE: &[u8] = b"GCC: (";
const FIRST_RIGHT_GCC: u32 = 13;

/// The compiler that broke the AMX code of a static library, for example `GCC 12`. None if there is no such code, or if it
/// is right.
pub fn broken_by(library: &[u8]) -> Option<String> {
    let gcc = oldest_gcc(library)?;
    (gcc < FIRST_RIGHT_GCC && has_ldtilecfg(library)).then(|| format!("GCC {gcc}"))
}

fn oldest_gcc(library: &[u8]) -> Option<u32> {
    let starts = library.windows(SIGNATURE.len()).enumerate();
    let starts = starts.filter(|(_, bytes)| *bytes == SIGNATURE);
    starts
        .filter_map(|(at, _)| major_version(&library[at..]))
        .min()
}

/// The major version in a comment such as `GCC: (Debian 12.2.0-14) 12.2.0`.
fn major_version(comment: &[u8]) -> Option<u32> {
    let end = comment.iter().position(|&byte| byte == 0)?;
    let comment = str::from_utf8(&comment[..end]).ok()?;
    let (_, version) = comment.rsplit_once(") ")?;
    version.split('.').next()?.parse().ok()
}

/// Whether any bytes are `ldtilecfg [memory]`: VEX.128.NP.0F38.W0 49 /0. With a register as operand these bytes are other
/// instructions.
fn has_ldtilecfg(code: &[u8]) -> bool {
    code.windows(5).any(|bytes| match *bytes {
        [0xc4, map, 0x78, 0x49, operand] => {
            map & 0x1f == 2 && operand & 0b0011_1000 == 0 && operand < 0b1100_0000
        }
        _ => false,
    })
}
