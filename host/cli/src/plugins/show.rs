//! `tenon plugins show`

use std::fmt::Write;

use clap::Args;
use tenon::plugin::{InstalledPlugin, OptionsSchema, Registry};

use super::search::Search;

/// Print what a plugin is: its version, file and licence, its devices and quantization levels, and the options that it takes.
#[derive(Args)]
pub struct Show {
    /// The plugin's id, or the last part of it.
    id: String,
    #[command(flatten)]
    search: Search,
    /// Print JSON, with the options as JSON Schemas.
    #[arg(long)]
    json: bool,
}

impl Show {
    pub fn run(self) -> anyhow::Result<()> {
        let registry = Registry::load(&self.search.options()?);
        let plugin = registry.named(&self.id).inspect_err(|_| {
            for refused in registry.refused() {
                eprintln!("refused: {}", refused.reason);
            }
        })?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(plugin)?);
        } else {
            print!("{}", text(plugin));
        }
        Ok(())
    }
}

fn text(plugin: &InstalledPlugin) -> String {
    let facts = &plugin.facts;
    let file = plugin.path.display().to_string();
    let mut text = format!("{} {} · {}\n", facts.id, facts.version, facts.name);
    let lines: [(&str, &str); 7] = [
        ("made by", &facts.vendor),
        ("licence", &facts.license),
        ("ABI", &facts.abi),
        ("built from", &facts.build),
        ("file", &file),
        ("devices", &facts.devices.join(", ")),
        ("levels", &facts.levels.join(", ")),
    ];
    for (what, value) in lines {
        let value = if value.is_empty() {
            "not stated"
        } else {
            value
        };
        // Writing to a text does not fail.
        let _ = writeln!(text, "  {what:<12}{value}");
    }
    let id = &facts.id;
    let of_plugin = format!("options of the plugin, [plugins.options.\"{id}\"]");
    let of_models = "options of a model, options = { … } in [[models]]";
    list(&mut text, &of_plugin, &facts.options.of_plugin);
    list(&mut text, of_models, &facts.options.of_models);
    text
}

fn list(text: &mut String, what: &str, schema: &OptionsSchema) {
    let options = schema.list();
    let none = match (schema.is_declared(), options.is_empty()) {
        (false, _) => " not declared: see its documentation",
        (true, true) => " none",
        (true, false) => "",
    };
    let _ = writeln!(text, "{what}:{none}");
    for option in options {
        let default = option.default.map(|value| format!("; default {value}"));
        let default = default.unwrap_or_default();
        let _ = writeln!(text, "  {}: {}{default}", option.name, option.allowed);
        for line in option.description.lines() {
            let _ = writeln!(text, "      {line}");
        }
    }
}
