//! The formats of tool calls that families of models write, as data, and how a model's format is found.

use super::format::{Arguments, CallFormat, CallIds, OtherBegin, Pairs, Tagged, ToolFormat};

/// The values that most formats share. An entry of [`FORMATS`] only states what differs.
const PLAIN: ToolFormat = ToolFormat {
    name: "",
    signs: &[],
    other_signs: &[],
    begin: &[],
    other_begin: &[],
    may_be_bare: false,
    open: "",
    call: CallFormat::Object {
        name: "name",
        arguments: "arguments",
    },
    separator: None,
    text: "",
    end: "",
    between: "",
    number: "",
    ids: CallIds::Any,
    has_tool_role: false,
};

/// The notation of keyword arguments in Python.
const PYTHON: Pairs = Pairs {
    assign: "=",
    separator: ", ",
    quotes: &["\"", "'"],
    inner_key: ["\"", "\": "],
    words: ["True", "False", "None"],
};

/// The notation of Gemma's templates. Strings have a mark of their own. Strings in quotation marks are read as in JSON.
const GEMMA: Pairs = Pairs {
    assign: ":",
    separator: ",",
    quotes: &["<|\"|>", "\""],
    inner_key: ["", ":"],
    words: ["true", "false", "null"],
};

/// All formats. A model's format is the first one that is recognized in its chat template.
pub const FORMATS: &[ToolFormat] = &[
    ToolFormat {
        name: "harmony",
        signs: &["<|channel|>analysis", "<|channel|>commentary"],
        begin: &[
            "<|channel|>commentary to=functions.",
            "<|channel|>analysis to=functions.",
        ],
        // The function may also stand before the channel, where templates write it.
        other_begin: &[OtherBegin {
            mark: " to=functions.",
            after: &[
                "<|channel|>commentary json<|message|>",
                "<|channel|>commentary <|constrain|>json<|message|>",
                "<|channel|>analysis json<|message|>",
                "<|channel|>analysis <|constrain|>json<|message|>",
            ],
        }],
        call: CallFormat::Named {
            before: "",
            after: " <|constrain|>json<|message|>",
            arguments: Arguments::Json,
            end: "<|call|>",
        },
        ..PLAIN
    },
    ToolFormat {
        name: "mistral_args",
        signs: &["[ARGS]"],
        begin: &["[TOOL_CALLS]"],
        call: CallFormat::Named {
            before: "",
            after: "[ARGS]",
            arguments: Arguments::Json,
            end: "",
        },
        ids: CallIds::Short,
        ..PLAIN
    },
    ToolFormat {
        name: "mistral",
        signs: &["[TOOL_CALLS]"],
        begin: &["[TOOL_CALLS]"],
        open: "[",
        separator: Some(", "),
        end: "]",
        ids: CallIds::Short,
        ..PLAIN
    },
    ToolFormat {
        name: "deepseek_v3_1",
        signs: &["<｜tool▁sep｜>"],
        other_signs: &["```json"],
        begin: &["<｜tool▁calls▁begin｜>"],
        call: CallFormat::Named {
            before: "<｜tool▁call▁begin｜>",
            after: "<｜tool▁sep｜>",
            arguments: Arguments::Json,
            end: "<｜tool▁call▁end｜>",
        },
        separator: Some(""),
        end: "<｜tool▁calls▁end｜>",
        ..PLAIN
    },
    // DeepSeek V3 and R1, and models distilled from R1.
    ToolFormat {
        name: "deepseek_v3",
        signs: &["<｜tool▁sep｜>"],
        begin: &["<｜tool▁calls▁begin｜>"],
        call: CallFormat::Named {
            before: "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
            after: "\n```json\n",
            arguments: Arguments::Json,
            end: "\n```<｜tool▁call▁end｜>",
        },
        separator: Some("\n"),
        end: "<｜tool▁calls▁end｜>",
        ..PLAIN
    },
    ToolFormat {
        name: "kimi_k2",
        signs: &["<|tool_calls_section_begin|>"],
        begin: &["<|tool_calls_section_begin|>"],
        call: CallFormat::Named {
            before: "<|tool_call_begin|>functions.",
            after: "<|tool_call_argument_begin|>",
            arguments: Arguments::Json,
            end: "<|tool_call_end|>",
        },
        number: ":",
        separator: Some(""),
        end: "<|tool_calls_section_end|>",
        ids: CallIds::Numbered,
        ..PLAIN
    },
    // Command R7B, Command A and later.
    ToolFormat {
        name: "command_r7b",
        signs: &["<|START_ACTION|>"],
        begin: &["<|START_ACTION|>"],
        open: "[\n    ",
        call: CallFormat::Object {
            name: "tool_name",
            arguments: "parameters",
        },
        number: "tool_call_id",
        separator: Some(",\n    "),
        end: "\n]<|END_ACTION|>",
        ..PLAIN
    },
    // Command R and R+, of 2024. Templates have the mark with a line's end, models write it with a space.
    ToolFormat {
        name: "command_r",
        signs: &["Action:\\n```json\\n[", "Action:\n```json\n["],
        begin: &["Action: ```json\n", "Action:\n```json\n"],
        open: "[\n    ",
        call: CallFormat::Object {
            name: "tool_name",
            arguments: "parameters",
        },
        separator: Some(",\n    "),
        end: "\n]```",
        ..PLAIN
    },
    ToolFormat {
        name: "gemma4",
        signs: &["<|tool_call>"],
        begin: &["<|tool_call>"],
        call: CallFormat::Named {
            before: "call:",
            after: "{",
            arguments: Arguments::Pairs(GEMMA),
            end: "}",
        },
        end: "<tool_call|>",
        ..PLAIN
    },
    ToolFormat {
        name: "function_gemma",
        signs: &["<start_function_call>"],
        begin: &["<start_function_call>"],
        call: CallFormat::Named {
            before: "call:",
            after: "{",
            arguments: Arguments::Pairs(Pairs {
                quotes: &["<escape>", "\""],
                ..GEMMA
            }),
            end: "}",
        },
        end: "<end_function_call>",
        ..PLAIN
    },
    ToolFormat {
        name: "lfm2",
        signs: &[
            "<|tool_call_start|>",
            "<|tool_list_start|>",
            "List of tools: [",
        ],
        begin: &["<|tool_call_start|>"],
        open: "[",
        call: CallFormat::Named {
            before: "",
            after: "(",
            arguments: Arguments::Pairs(PYTHON),
            end: ")",
        },
        separator: Some(", "),
        end: "]<|tool_call_end|>",
        has_tool_role: true,
        ..PLAIN
    },
    ToolFormat {
        name: "phi4_mini",
        signs: &["<|/tool_call|>", "<|/tool|>"],
        begin: &["<|tool_call|>"],
        open: "[",
        separator: Some(", "),
        end: "]<|/tool_call|>",
        ..PLAIN
    },
    // Granite 3. Version 3.1 was trained with a token as the mark, but writes the mark as text. Version 4 uses the
    // format `hermes`.
    ToolFormat {
        name: "granite",
        signs: &["<|tool_call|>"],
        begin: &["<|tool_call|>", "<tool_call>"],
        open: "[",
        separator: Some(", "),
        end: "]",
        ..PLAIN
    },
    ToolFormat {
        name: "minimax_m2",
        signs: &["<minimax:tool_call>"],
        begin: &["<minimax:tool_call>"],
        open: "\n",
        call: CallFormat::Named {
            before: "<invoke name=\"",
            after: "\">\n",
            arguments: Arguments::Tagged(Tagged {
                before_key: "<parameter name=\"",
                after_key: "\">",
                after_value: "</parameter>\n",
            }),
            end: "</invoke>\n",
        },
        separator: Some(""),
        end: "</minimax:tool_call>",
        ..PLAIN
    },
    // Smaller models of the family leave out the first mark.
    ToolFormat {
        name: "qwen3_coder",
        signs: &["<parameter="],
        begin: &["<tool_call>", "<function="],
        open: "\n",
        call: CallFormat::Named {
            before: "<function=",
            after: ">\n",
            arguments: Arguments::Tagged(Tagged {
                before_key: "<parameter=",
                after_key: ">\n",
                after_value: "\n</parameter>\n",
            }),
            end: "</function>",
        },
        end: "\n</tool_call>",
        between: "\n",
        ..PLAIN
    },
    // GLM 4.5 and later.
    ToolFormat {
        name: "glm",
        signs: &["<arg_key>"],
        begin: &["<tool_call>"],
        call: CallFormat::Named {
            before: "",
            after: "\n",
            arguments: Arguments::Tagged(Tagged {
                before_key: "<arg_key>",
                after_key: "</arg_key>\n<arg_value>",
                after_value: "</arg_value>\n",
            }),
            end: "",
        },
        end: "</tool_call>",
        between: "\n",
        ..PLAIN
    },
    ToolFormat {
        name: "hermes",
        signs: &["<tool_call>"],
        begin: &["<tool_call>"],
        open: "\n",
        end: "\n</tool_call>",
        between: "\n",
        ..PLAIN
    },
    ToolFormat {
        name: "functionary_v3_2",
        signs: &[">>>all"],
        begin: &[">>>"],
        call: CallFormat::Named {
            before: "",
            after: "\n",
            arguments: Arguments::Json,
            end: "",
        },
        text: "all\n",
        ..PLAIN
    },
    // Functionary 3.1.
    ToolFormat {
        name: "functionary",
        signs: &["<function="],
        begin: &["<function="],
        call: CallFormat::Named {
            before: "",
            after: ">",
            arguments: Arguments::Json,
            end: "</function>",
        },
        ..PLAIN
    },
    ToolFormat {
        name: "llama3",
        signs: &[
            "<|python_tag|>",
            r#""parameters": dictionary"#,
            r#"", "parameters": "#,
        ],
        begin: &["<|python_tag|>"],
        may_be_bare: true,
        call: CallFormat::Object {
            name: "name",
            arguments: "parameters",
        },
        between: "; ",
        ..PLAIN
    },
];

impl ToolFormat {
    /// The format for models whose chat template says nothing about tools.
    pub fn generic() -> &'static Self {
        Self::named("hermes").unwrap_or(&FORMATS[0])
    }

    /// The format of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        FORMATS.iter().find(|format| format.name == name)
    }

    /// The format of the model that this chat template belongs to. None if no format is recognized.
    pub fn of_template(source: &str) -> Option<&'static Self> {
        let has = |sign: &&str| source.contains(sign);
        FORMATS
            .iter()
            .find(|format| format.signs.iter().any(has) && !format.other_signs.iter().any(has))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for format in FORMATS {
            assert_eq!(ToolFormat::named(format.name), Some(format));
        }
    }
}
