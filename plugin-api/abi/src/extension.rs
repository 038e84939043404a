//! Optional interfaces, found by a name such as `org.tenon.embeddings/1`.

use std::{
    cell::Cell,
    marker::PhantomData,
    mem::{self, ManuallyDrop},
    panic::{AssertUnwindSafe, catch_unwind},
};

use abi_stable::{
    StableAbi,
    pointer_trait::TransmuteElement,
    std_types::{RBox, RStr, RVec},
    type_layout::TypeLayout,
};

use crate::{Code, ErrorRecord, layouts_agree};

/// The type of an extension's value, usually a `#[sabi_trait]` object. Only the two sides that use the extension know it.
pub trait Interface: StableAbi + Send + 'static {
    /// The extension's id. It fixes the type and is never used for another type. An id ends in `/1`. The id of a draft ends
    /// in `/draft-1`, and stays when the draft becomes stable.
    const ID: &'static str;
}

/// An owned value with the id and the layout of its type. It can be sent to another thread, but not shared between threads:
/// its value may be like that.
///
/// ```compile_fail,E0277
/// fn share(_: impl Sync) {}
/// fn share_extension(extension: tenon_plugin_abi::Extension) {
///     share(extension)
/// }
/// ```
#[repr(C)]
#[derive(StableAbi)]
pub struct Extension {
    id: RStr<'static>,
    layout: &'static TypeLayout,
    value: RBox<()>,
    #[sabi(unsafe_opaque_field)]
    not_shared: PhantomData<Cell<()>>,
}

impl Extension {
    /// `[any thread]` Wraps a value for the other side. If nobody takes the value out, it is dropped with the extension; a panic of
    /// that is lost.
    pub fn new<T: Interface>(value: T) -> Self {
        // SAFETY: an RBox carries its destructor, so it can be dropped as any type; `open` gives it its type back.
        let value = unsafe { RBox::new(Guarded::new(value)).transmute_element::<()>() };
        Self {
            id: T::ID.into(),
            layout: T::LAYOUT,
            value,
            not_shared: PhantomData,
        }
    }

    /// `[any thread]` Takes the value out, after comparing the ids, and the layouts of `T` on both sides (either side may have
    /// the older one).
    ///
    /// # Errors
    /// [`Code::INVALID`] if the value is of another type.
    pub fn open<T: Interface>(self) -> Result<T, ErrorRecord> {
        if self.id != T::ID {
            return Err(refused(&format!("is {} instead of {}", self.id, T::ID)));
        }
        layouts_agree(T::LAYOUT, self.layout).map_err(|why| {
            let first = why.first_difference;
            refused(&format!("{} has another type: {first}", T::ID))
        })?;
        // SAFETY: the id says that the value is a `T` in its guard, which has the same layout, and both sides' layouts agree.
        let value = unsafe { self.value.transmute_element::<T>() };
        Ok(RBox::into_inner(value))
    }
}

/// A value whose drop never panics: a panic in the destructor of an [`RBox`] would end the process.
#[repr(transparent)]
struct Guarded<T>(ManuallyDrop<T>);

impl<T> Guarded<T> {
    fn new(value: T) -> Self {
        Self(ManuallyDrop::new(value))
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        // SAFETY: this is the only drop of the value, and nobody uses the value afterwards.
        let dropped = catch_unwind(AssertUnwindSafe(|| unsafe {
            ManuallyDrop::drop(&mut self.0)
        }));
        // Dropping the panic's payload may panic in turn.
        dropped.unwrap_or_else(mem::forget);
    }
}

fn refused(why: &str) -> ErrorRecord {
    ErrorRecord {
        code: Code::INVALID,
        message: format!("the extension {why}").into(),
        meta: RVec::new(),
    }
}

#[cfg(test)]
mod tests {
    use abi_stable::std_types::RString;

    use super::*;

    /// Defines an interface around a value.
    macro_rules! interface {
        ($name:ident($value:ty) = $id:literal) => {
            #[repr(transparent)]
            #[derive(StableAbi)]
            struct $name($value);

            impl Interface for $name {
                const ID: &'static str = $id;
            }
        };
    }

    interface!(Text(RString) = "org.tenon.test/1");
    interface!(Number(u64) = "org.tenon.test/1");
    interface!(Other(RString) = "org.tenon.other/1");
    interface!(Fragile(u64) = "org.tenon.fragile/1");

    impl Drop for Fragile {
        fn drop(&mut self) {
            panic!("told to panic in the drop");
        }
    }

    #[test]
    fn a_panic_in_the_drop_of_a_value_stays_inside() {
        drop(Extension::new(Fragile(1)));
    }

    #[test]
    fn a_value_comes_back_as_its_own_type_only() {
        let text = || Extension::new(Text("weights".into()));
        assert_eq!(text().open::<Text>().unwrap().0, "weights");
        for (refused, why) in [
            (text().open::<Number>().err(), "has another type"),
            (
                text().open::<Other>().err(),
                "is org.tenon.test/1 instead of",
            ),
        ] {
            let refused = refused.unwrap();
            assert_eq!(refused.code, Code::INVALID);
            assert!(refused.message.contains(why), "{}", refused.message);
        }
    }
}
