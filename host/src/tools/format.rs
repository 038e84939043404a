/// How a family of models writes calls of tools.
///
/// A format that fits this description is one more entry of [`FORMATS`].
#[derive(Debug, PartialEq, Eq)]
pub struct ToolFormat {
    /// What `tool_format` of a model's configuration calls it.
    pub name: &'static str,
    /// A chat template with one of these texts in it is of a model that writes this format…
    pub signs: &'static [&'static str],
    /// … unless one of these is in it too.
    pub other_signs: &'static [&'static str],
    /// What stands before a call, or before a list of them.
    pub begin: &'static str,
    /// Whether an answer that is nothing but JSON may be a call as well, without `begin`.
    pub may_be_bare: bool,
    /// What a call looks like.
    pub body: Body,
    /// What stands behind a call or list. May be empty.
    pub end: &'static str,
    /// Whether the model's templates take ids of nine letters and digits only.
    pub has_short_ids: bool,
}

/// The part of a call that says what is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// `{"name": "f", "arguments": {…}}`, with this key for the arguments.
    Object { arguments: &'static str },
    /// `[{"name": "f", "arguments": {…}}, …]`
    List { arguments: &'static str },
    /// `f`, this separator, `{…}`
    Named { separator: &'static str },
}

/// All formats. The first one whose sign is in a chat template is taken.
pub const FORMATS: &[ToolFormat] = &[
    ToolFormat {
        name: "mistral_args",
        signs: &["[ARGS]"],
        other_signs: &[],
        begin: "[TOOL_CALLS]",
        may_be_bare: false,
        body: Body::Named {
            separator: "[ARGS]",
        },
        end: "",
        has_short_ids: true,
    },
    ToolFormat {
        name: "mistral",
        signs: &["[TOOL_CALLS]"],
        other_signs: &[],
        begin: "[TOOL_CALLS]",
        may_be_bare: false,
        body: Body::List {
            arguments: "arguments",
        },
        end: "",
        has_short_ids: true,
    },
    ToolFormat {
        name: "granite",
        signs: &["<|tool_call|>"],
        other_signs: &[],
        begin: "<|tool_call|>",
        may_be_bare: false,
        body: Body::List {
            arguments: "arguments",
        },
        end: "",
        has_short_ids: false,
    },
    ToolFormat {
        name: "hermes",
        signs: &["<tool_call>"],
        // Calls in XML, as of Qwen3-Coder.
        other_signs: &["<parameter="],
        begin: "<tool_call>",
        may_be_bare: false,
        body: Body::Object {
            arguments: "arguments",
        },
        end: "</tool_call>",
        has_short_ids: false,
    },
    ToolFormat {
        name: "functionary",
        signs: &["<function="],
        other_signs: &["<parameter="],
        begin: "<function=",
        may_be_bare: false,
        body: Body::Named { separator: ">" },
        end: "</function>",
        has_short_ids: false,
    },
    ToolFormat {
        name: "llama3",
        signs: &[
            "<|python_tag|>",
            r#""parameters": dictionary"#,
            r#"", "parameters": "#,
        ],
        other_signs: &[],
        begin: "<|python_tag|>",
        may_be_bare: true,
        body: Body::Object {
            arguments: "parameters",
        },
        end: "",
        has_short_ids: false,
    },
];

impl ToolFormat {
    /// For models whose chat template says nothing about tools.
    pub fn generic() -> &'static Self {
        Self::named("hermes").unwrap_or(&FORMATS[0])
    }

    /// The format of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        FORMATS.iter().find(|format| format.name == name)
    }

    /// The format of the model that this chat template belongs to.
    pub fn of_template(source: &str) -> Option<&'static Self> {
        let has = |sign: &&str| source.contains(sign);
        FORMATS
            .iter()
            .find(|format| format.signs.iter().any(has) && !format.other_signs.iter().any(has))
    }

    /// The texts that tell calls from other text; some models have control tokens for them.
    pub fn marks(&self) -> Vec<&'static str> {
        let separator = match self.body {
            Body::Named { separator } => separator,
            Body::Object { .. } | Body::List { .. } => "",
        };
        let marks = [self.begin, separator, "[CALL_ID]", self.end];
        marks.into_iter().filter(|mark| !mark.is_empty()).collect()
    }

    /// Writes calls of functions by these names with these arguments, which are JSON.
    pub fn write(&self, calls: &[(&str, &str)]) -> String {
        let object = |key: &str, (name, arguments): &(&str, &str)| {
            format!(r#"{{"name": "{name}", "{key}": {arguments}}}"#)
        };
        let wrapped = |body: String| match self.end {
            "" => format!("{}{body}", self.begin),
            end => format!("{}\n{body}\n{end}", self.begin),
        };
        match self.body {
            Body::Object { arguments } => {
                let calls = calls.iter().map(|call| wrapped(object(arguments, call)));
                calls.collect::<Vec<_>>().join("\n")
            }
            Body::List { arguments } => {
                let calls = calls.iter().map(|call| object(arguments, call));
                wrapped(format!("[{}]", calls.collect::<Vec<_>>().join(", ")))
            }
            Body::Named { separator } => {
                let call = |(name, arguments): &(&str, &str)| {
                    format!("{}{name}{separator}{arguments}{}", self.begin, self.end)
                };
                calls.iter().map(call).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_recognised_by_what_templates_say() {
        let of = |source| ToolFormat::of_template(source).map(|format| format.name);
        assert_eq!(of("{{ '<tool_call>' }}"), Some("hermes"));
        assert_eq!(of("'[TOOL_CALLS] [' …"), Some("mistral"));
        assert_eq!(of("'[TOOL_CALLS]' + name + '[ARGS]'"), Some("mistral_args"));
        assert_eq!(of("'<|tool_call|>' + calls"), Some("granite"));
        assert_eq!(of("<function=name>{…}</function>"), Some("functionary"));
        assert_eq!(of(r#"'", "parameters": '"#), Some("llama3"));
        assert_eq!(of("<tool_call>\n<function=f>\n<parameter=x>"), None);
        assert_eq!(of("{{ message.content }}"), None);
    }

    #[test]
    fn names_are_unique() {
        for format in FORMATS {
            assert_eq!(ToolFormat::named(format.name), Some(format));
        }
    }

    #[track_caller]
    fn check_written(format: &str, expected: &str) {
        let calls = [("f", r#"{"a": 1}"#), ("g", "{}")];
        let format = ToolFormat::named(format).unwrap();
        assert_eq!(format.write(&calls), expected);
    }

    #[test]
    fn each_format_is_written_as_its_models_do() {
        check_written(
            "hermes",
            "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>\n\
             <tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>",
        );
        check_written(
            "mistral",
            r#"[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {}}]"#,
        );
        check_written(
            "mistral_args",
            r#"[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]g[ARGS]{}"#,
        );
        check_written(
            "functionary",
            r#"<function=f>{"a": 1}</function><function=g>{}</function>"#,
        );
    }
}
