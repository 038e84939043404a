use serde_json::Value;

use super::format::{Body, ToolFormat};
use crate::{
    grammar::{Grammar, Piece},
    reply::Thoughts,
};

/// What an answer that may call tools must look like.
#[derive(Clone, Debug)]
pub struct CallRules {
    /// How calls are written.
    pub format: &'static ToolFormat,
    /// What may be called, and the schema of its arguments.
    pub tools: Vec<(String, Value)>,
    /// Whether the answer is nothing but calls, at least one.
    pub is_forced: bool,
    /// Whether there may be more than one call.
    pub is_parallel: bool,
    /// What may stand before all that, for models that think.
    pub thoughts: Option<Thoughts>,
    /// What an answer without calls must look like. None: any text.
    pub answer: Option<Value>,
}

impl CallRules {
    /// The grammar of the answer. `control` gives the control token that is written like this, if there is one.
    pub fn grammar(&self, control: impl Fn(&str) -> Option<u32>) -> Grammar {
        let writer = Writer {
            rules: self,
            control,
        };
        let first = self.thoughts.iter();
        let first = first.flat_map(|first| thoughts(first, &writer.control));
        Grammar::Pieces(first.chain(writer.answer()).collect())
    }
}

/// Thoughts that may stand before an answer.
pub fn thoughts(thoughts: &Thoughts, control: impl Fn(&str) -> Option<u32>) -> Vec<Piece> {
    let mut rest = match mark(&thoughts.tags.close, &control) {
        Piece::Text(text) => vec![Piece::Until(text)],
        token => vec![Piece::Any, token],
    };
    rest.push(Piece::Space);
    if thoughts.are_open {
        return rest;
    }
    let all = [vec![mark(&thoughts.tags.open, &control)], rest].concat();
    vec![Piece::OneOf(vec![all, Vec::new()])]
}

/// A text that tells calls or thoughts from other text, or the control token that is written like it.
fn mark(text: &str, control: impl Fn(&str) -> Option<u32>) -> Piece {
    match control(text) {
        Some(token) => Piece::Token(token),
        None => Piece::Text(text.to_owned()),
    }
}

struct Writer<'a, C> {
    rules: &'a CallRules,
    control: C,
}

impl<C: Fn(&str) -> Option<u32>> Writer<'_, C> {
    fn answer(&self) -> Vec<Piece> {
        match (self.rules.is_forced, &self.rules.answer) {
            (true, _) => self.calls(),
            (false, Some(schema)) => {
                let answer = vec![Piece::Json(schema.clone())];
                vec![Piece::OneOf(vec![self.calls(), answer])]
            }
            (false, None) => self.text_and_calls(),
        }
    }

    fn mark(&self, text: &str) -> Piece {
        mark(text, &self.control)
    }

    /// Any text, in which each mark of a call is followed by one.
    fn text_and_calls(&self) -> Vec<Piece> {
        let format = self.rules.format;
        if format.may_be_bare {
            let heads = self.rules.tools.iter().map(|(name, _)| self.head(name));
            let text = Piece::NotBeginning(heads.collect());
            return vec![Piece::OneOf(vec![self.calls(), vec![text]])];
        }
        let behind = self.behind_mark();
        match self.mark(format.begin) {
            Piece::Text(mark) => {
                let call = [vec![Piece::Until(mark.clone())], behind].concat();
                vec![Piece::Many(call), Piece::Without(mark)]
            }
            token => {
                let call = [vec![Piece::Any, token], behind].concat();
                vec![Piece::Many(call), Piece::Any]
            }
        }
    }

    /// One call, or several if they may be.
    fn calls(&self) -> Vec<Piece> {
        let format = self.rules.format;
        let mut call = match format.may_be_bare {
            true => Vec::new(),
            false => vec![self.mark(format.begin)],
        };
        call.extend(self.behind_mark());
        let has_list = matches!(format.body, Body::List { .. });
        if !self.rules.is_parallel || has_list {
            return call;
        }
        let separator = match format.body {
            Body::Object { .. } if format.may_be_bare => "; ",
            Body::Object { .. } => "\n",
            Body::List { .. } | Body::Named { .. } => "",
        };
        let more = [vec![Piece::Text(separator.to_owned())], call.clone()].concat();
        [call, vec![Piece::Many(more)]].concat()
    }

    /// What comes behind the mark that begins a call or a list of them.
    fn behind_mark(&self) -> Vec<Piece> {
        let bodies = self.rules.tools.iter();
        let body = Piece::OneOf(
            bodies
                .map(|(name, schema)| self.body(name, schema))
                .collect(),
        );
        let text = |text: &str| Piece::Text(text.to_owned());
        let end = self.rules.format.end;
        match self.rules.format.body {
            Body::Object { .. } if end.is_empty() => vec![body],
            Body::Object { .. } => vec![text("\n"), body, text("\n"), self.mark(end)],
            Body::List { .. } if self.rules.is_parallel => {
                let more = Piece::Many(vec![text(", "), body.clone()]);
                vec![text("["), body, more, text("]")]
            }
            Body::List { .. } => vec![text("["), body, text("]")],
            Body::Named { .. } if end.is_empty() => vec![body],
            Body::Named { .. } => vec![body, self.mark(end)],
        }
    }

    fn body(&self, name: &str, schema: &Value) -> Vec<Piece> {
        let arguments = Piece::Json(schema.clone());
        match self.rules.format.body {
            Body::Object { .. } | Body::List { .. } => {
                let head = Piece::Text(self.head(name));
                vec![head, arguments, Piece::Text("}".to_owned())]
            }
            Body::Named { separator } => {
                let name = Piece::Text(name.to_owned());
                vec![name, self.mark(separator), arguments]
            }
        }
    }

    /// A call up to its arguments.
    fn head(&self, name: &str) -> String {
        let arguments = match self.rules.format.body {
            Body::Object { arguments } | Body::List { arguments } => arguments,
            Body::Named { .. } => "arguments",
        };
        format!(r#"{{"name": "{name}", "{arguments}": "#)
    }
}

#[cfg(test)]
mod tests;
