//! A library may have any name for the function that makes its root module, also one that is used by the code of
//! `export_module!`.

use tenon_plugin_abi::*;

export_module!(module);

fn module() -> PluginModule_Ref {
    PluginModule {
        abi,
        descriptor,
        init,
    }
    .leak_into_prefix()
}

extern "C" fn abi() -> AbiVersion {
    AbiVersion::CURRENT
}

extern "C" fn descriptor() -> DescriptorRecord {
    DescriptorRecord {
        id: "org.tenon.test.module".into(),
        name: "A function called module".into(),
        version: "1.0.0".into(),
        vendor: RString::new(),
        license: RString::new(),
        build: RString::new(),
        meta: RVec::new(),
    }
}

extern "C" fn init(_host: HostBox, _options: RStr<'_>) -> RResult<BackendBox, ErrorRecord> {
    RResult::RErr(ErrorRecord {
        code: Code::UNSUPPORTED,
        message: "it has no backend".into(),
        meta: RVec::new(),
    })
}

#[test]
fn a_function_of_any_name_makes_the_root_module() {
    let root = TENON_PLUGIN.init_root_module::<PluginModule_Ref>().unwrap();
    assert_eq!(root.abi()(), AbiVersion::CURRENT);
    assert_eq!(root.descriptor()().id, "org.tenon.test.module");
}
