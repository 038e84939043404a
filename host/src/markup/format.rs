//! The types that describe a format of tool calls. The formats themselves are in `table.rs`.

/// How a family of models writes tool calls.
///
/// An answer has blocks of calls: `begin`, `open`, calls with `separator` between them, `end`. White space in these
/// texts is written as it stands. In an answer that is read, there may be any white space or none in its place.
#[derive(Debug, PartialEq, Eq)]
pub struct ToolFormat {
    /// The name of the format, for `tool_format` in a model's configuration.
    pub name: &'static str,
    /// Texts that identify the format: a chat template with one of them belongs to a model that writes this format.
    pub signs: &'static [&'static str],
    /// Texts that rule the format out if the chat template contains one of them.
    pub other_signs: &'static [&'static str],
    /// Marks that begin a block. The first one is used to write calls. All of them are recognized in answers.
    pub begin: &'static [&'static str],
    /// Marks of blocks whose calls have another form. Answers may have such calls, but none are written.
    pub other_begin: &'static [OtherBegin],
    /// Whether an answer that is only JSON may be a call too, without `begin`.
    pub may_be_bare: bool,
    /// The text between `begin` and the first call.
    pub open: &'static str,
    /// How a single call is written.
    pub call: CallFormat,
    /// The text between calls of one block. None: a block has one call.
    pub separator: Option<&'static str>,
    /// The text behind `begin` which announces that text follows instead of a call. Models with such a format write `begin`
    /// before everything that they say, and their templates end the prompt with `begin`. Empty: text needs no mark.
    pub text: &'static str,
    /// The text that ends a block. It may be empty.
    pub end: &'static str,
    /// The text between blocks.
    pub between: &'static str,
    /// How a call's number within the answer is written, counted from 0. In a named call, this text and the number follow the
    /// function's name. In an object, the number is the first member, and this is its key. Empty: calls have no number.
    pub number: &'static str,
    /// The call ids that the model's templates accept.
    pub ids: CallIds,
    /// Whether the models know results as messages of the role `tool`, although their templates write no calls.
    pub has_tool_role: bool,
}

/// A mark that begins a block with one call in another form: the function's name, one of `after`, the arguments, and what ends
/// calls of the format.
#[derive(Debug, PartialEq, Eq)]
pub struct OtherBegin {
    pub mark: &'static str,
    pub after: &'static [&'static str],
}

/// The form of the call ids in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallIds {
    /// Any text.
    Any,
    /// Nine letters and digits.
    Short,
    /// `functions.NAME:NUMBER`, where calls of the conversation are counted from 0. The templates write the id instead of the name.
    Numbered,
}

/// How a single call is written: the function's name and the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFormat {
    /// `{"name": "f", "arguments": {…}}`. The keys may differ.
    Object {
        name: &'static str,
        arguments: &'static str,
    },
    /// `before`, the function's name, `after`, the arguments, `end`.
    Named {
        before: &'static str,
        after: &'static str,
        arguments: Arguments,
        end: &'static str,
    },
}

/// How the arguments of a named call are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arguments {
    Json,
    Tagged(Tagged),
    Pairs(Pairs),
}

/// Each argument stands between tags. Strings are written as they are, other values as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tagged {
    pub before_key: &'static str,
    pub after_key: &'static str,
    pub after_value: &'static str,
}

/// Arguments with separators between them. The notation differs from JSON in keys, strings and constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pairs {
    /// Between a key and its value.
    pub assign: &'static str,
    /// Between arguments, and between the members of lists and objects.
    pub separator: &'static str,
    /// Marks that stand before and behind a string. The first one is used for writing. All of them are recognized.
    pub quotes: &'static [&'static str],
    /// Texts before and behind a key of an object that is a value.
    pub inner_key: [&'static str; 2],
    /// How `true`, `false` and `null` are written.
    pub words: [&'static str; 3],
}

impl ToolFormat {
    /// A call of a function up to its arguments. If calls have numbers, these are the texts before and behind the number.
    pub fn head(&self, function: &str) -> Vec<String> {
        let number = self.number;
        match self.call {
            CallFormat::Object { name, arguments } if number.is_empty() => {
                vec![format!(r#"{{"{name}": "{function}", "{arguments}": "#)]
            }
            CallFormat::Object { name, arguments } => vec![
                format!(r#"{{"{number}": ""#),
                format!(r#"", "{name}": "{function}", "{arguments}": "#),
            ],
            CallFormat::Named { before, after, .. } if number.is_empty() => {
                vec![format!("{before}{function}{after}")]
            }
            CallFormat::Named { before, after, .. } => {
                vec![format!("{before}{function}{number}"), after.to_owned()]
            }
        }
    }

    /// All marks that are recognized in answers.
    pub fn marks(&self) -> impl Iterator<Item = &'static str> + use<> {
        let others = self.other_begin.iter().map(|other| other.mark);
        self.begin.iter().copied().chain(others)
    }

    /// All texts that calls are written with. Control tokens in these texts count as text of an answer.
    pub fn texts(&self) -> Vec<&'static str> {
        let mut texts = self.begin.to_vec();
        texts.extend([self.open, self.text, self.end, self.between]);
        texts.extend(self.separator);
        if let CallFormat::Named {
            before,
            after,
            arguments,
            end,
        } = self.call
        {
            texts.extend([before, after, end, "[CALL_ID]"]);
            match arguments {
                Arguments::Json => {}
                Arguments::Tagged(tags) => {
                    texts.extend([tags.before_key, tags.after_key, tags.after_value]);
                }
                Arguments::Pairs(pairs) => texts.extend(pairs.quotes),
            }
        }
        texts
    }

    /// The mark that templates of this format end a prompt with. It belongs to the answer.
    pub fn prompted(&self) -> Option<&'static str> {
        match self.text {
            "" => None,
            _ => self.begin.first().copied(),
        }
    }

    /// The text that a chat template writes for an argument of this name, if it writes calls in this format.
    pub fn argument_sign(&self, key: &str) -> String {
        match self.call {
            CallFormat::Object { .. }
            | CallFormat::Named {
                arguments: Arguments::Json,
                ..
            } => format!("\"{key}\":"),
            CallFormat::Named {
                arguments: Arguments::Tagged(tags),
                ..
            } => format!("{}{key}{}", tags.before_key, tags.after_key.trim_end()),
            CallFormat::Named {
                arguments: Arguments::Pairs(pairs),
                ..
            } => format!("{key}{}", pairs.assign),
        }
    }
}
