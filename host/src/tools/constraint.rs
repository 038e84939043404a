//! The grammar of answers that may call tools.

mod marks;
mod room;
mod values;

use serde_json::Value;

pub use self::marks::Marks;
use self::{room::GrammarRoom, values::Values};
use crate::{
    grammar::{Grammar, GrammarError, Pattern, TextRules, regex_escaped},
    markup::{
        Arguments, CallFormat, CallRules, Frame, InPrompt, OtherBegin, Reasoning, ToolFormat,
    },
};

/// The rules of an answer that may call tools.
#[derive(Clone, Debug)]
pub struct AnswerRules {
    /// The rules of its calls.
    pub calls: CallRules,
    /// The reasoning that may come first. None if the model does not reason.
    pub reasoning: Option<Reasoning>,
    /// The schema of an answer without calls. None: such an answer may be any text.
    pub answer: Option<Value>,
}

impl AnswerRules {
    /// The grammar of the answer. `marks` are the model's control tokens in calls and reasoning.
    ///
    /// # Errors
    /// The schemas of the functions are too large for a grammar.
    pub fn grammar(&self, marks: &Marks) -> Result<Grammar, GrammarError> {
        let (call, room) = (&self.calls.format.call, GrammarRoom::default());
        let functions = self.calls.functions.iter();
        let arguments =
            functions.map(|function| arguments_of(call, &function.parameters, marks, &room));
        let writer = AnswerGrammarWriter {
            rules: self,
            marks,
            arguments: arguments.collect::<Result<_, _>>()?,
        };
        Ok(Grammar::Patterns(writer.whole()))
    }
}

/// The patterns before an answer in JSON: reasoning, and the text that opens the answer.
pub fn before_answer(reasoning: &Reasoning, marks: &Marks) -> Vec<Pattern> {
    let opening = marks.split(reasoning.tags.frame.answer);
    [before_forced(reasoning, marks), opening].concat()
}

/// The grammar of arguments that fit this schema. If the format writes each argument between tags, they have its notation,
/// otherwise they are JSON. The texts of control tokens stay text.
///
/// # Errors
/// The schema is too large for a grammar.
pub fn arguments(format: &str, schema: &Value) -> Result<Vec<Pattern>, GrammarError> {
    match ToolFormat::named(format).map(|format| format.call) {
        Some(
            call @ CallFormat::Named {
                arguments: Arguments::Tagged(_),
                ..
            },
        ) => arguments_of(&call, schema, &Marks::default(), &GrammarRoom::default()),
        _ => Ok(vec![Pattern::Json(schema.clone())]),
    }
}

/// The grammar of a function's arguments in a format of calls.
fn arguments_of(
    call: &CallFormat,
    schema: &Value,
    marks: &Marks,
    room: &GrammarRoom,
) -> Result<Vec<Pattern>, GrammarError> {
    let values = Values::new(schema, marks, room);
    match call {
        CallFormat::Named {
            arguments: Arguments::Tagged(tags),
            ..
        } => values.tagged(*tags),
        CallFormat::Named {
            arguments: Arguments::Pairs(pairs),
            ..
        } => values.pairs(*pairs),
        _ => Ok(vec![Pattern::Json(schema.clone())]),
    }
}

/// Reasoning that may come before calls or JSON. Behind reasoning that the prompt closed, none may come.
fn before_forced(reasoning: &Reasoning, marks: &Marks) -> Vec<Pattern> {
    let turn = marks.split(reasoning.tags.frame.turn);
    let rest = [closing(reasoning, marks), vec![Pattern::Space], turn].concat();
    match reasoning.in_prompt {
        InPrompt::Opened => rest,
        InPrompt::Closed => Vec::new(),
        InPrompt::Nothing => {
            let all = [marks.split(&reasoning.tags.open), rest].concat();
            vec![Pattern::OneOf(vec![all, Vec::new()])]
        }
    }
}

/// The rest of reasoning whose opening tag is written already.
fn closing(reasoning: &Reasoning, marks: &Marks) -> Vec<Pattern> {
    marks.until(TextRules::default(), &reasoning.tags.close)
}

