//! Optional interfaces, found by a name such as `org.tenon.embeddings/1`.

use abi_stable::{
    StableAbi, abi_stability::abi_checking::check_layout_compatibility_with_globals,
    pointer_trait::TransmuteElement, std_types::RBox, type_layout::TypeLayout,
};

use crate::{Code, Error};

/// An owned value of a type that only its two sides know, together with that type's layout.
///
/// The name of an extension fixes its type and is never used for another. The type is one that may cross the boundary,
/// usually a `#[sabi_trait]` object.
#[repr(C)]
#[derive(StableAbi)]
pub struct Extension {
    layout: &'static TypeLayout,
    value: RBox<()>,
}

impl Extension {
    /// `[any thread]` Wraps a value for the other side.
    pub fn new<T: StableAbi + 'static>(value: T) -> Self {
        // SAFETY: an RBox carries its destructor, so it can be dropped as any type; `open` gives it its type back.
        let value = unsafe { RBox::new(value).transmute_element::<()>() };
        Self {
            layout: T::LAYOUT,
            value,
        }
    }

    /// `[any thread]` Takes the value out, after comparing the two sides' layouts of `T` (either may be the older one).
    ///
    /// # Errors
    /// [`Code::INVALID`] if the value is of another type.
    pub fn open<T: StableAbi + 'static>(self) -> Result<T, Error> {
        layouts_agree(T::LAYOUT, self.layout).map_err(|why| {
            let first = why.lines().find(|line| !line.trim().is_empty());
            let first = first.unwrap_or_default();
            Error::new(
                Code::INVALID,
                format!("the extension has another type: {first}"),
            )
        })?;
        // SAFETY: the layouts agree, and the name of an extension fixes its type.
        let value = unsafe { self.value.transmute_element::<T>() };
        Ok(RBox::into_inner(value))
    }
}

/// Whether `ours` and `theirs` are the same type, or one is a later version of the other. The check of `abi_stable` has a
/// direction (the first side may know less), so both are tried, each with fresh globals: the default ones are shared by the
/// whole process and would let one plugin's layouts decide over another's.
pub(crate) fn layouts_agree(
    ours: &'static TypeLayout,
    theirs: &'static TypeLayout,
) -> Result<(), String> {
    let check = |a, b| {
        let globals = abi_stable::abi_stability::abi_checking::CheckingGlobals::new();
        check_layout_compatibility_with_globals(a, b, &globals)
    };
    match check(ours, theirs) {
        Ok(()) => Ok(()),
        Err(why) => check(theirs, ours).map_err(|_| why.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi_stable::std_types::RString;

    #[test]
    fn a_value_comes_back_as_its_own_type_only() {
        let opened = Extension::new(RString::from("weights")).open::<RString>();
        assert_eq!(opened.unwrap().as_str(), "weights");
        let refused = Extension::new(7_u64).open::<RString>();
        assert_eq!(refused.unwrap_err().code, Code::INVALID);
    }
}
