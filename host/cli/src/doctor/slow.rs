//! Causes of slow answers on this machine, and their remedies.

use tenon::{
    config::{Config, Threads},
    plugin::CpuLevel,
    system::{cores, memory::shown},
};

use super::{DoctorReport, cpu::CpuReport, memory::MemoryReport, threads::ThreadReport};

/// Percentage of stolen time up to which the hypervisor is not reported.
const FEW_STOLEN_PERCENT: f64 = 2.0;
/// Bytes of swapped memory up to which swapping is not reported: memory that programs hardly use.
const FEW_SWAPPED_BYTES: u64 = 256 << 20;

/// A sentence for each cause.
pub fn findings(report: &DoctorReport, config: Option<&Config>) -> Vec<String> {
    let build = cfg!(debug_assertions).then(|| {
        "this program is a debug build: build it with `make build` or `cargo build --release`"
            .to_owned()
    });
    let DoctorReport {
        cpu,
        threads,
        memory,
        ..
    } = report;
    let models = config.into_iter().flat_map(overcommitted_models);
    build
        .into_iter()
        .chain(of_cpu(cpu))
        .chain(of_plugins(report))
        .chain(of_threads(threads))
        .chain(models)
        .chain(of_memory(memory))
        .collect()
}

fn of_cpu(cpu: &CpuReport) -> Vec<String> {
    let lacks_avx2 = cfg!(target_arch = "x86_64") && cpu.level < Some(CpuLevel::V3);
    let avx2 = lacks_avx2.then(|| {
        let cure = match cpu.is_virtual {
            true => "give this virtual machine the CPU of its host (QEMU: -cpu host)",
            false => "a newer machine answers several times as fast",
        };
        format!("this CPU lacks AVX2, so quantized weights are multiplied without vectors: {cure}")
    });
    let powersave = cpu.governors.contains("powersave").then(|| {
        "the frequency governor is powersave: `cpupower frequency-set -g performance` lets cores run at full speed".to_owned()
    });
    avx2.into_iter().chain(powersave).collect()
}

/// Plugins that are compiled for lesser CPUs, and GPUs that no plugin uses.
fn of_plugins(report: &DoctorReport) -> Vec<String> {
    let plugins = report.plugins.plugins().iter();
    let lesser = plugins.filter_map(|plugin| {
        let (level, best) = (plugin.level?, report.cpu.level?);
        let (id, level_name) = (&plugin.facts.id, level.name());
        (level < best).then(|| {
            format!(
                "{id} is compiled for {level_name}, this CPU has {}: `make build` compiles it for this machine",
                best.name()
            )
        })
    });
    let devices = report.plugins.plugins().iter();
    let mut devices = devices.flat_map(|plugin| &plugin.facts.devices);
    let has_gpu = !report.gpus.is_empty();
    let unused = (has_gpu && devices.all(|device| device == "cpu")).then(|| {
        "there is a GPU, but no plugin computes on it: the section Limits of README.md says how to build one".to_owned()
    });
    lesser.chain(unused).collect()
}

fn of_threads(threads: &ThreadReport) -> Vec<String> {
    let allowed = threads.allowed as f64;
    let quota = threads.quota.filter(|quota| *quota < allowed);
    let quota = quota.map(|quota| {
        format!(
            "a control group gives {quota:.1} of the {allowed} cores, and stops all threads while that is used up: give whole cores \
             instead (Docker: --cpuset-cpus, Kubernetes: a whole limits.cpu with the static CPU manager), or raise it"
        )
    });
    let cores = f64::from(threads.used);
    let load = (threads.load > cores + 0.5).then(|| {
        format!(
            "other programs want the cores too (load {:.1} on {cores} cores), and a step is as slow as its slowest thread: stop them, \
             or set threads to what they leave",
            threads.load
        )
    });
    let is_stolen = threads.stolen_percent > FEW_STOLEN_PERCENT;
    let stolen = is_stolen.then(|| {
        format!(
            "the hypervisor gives {:.0} % of this machine's time to others: use a machine with cores of its own",
            threads.stolen_percent
        )
    });
    let numa = (threads.numa_nodes > 1).then(|| {
        format!(
            "memory is on {} NUMA nodes: a model that fits into one is faster there (`numactl --cpunodebind=0 --membind=0 tenon serve …`)",
            threads.numa_nodes
        )
    });
    [quota, load, stolen, numa].into_iter().flatten().collect()
}

fn overcommitted_models(config: &Config) -> Vec<String> {
    let models = config.models.iter().filter_map(|model| {
        let Threads::Fixed(count) = model.engine.threads else {
            return None;
        };
        let (_, warning) = cores::limit(count.get());
        Some(format!("model {}: {}", model.id, warning?))
    });
    models.collect()
}

fn of_memory(memory: &MemoryReport) -> Vec<String> {
    let is_swapped = memory.swapped_bytes > FEW_SWAPPED_BYTES;
    let swap = is_swapped.then(|| {
        format!(
            "{} are swapped out: a model whose weights are swapped out waits for the disk, so free memory, or choose a smaller level \
             (quantize)",
            shown(memory.swapped_bytes)
        )
    });
    let huge = (memory.huge_pages == "never").then(|| {
        "transparent huge pages are off: `echo madvise > /sys/kernel/mm/transparent_hugepage/enabled` as root makes reading weights faster"
            .to_owned()
    });
    swap.into_iter().chain(huge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fast_threads() -> ThreadReport {
        ThreadReport {
            machine: 4,
            physical: Some(4),
            allowed: 4,
            quota: None,
            used: 4,
            load: 0.2,
            stolen_percent: 0.1,
            numa_nodes: 1,
        }
    }

    #[track_caller]
    fn check(found: &[String], expected: &[&str]) {
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (sentence, expected) in found.iter().zip(expected) {
            assert!(sentence.contains(expected), "{sentence}");
        }
    }

    #[test]
    fn fast_machines_have_no_findings() {
        check(&of_threads(&fast_threads()), &[]);
    }

    #[test]
    fn what_holds_threads_up_is_named() {
        let threads = ThreadReport {
            quota: Some(1.5),
            load: 9.0,
            stolen_percent: 12.3,
            numa_nodes: 2,
            ..fast_threads()
        };
        let expected = [
            "1.5 of the 4 cores",
            "load 9.0 on 4 cores",
            "12 %",
            "2 NUMA nodes",
        ];
        check(&of_threads(&threads), &expected);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn old_cpus_and_saved_power_are_named() {
        let cpu = |level, is_virtual, governor: &str| CpuReport {
            model: "a CPU".to_owned(),
            level,
            features: Vec::new(),
            is_virtual,
            governors: [governor.to_owned()].into(),
        };
        check(&of_cpu(&cpu(Some(CpuLevel::V4), true, "performance")), &[]);
        let slow = ["-cpu host", "powersave"];
        check(&of_cpu(&cpu(Some(CpuLevel::V2), true, "powersave")), &slow);
        check(
            &of_cpu(&cpu(None, false, "performance")),
            &["a newer machine"],
        );
    }

    #[test]
    fn memory_that_is_slow_is_named() {
        let memory = |swapped_bytes, huge_pages: &str| MemoryReport {
            bytes: 8 << 30,
            free_bytes: 4 << 30,
            swap_bytes: 4 << 30,
            swapped_bytes,
            limits: Vec::new(),
            huge_pages: huge_pages.to_owned(),
        };
        check(&of_memory(&memory(0, "madvise")), &[]);
        let slow = ["1.0 GB are swapped out", "transparent huge pages are off"];
        check(&of_memory(&memory(1_000_000_000, "never")), &slow);
    }
}