struct AnswerGrammarWriter<'a> {
    rules: &'a AnswerRules,
    marks: &'a Marks,
    /// The arguments of each function.
    arguments: Vec<Vec<Pattern>>,
}

impl AnswerGrammarWriter<'_> {
    fn whole(&self) -> Vec<Pattern> {
        let is_forced = self.rules.calls.are_forced() || self.rules.answer.is_some();
        match &self.rules.reasoning {
            None => self.answer(&TextRules::default()),
            Some(reasoning) if is_forced => {
                let before = before_forced(reasoning, self.marks);
                [before, self.answer(&TextRules::default())].concat()
            }
            Some(reasoning) => self.reasoning_and_text(reasoning),
        }
    }

    /// Optional reasoning, then text and calls. The beginning of the answer decides whether it has reasoning, so that a call's
    /// mark within reasoning begins no call.
    fn reasoning_and_text(&self, reasoning: &Reasoning) -> Vec<Pattern> {
        let behind = self.answer(&TextRules::default());
        let rest = [closing(reasoning, self.marks), behind].concat();
        if reasoning.in_prompt == InPrompt::Opened {
            return rest;
        }
        let open = &reasoning.tags.open;
        let (open, text) = match &self.marks.split(open)[..] {
            [Pattern::Text(_)] => {
                let open = regex_escaped(open);
                let text = TextRules::default().but_not(format!(r"\s*{open}(?s:.*)"));
                let opening = TextRules::matching(format!("{SPACE}{open}"));
                (vec![Pattern::Free(opening)], text)
            }
            marks => (marks.to_vec(), TextRules::default()),
        };
        let with_reasoning = [open, rest].concat();
        vec![Pattern::OneOf(vec![with_reasoning, self.answer(&text)])]
    }

    /// The answer behind any reasoning. `first` are the rules of the text that the answer begins with.
    fn answer(&self, first: &TextRules) -> Vec<Pattern> {
        match (self.rules.calls.are_forced(), &self.rules.answer) {
            (true, _) => self.calls(),
            (false, Some(schema)) => {
                let mut answer = self.marks.split(self.frame().answer);
                answer.push(Pattern::Json(schema.clone()));
                vec![Pattern::OneOf(vec![self.calls(), answer])]
            }
            (false, None) if self.rules.calls.format.may_be_bare => self.text_or_bare_calls(first),
            (false, None) => self.text_and_calls(first),
        }
    }

    /// Calls, or text that does not begin like a call.
    fn text_or_bare_calls(&self, first: &TextRules) -> Vec<Pattern> {
        let text = self.text_marks().fold(first.clone(), TextRules::without);
        let text = text.but_not(self.begun_bare_call());
        vec![Pattern::OneOf(vec![
            self.calls(),
            vec![Pattern::Free(text)],
        ])]
    }

    /// Any text, in which a call follows each mark of a call.
    fn text_and_calls(&self, first: &TextRules) -> Vec<Pattern> {
        let text = |rules: &TextRules| {
            let rules = self.text_marks().fold(rules.clone(), TextRules::without);
            self.text(rules)
        };
        let plain = TextRules::default();
        let more = vec![Pattern::Many(self.text_and_call(&plain))];
        if *first == plain {
            return [more, text(&plain)].concat();
        }
        let with_calls = [self.text_and_call(first), more, text(&plain)].concat();
        vec![Pattern::OneOf(vec![text(first), with_calls])]
    }

    fn text_and_call(&self, rules: &TextRules) -> Vec<Pattern> {
        let alternatives = self.rules.calls.format.begin.iter().map(|mark| {
            let until = match &self.marks.split(mark)[..] {
                [Pattern::Token(_), ..] => {
                    [self.text(rules.clone()), self.marks.split(mark)].concat()
                }
                _ => self
                    .marks
                    .until(self.before_other_calls(rules.clone()), mark),
            };
            let behind = match self.rules.calls.format.text {
                "" => self.behind(mark),
                text => vec![Pattern::OneOf(vec![
                    self.behind(mark),
                    self.marks.split(text),
                ])],
            };
            [until, behind].concat()
        });
        let others = self.rules.calls.format.other_begin.iter();
        let others = others.flat_map(|other| self.other_calls(rules, other));
        vec![Pattern::OneOf(alternatives.chain(others).collect())]
    }

    /// Calls in another form: one at once, and one behind text and the beginning of another turn.
    fn other_calls(&self, rules: &TextRules, other: &OtherBegin) -> Vec<Vec<Pattern>> {
        let call = self.other_call(other);
        let mark = self.marks.split(other.mark);
        let mut calls = vec![[mark, call.clone()].concat()];
        let turn = format!("{}{}", self.frame().turn, other.mark);
        if let turn @ [Pattern::Token(_), ..] = &self.marks.split(&turn)[..] {
            calls.push([self.text(rules.clone()), turn.to_vec(), call].concat());
        }
        calls
    }

    /// The rest of a call in another form, from behind its mark.
    fn other_call(&self, other: &OtherBegin) -> Vec<Pattern> {
        let functions = self.rules.calls.functions.iter().zip(&self.arguments);
        let calls = functions.map(|(function, arguments)| {
            let after = other.after.iter().map(|after| self.marks.split(after));
            let name = vec![Pattern::Text(function.name.clone())];
            let after = vec![Pattern::OneOf(after.collect())];
            [name, after, arguments.clone()].concat()
        });
        let mut call = vec![Pattern::OneOf(calls.collect())];
        if let CallFormat::Named { end, .. } = self.rules.calls.format.call {
            call.extend(self.marks.split(end));
        }
        call
    }

    fn frame(&self) -> Frame {
        let reasoning = self.rules.reasoning.as_ref();
        reasoning.map_or_else(Frame::default, |reasoning| reasoning.tags.frame)
    }

    /// Adds to the rules of a text that it does not begin with a call in another form. Such a call begins in the middle of a
    /// header, which is where a text begins. Excluding the marks everywhere in the text would make the lexer too large.
    fn before_other_calls(&self, rules: TextRules) -> TextRules {
        let others = self.rules.calls.format.other_begin.iter();
        let others = others.map(|other| format!(r"\w*{}(?s:.*)", regex_escaped(other.mark)));
        others.fold(rules, TextRules::but_not)
    }

    /// Text with the control tokens that may stand in it. The text behind such a token must not complete the mark of a
    /// call.
    fn text(&self, rules: TextRules) -> Vec<Pattern> {
        let rules = self.before_other_calls(rules);
        let frame = self.frame();
        let tokens = self.marks.within(frame.texts()).into_iter().map(|token| {
            let rests = self.rules.calls.format.begin.iter().filter_map(|mark| {
                match &self.marks.split(mark)[..] {
                    [Pattern::Token(first), Pattern::Text(rest)] if *first == token => {
                        Some(format!("{}(?s:.*)", regex_escaped(rest)))
                    }
                    _ => None,
                }
            });
            let behind = rests.fold(rules.clone(), TextRules::but_not);
            vec![Pattern::Token(token), Pattern::Free(behind)]
        });
        let tokens: Vec<_> = tokens.collect();
        let text = vec![Pattern::Free(rules.clone())];
        match tokens.is_empty() {
            true => text,
            false => [text, vec![Pattern::Many(vec![Pattern::OneOf(tokens)])]].concat(),
        }
    }

    /// Marks of calls that consist of text only, without control tokens.
    fn text_marks(&self) -> impl Iterator<Item = &'static str> {
        let is_text = |mark: &&str| matches!(self.marks.split(mark)[..], [Pattern::Text(_)]);
        self.rules
            .calls
            .format
            .begin
            .iter()
            .copied()
            .filter(is_text)
    }

    /// One call, or several if that is allowed.
    fn calls(&self) -> Vec<Pattern> {
        let format = self.rules.calls.format;
        let mark = format.begin.first().copied().unwrap_or_default();
        let mut block = self.marks.split(mark);
        if format.may_be_bare {
            block = vec![Pattern::OneOf(vec![block, Vec::new()])];
        }
        block.extend(self.behind(mark));
        if !self.rules.calls.is_parallel || format.separator.is_some() {
            return block;
        }
        let more = [self.marks.split(format.between), block.clone()].concat();
        [block, vec![Pattern::Many(more)]].concat()
    }

    /// The rest of a block of calls, from behind the mark that begins it.
    fn behind(&self, mark: &str) -> Vec<Pattern> {
        let format = self.rules.calls.format;
        let is_begun = matches!(format.call, CallFormat::Named { before, .. } if before == mark);
        let mut patterns = match is_begun {
            true => Vec::new(),
            false => self.marks.split(format.open),
        };
        patterns.push(self.one_call(is_begun));
        if let Some(separator) = format.separator
            && self.rules.calls.is_parallel
        {
            let mut more = self.marks.split(separator);
            more.push(self.one_call(false));
            patterns.push(Pattern::Many(more));
        }
        patterns.extend(self.marks.split(format.end));
        patterns
    }

    /// A call of any of the functions. `is_begun`: the text before the name was written already.
    fn one_call(&self, is_begun: bool) -> Pattern {
        let functions = self.rules.calls.functions.iter().zip(&self.arguments);
        let calls = functions.map(|(function, arguments)| {
            let arguments = arguments.clone();
            self.call(&function.name, arguments, is_begun)
        });
        Pattern::OneOf(calls.collect())
    }

    fn call(&self, name: &str, arguments: Vec<Pattern>, is_begun: bool) -> Vec<Pattern> {
        let format = self.rules.calls.format;
        match format.call {
            CallFormat::Object { .. } if format.may_be_bare => {
                let head = vec![Pattern::Free(TextRules::matching(bare_head(name)))];
                let tail = TextRules::matching(format!(r"{SPACE}\}}"));
                [head, arguments, vec![Pattern::Free(tail)]].concat()
            }
            CallFormat::Object { .. } => {
                let end = Pattern::Text("}".to_owned());
                [self.head(name, ""), arguments, vec![end]].concat()
            }
            CallFormat::Named { before, end, .. } => {
                let head = self.head(name, if is_begun { before } else { "" });
                [head, arguments, self.marks.split(end)].concat()
            }
        }
    }

    /// A call of a function up to its arguments, from behind the text `begun`.
    fn head(&self, name: &str, begun: &str) -> Vec<Pattern> {
        let parts = self.rules.calls.format.head(name).into_iter().enumerate();
        let parts = parts.flat_map(|(index, part)| match index {
            0 => self.marks.split(part.strip_prefix(begun).unwrap_or(&part)),
            _ => {
                let number = Pattern::Free(TextRules::matching(NUMBER));
                [vec![number], self.marks.split(&part)].concat()
            }
        });
        parts.collect()
    }

    /// A regular expression of texts that the parser may take for the beginning of a call without a mark.
    fn begun_bare_call(&self) -> String {
        let names = self.rules.calls.functions.iter();
        let names: Vec<_> = names
            .map(|function| regex_escaped(&function.name))
            .collect();
        let name = format!(r#""(name|function)"\s*:\s*"({})""#, names.join("|"));
        let early = r#""(arguments|parameters)"\s*:"#;
        format!(r"{BARE_START}({name}|{early})(?s:.*)")
    }
}

/// A regular expression of the beginning of an object, with any members that may stand before the name.
const BARE_START: &str = r#"\s*\{\s*("(type|id)"\s*:\s*"[^"\\]*"\s*,\s*)*"#;

/// A regular expression of the number of a call.
const NUMBER: &str = "[0-9]{1,3}";

/// A regular expression of white space that may be written. Its length is limited, because weak models repeat white
/// space.
const SPACE: &str = r"[ \t\r\n]{0,4}";

/// A regular expression of a call without a mark, up to its arguments.
fn bare_head(name: &str) -> String {
    let name = regex_escaped(name);
    let extra = format!(r#"("(type|id)"{SPACE}:{SPACE}"[^"\\]{{0,64}}"{SPACE},{SPACE}){{0,2}}"#);
    format!(
        r#"{SPACE}\{{{SPACE}{extra}"(name|function)"{SPACE}:{SPACE}"{name}"{SPACE},{SPACE}"(arguments|parameters)"{SPACE}:{SPACE}"#
    )
}

#[cfg(test)]
mod tests;
