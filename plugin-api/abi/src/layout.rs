//! Compares the layouts that two sides have for the same type.

use abi_stable::{
    abi_stability::abi_checking::{
        AbiInstability, AbiInstabilityError, AbiInstabilityErrors, CheckingGlobals,
        check_layout_compatibility_with_globals,
    },
    type_layout::{TLFieldOrFunction, TypeLayout},
};

/// How two layouts differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayoutMismatch {
    /// The first difference in a few words: type, field, what was expected and what was found.
    pub first_difference: String,
    /// The whole report, in many lines.
    pub report: String,
}

/// Checks that `ours` and `theirs` are the same type, or that one is a later version of the other. The check of `abi_stable`
/// has a direction: its first side may be the older one. So both directions are tried. Each try gets fresh globals: the
/// default ones are shared by the whole process, and one plugin's layouts would decide over another's.
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
    // A struct whose field has another type mostly has another size too. The size says less about the cause.
    let cause = |error: &&AbiInstabilityError| error.errs.iter().any(|found| !is_size(found));
    let first = errors.errors.iter().find(cause).or(errors.errors.first());
    let root = errors.interface.name();
    LayoutMismatch {
        first_difference: first.map_or_else(String::new, |error| first_difference(root, error)),
        report: errors.to_string(),
    }
}

fn is_size(error: &AbiInstability) -> bool {
    matches!(
        error,
        AbiInstability::Size(_) | AbiInstability::Alignment(_)
    )
}

/// The path of names from the root to the difference, the type at its end, and the difference itself.
fn first_difference(root: &str, error: &AbiInstabilityError) -> String {
    let mut way = root.to_string();
    let mut place = root;
    for step in &error.stack_trace {
        let (name, type_name) = match &step.expected {
            TLFieldOrFunction::Field(field) => (field.name(), field.layout().name()),
            TLFieldOrFunction::Function(_) => ("fn", "fn"),
        };
        way = format!("{way}.{name}");
        place = type_name;
    }
    let what = error.errs.iter().find(|found| !is_size(found));
    let what = what.or(error.errs.first()).map(describe);
    format!("`{way}` ({place}): {}", what.unwrap_or_default())
}

fn describe(error: &AbiInstability) -> String {
    match error {
        AbiInstability::Package(names) => either(names.expected, names.found),
        AbiInstability::Name(types) => either(types.expected, types.found),
        AbiInstability::UnexpectedField(fields) => {
            either(fields.expected.name(), fields.found.name())
        }
        AbiInstability::FieldCountMismatch(counts) => {
            either(format!("{} fields", counts.expected), counts.found)
        }
        AbiInstability::Size(bytes) => either(format!("{} bytes", bytes.expected), bytes.found),
        other => {
            let text = format!("{other:?}");
            let kind = text.split(|c: char| !c.is_alphanumeric()).next();
            kind.unwrap_or_default().to_string()
        }
    }
}

fn either(expected: impl std::fmt::Display, found: impl std::fmt::Display) -> String {
    format!("expected {expected}, found {found}")
}

#[cfg(test)]
mod tests {
    use abi_stable::{
        StableAbi,
        std_types::{RString, RVec},
    };

    use super::*;

    #[repr(C)]
    #[derive(StableAbi)]
    struct Record {
        id: u32,
        names: RVec<RString>,
    }

    mod other {
        use super::*;

        #[repr(C)]
        #[derive(StableAbi)]
        pub struct Record {
            pub id: u32,
            pub names: RVec<u64>,
        }
    }

    mod longer {
        use super::*;

        #[repr(C)]
        #[derive(StableAbi)]
        pub struct Record {
            pub id: u32,
            pub names: RVec<RString>,
            pub more: u32,
        }
    }

    fn check(theirs: &'static TypeLayout, expected: &str) {
        let mismatch = layouts_agree(Record::LAYOUT, theirs).unwrap_err();
        assert_eq!(mismatch.first_difference, expected, "{}", mismatch.report);
    }

    #[test]
    fn the_first_difference_names_type_and_field() {
        assert_eq!(layouts_agree(Record::LAYOUT, Record::LAYOUT), Ok(()));
        check(
            other::Record::LAYOUT,
            "`Record.names.buffer.0.0` (RString): expected RString, found u64",
        );
        check(
            longer::Record::LAYOUT,
            "`Record` (Record): expected 2 fields, found 3",
        );
    }
}
