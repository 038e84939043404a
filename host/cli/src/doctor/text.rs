//! The report as text for people.

use std::fmt::{Display, Write};

use tenon::{
    plugin::{InstalledPlugin, UnusedFile},
    system::memory::shown,
};

use super::{
    DoctorReport, isolation::IsolationReport, memory::MemoryReport, threads::ThreadReport,
};

pub fn of(report: &DoctorReport) -> String {
    let mut text = Text(String::new());
    text.system(report);
    text.threads(&report.threads);
    text.memory(&report.memory);
    text.isolation(&report.isolation);
    text.devices(report);
    text.plugins(report);
    text.list("slow, and what to do", &report.slow);
    text.list("warnings", &report.warnings);
    text.list("a server cannot start", &report.errors);
    if report.errors.is_empty() {
        text.title("a server could start");
    }
    text.0
}

struct Text(String);

impl Text {
    /// Begins a section.
    fn title(&mut self, title: &str) {
        // Writing to a text does not fail.
        let _ = writeln!(self.0, "{title}");
    }

    fn line(&mut self, what: &str, value: impl Display) {
        let value = value.to_string();
        let value = if value.is_empty() {
            "not stated"
        } else {
            &value
        };
        let _ = writeln!(self.0, "  {what:<14}{value}");
    }

    fn list(&mut self, title: &str, sentences: &[String]) {
        if sentences.is_empty() {
            return;
        }
        self.title(title);
        for sentence in sentences {
            let _ = writeln!(self.0, "  - {sentence}");
        }
    }

    fn system(&mut self, report: &DoctorReport) {
        let cpu = &report.cpu;
        let file = report.configuration.as_ref();
        let file = file.map_or("none".to_owned(), |file| file.display().to_string());
        self.title("system");
        self.line("tenon", report.version);
        self.line("Linux", &report.kernel);
        self.line("glibc", &report.glibc);
        self.line("configuration", file);
        self.title("CPU");
        self.line("model", &cpu.model);
        self.line("level", cpu.level.map_or("none", |level| level.name()));
        self.line("features", cpu.features.join(" "));
        let governors: Vec<&str> = cpu.governors.iter().map(String::as_str).collect();
        self.line("governor", governors.join(", "));
    }

    fn threads(&mut self, threads: &ThreadReport) {
        let physical = threads.physical;
        let physical = physical.map(|count| format!(" ({count} without hyper-threads)"));
        let quota = threads.quota.map(|quota| format!("{quota:.1} cores"));
        self.title("threads");
        self.line(
            "machine",
            format!("{} cores{}", threads.machine, physical.unwrap_or_default()),
        );
        self.line("allowed", format!("{} cores", threads.allowed));
        self.line("quota", quota.unwrap_or("none".to_owned()));
        self.line(
            "models use",
            format!("{} threads, or as many as `threads` says", threads.used),
        );
        self.line("load", format!("{:.1}", threads.load));
        self.line("stolen", format!("{:.1} %", threads.stolen_percent));
    }

    fn memory(&mut self, memory: &MemoryReport) {
        let free = |free, bytes| format!("{} of {} free", shown(free), shown(bytes));
        self.title("memory");
        self.line("main memory", free(memory.free_bytes, memory.bytes));
        let swap = match memory.swap_bytes {
            0 => "none".to_owned(),
            bytes => format!("{} of {} in use", shown(memory.swapped_bytes), shown(bytes)),
        };
        self.line("swap", swap);
        for limit in memory.limits.iter().skip(1) {
            self.line(
                "limit",
                format!("{}, of {}", free(limit.free_bytes, limit.bytes), limit.of),
            );
        }
        self.line("huge pages", &memory.huge_pages);
    }

    fn isolation(&mut self, isolation: &IsolationReport) {
        self.title("isolation of workers");
        match &isolation.error {
            Some(error) => self.line(
                "sandbox",
                format!("{error}: set sandbox = \"off\" in [engine]"),
            ),
            None if isolation.missing.is_empty() => {
                self.line("sandbox", "whole (Landlock and seccomp)")
            }
            None => {}
        }
        for sentence in &isolation.missing {
            self.line("sandbox", sentence);
        }
        match &isolation.no_cgroups {
            None => self.line("memory limits", "by control groups"),
            Some(why) => self.line("memory limits", format!("by RLIMIT_DATA, because {why}")),
        }
    }

    fn devices(&mut self, report: &DoctorReport) {
        self.title("GPUs");
        for gpu in &report.gpus {
            self.line(
                &gpu.device.display().to_string(),
                format!(" {}", gpu.driver),
            );
        }
        if report.gpus.is_empty() {
            self.line("devices", "none");
        }
    }

    fn plugins(&mut self, report: &DoctorReport) {
        self.title("plugins");
        for plugin in report.plugins.plugins() {
            self.plugin(plugin);
        }
        for UnusedFile { reason, .. } in report.plugins.refused() {
            self.line("refused", reason);
        }
        if report.plugins.plugins().is_empty() {
            self.line("usable", "none");
        }
    }

    fn plugin(&mut self, plugin: &InstalledPlugin) {
        let facts = &plugin.facts;
        let _ = writeln!(
            self.0,
            "  {} {} · {}",
            facts.id,
            facts.version,
            plugin.path.display()
        );
        for device in &facts.devices {
            let kernels = facts
                .kernels
                .get(device)
                .map(|kernels| format!(": {kernels}"));
            let _ = writeln!(self.0, "    {device}{}", kernels.unwrap_or_default());
        }
        for UnusedFile { reason, .. } in &plugin.passed_over {
            let _ = writeln!(self.0, "    not used: {reason}");
        }
    }
}
