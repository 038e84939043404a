//! The backend of a plugin in C.

use abi_stable::std_types::{ROption, RResult, RStr, RVec};
use tenon_plugin_api::{
    Device, Error, LoadArgs, Model, Result, SessionArgs,
    abi::{
        BackendObject, DeviceRecord, ErrorRecord, EstimateRecord, Extension, LoadArgsRecord,
        ModelBox, ModelInfoRecord, ProgressBox, SessionArgsRecord, SupportRecord, c::BackendVtable,
    },
    model_box,
};

use super::{
    call::{collect, one, there},
    lend,
    model::CModel,
    object::Owned,
    services::{Report, progress},
};

/// A started plugin. It is never dropped: there is one in a process.
pub struct CBackend {
    object: Owned<BackendVtable>,
}

// SAFETY: the header says that every function of a backend may be called on any thread.
unsafe impl Send for CBackend {}
// SAFETY: the header says that several threads may call them at once.
unsafe impl Sync for CBackend {}

impl CBackend {
    pub fn new(object: Owned<BackendVtable>) -> Self {
        Self { object }
    }

    fn load_model(&self, args: &LoadArgs, report: &Report<'_>) -> Result<CModel> {
        const NAME: &str = "tenon_backend_vtable.load";
        let load = there(self.object.table.load, NAME)?;
        CModel::new(lend::with_load_args(args, |args| {
            // SAFETY: the backend is started, and everything lent lives for the call.
            Owned::made(NAME, |model, error| unsafe {
                load(self.object.this, args, progress(&report), model, error)
            })
        })?)
    }
}

impl BackendObject for CBackend {
    fn devices(&self) -> RResult<RVec<DeviceRecord>, ErrorRecord> {
        let Some(devices) = self.object.table.devices else {
            let cpu = Device::new("cpu", "CPU");
            return RResult::ROk(RVec::from(vec![DeviceRecord::from(cpu)]));
        };
        // SAFETY: the backend is started, and the sinks live for the call.
        let all = collect("tenon_backend_vtable.devices", |out, error| unsafe {
            devices(self.object.this, out, error)
        });
        across(all.map(|all| all.into_iter().map(Into::into).collect()))
    }

    fn supports(&self, path: RStr<'_>) -> RResult<SupportRecord, ErrorRecord> {
        const NAME: &str = "tenon_backend_vtable.supports";
        across(
            there(self.object.table.supports, NAME).and_then(|supports| {
                let support = one(NAME, |out, _| {
                    // SAFETY: the backend is started, and everything lent lives for the call.
                    unsafe { supports(self.object.this, lend::text(&path), out) }
                    0
                });
                Ok(support?.into())
            }),
        )
    }

    fn estimate(
        &self,
        load: &LoadArgsRecord,
        session: &SessionArgsRecord,
    ) -> RResult<RVec<EstimateRecord>, ErrorRecord> {
        let Some(estimate) = self.object.table.estimate else {
            return across(Err(Error::unsupported("memory estimates")));
        };
        let args = load_args(load).and_then(|load| Ok((load, session_args(session)?)));
        across(args.and_then(|(load, session)| {
            let all = lend::with_load_args(&load, |load| {
                lend::with_session_args(&session, |session| {
                    // SAFETY: the backend is started, and everything lent lives for the call.
                    collect("tenon_backend_vtable.estimate", |out, error| unsafe {
                        estimate(self.object.this, load, session, out, error)
                    })
                })
            });
            Ok(all?.into_iter().map(Into::into).collect())
        }))
    }

    fn load(&self, args: &LoadArgsRecord, progress: ProgressBox) -> RResult<ModelBox, ErrorRecord> {
        across(load_args(args).and_then(|args| {
            let report = |fraction: f32, what: &str| progress.report(fraction, what.into());
            let model: Box<dyn Model> = Box::new(self.load_model(&args, &report)?);
            Ok(model_box(model))
        }))
    }

    fn quantize(
        &self,
        args: &LoadArgsRecord,
        output: RStr<'_>,
        progress_box: ProgressBox,
    ) -> RResult<ModelInfoRecord, ErrorRecord> {
        let Some(quantize) = self.object.table.quantize else {
            return across(Err(Error::unsupported("writing quantized models")));
        };
        across(load_args(args).and_then(|args| {
            let report = |fraction: f32, what: &str| progress_box.report(fraction, what.into());
            let report: &Report<'_> = &report;
            let info = lend::with_load_args(&args, |args| {
                let output = lend::text(&output);
                // SAFETY: the backend is started, and everything lent lives for the call.
                one("tenon_backend_vtable.quantize", |out, error| unsafe {
                    quantize(
                        self.object.this,
                        args,
                        output,
                        progress(&report),
                        out,
                        error,
                    )
                })
            });
            Ok(info?.into())
        }))
    }

    fn extension(&self, _id: RStr<'_>) -> ROption<Extension> {
        ROption::RNone
    }
}

/// Converts the arguments of a load. Facts that must be understood and that this version does not know are refused.
fn load_args(record: &LoadArgsRecord) -> Result<LoadArgs> {
    let args = LoadArgs::from(record);
    args.meta.check().map(|()| args)
}

/// Converts the arguments of a session in the same way.
fn session_args(record: &SessionArgsRecord) -> Result<SessionArgs> {
    let args = SessionArgs::from(record);
    args.meta.check().map(|()| args)
}

fn across<T>(result: Result<T>) -> RResult<T, ErrorRecord> {
    result.map_err(ErrorRecord::from).into()
}
