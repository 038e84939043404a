//! Optional interfaces, found by a name such as `org.tenon.embeddings/1`.

use abi_stable::{
    StableAbi, pointer_trait::TransmuteElement, std_types::RBox, type_layout::TypeLayout,
};

use super::layouts_agree;
use crate::{Code, Error};

/// An owned value together with the layout of its type. Only the two sides that use the extension know the type.
///
/// The name of an extension fixes its type and is never used for another type. The type must be able to cross the library
/// boundary; usually it is a `#[sabi_trait]` object.
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

    /// `[any thread]` Takes the value out, after comparing the layouts of `T` on both sides (either side may have the older
    /// one).
    ///
    /// # Errors
    /// [`Code::INVALID`] if the value is of another type.
    pub fn open<T: StableAbi + 'static>(self) -> Result<T, Error> {
        layouts_agree(T::LAYOUT, self.layout).map_err(|why| {
            let first = why.first_difference;
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
