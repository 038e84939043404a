//! Whether two sides mean the same by a type.

use abi_stable::{
    abi_stability::abi_checking::{
        AbiInstabilityError, AbiInstabilityErrors, CheckingGlobals,
        check_layout_compatibility_with_globals,
    },
    type_layout::TypeLayout,
};

/// How two layouts differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayoutMismatch {
    /// Where they differ first, in a few words: type, field, what is expected and what was found.
    pub first_difference: String,
    /// Everything, in many lines.
    pub report: String,
}

/// Whether `ours` and `theirs` are the same type, or one is a later version of the other. The check of `abi_stable` has a
/// direction (the first side may know less), so both are tried, each with fresh globals: the default ones are shared by the
/// whole process and would let one plugin's layouts decide over another's.
///
/// # Errors
/// How the types differ, if neither is a later version of the other.
pub fn layouts_agree(
    ours: &'static TypeLayout,
    theirs: &'static TypeLayout,
) -> Result<(), LayoutMismatch> {
    let check = |a, b| check_layout_compatibility_with_globals(a, b, &CheckingGlobals::new());
    check(ours, theirs).or_else(|why| check(theirs, ours).map_err(|_| mismatch(&why)))
}

fn mismatch(errors: &AbiInstabilityErrors) -> LayoutMismatch {
    let first = errors.errors.first().map(first_difference);
    LayoutMismatch {
        first_difference: first.unwrap_or_default(),
        report: errors.to_string(),
    }
}

/// The innermost type on the way to the difference, and the difference.
fn first_difference(error: &AbiInstabilityError) -> String {
    let way: Vec<String> = error
        .stack_trace
        .iter()
        .map(|step| format!("{}", step.found))
        .collect();
    format!("{way:?}: {:?}", error.errs)
}

#[cfg(test)]
mod tests {
    use abi_stable::{StableAbi, std_types::RString};

    use super::*;

    mod later {
        use super::*;

        #[repr(C)]
        #[derive(StableAbi)]
        pub struct Record {
            pub id: u32,
            pub name: u64,
        }
    }

    #[repr(C)]
    #[derive(StableAbi)]
    struct Record {
        id: u32,
        name: RString,
    }

    #[test]
    fn the_first_difference_names_type_and_field() {
        let mismatch = layouts_agree(Record::LAYOUT, later::Record::LAYOUT).unwrap_err();
        panic!("{}\n{}", mismatch.first_difference, mismatch.report);
    }
}
