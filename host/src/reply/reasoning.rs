use crate::tools::begun;

/// What a model writes around its thoughts, when it thinks before it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReasoningTags {
    /// For example `<think>`.
    pub open: String,
    /// For example `</think>`.
    pub close: String,
}

/// Thoughts that an answer may begin with.
#[derive(Clone, Debug)]
pub struct Thoughts {
    pub tags: ReasoningTags,
    /// Whether the prompt has opened them already.
    pub are_open: bool,
}

/// Tags of known models.
const KNOWN: [(&str, &str); 6] = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<seed:think>", "</seed:think>"),
    ("<thought>", "</thought>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
];

impl ReasoningTags {
    /// Tags of one's own.
    pub fn new(open: &str, close: &str) -> Self {
        Self {
            open: open.to_owned(),
            close: close.to_owned(),
        }
    }

    /// Those that a chat template has in it, as templates of models that think do.
    pub fn of_template(source: &str) -> Option<Self> {
        let known = KNOWN.iter().find(|(_, close)| source.contains(close));
        known.map(|(open, close)| Self::new(open, close))
    }

    /// Whether a text ends within thoughts.
    pub fn are_open_in(&self, text: &str) -> bool {
        text.rfind(&self.open) > text.rfind(&self.close)
    }
}

/// A piece of an answer, told apart. Both may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    pub reasoning: String,
    pub text: String,
}

/// Tells thoughts and answer apart in a text that comes in pieces. White space around thoughts is dropped.
pub struct ReasoningSplitter {
    tags: ReasoningTags,
    state: State,
    /// What came and is not decided yet.
    held: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing came yet but white space: thoughts stand at the beginning or nowhere.
    Start,
    /// Thoughts were opened, here or in the prompt, and none came yet.
    Opened,
    /// Within thoughts.
    Inside,
    /// Behind thoughts, and nothing came yet but white space.
    Closed,
    /// Within the answer.
    Answer,
}

impl ReasoningSplitter {
    /// At the beginning of an answer.
    pub fn new(thoughts: Thoughts) -> Self {
        Self {
            tags: thoughts.tags,
            state: match thoughts.are_open {
                true => State::Opened,
                false => State::Start,
            },
            held: String::new(),
        }
    }

    /// Whether what comes next is thought.
    pub fn is_reasoning(&self) -> bool {
        matches!(self.state, State::Opened | State::Inside)
    }

    /// Takes the next piece.
    pub fn push(&mut self, piece: &str) -> Split {
        self.held += piece;
        let mut split = Split::default();
        while let Some(state) = self.advance(&mut split) {
            self.state = state;
        }
        split
    }

    /// At the end: what was held back.
    pub fn finish(&mut self) -> Split {
        let held = std::mem::take(&mut self.held);
        match self.state {
            State::Opened | State::Inside => Split {
                reasoning: held.trim_end().to_owned(),
                ..Split::default()
            },
            State::Closed => Split::default(),
            State::Start | State::Answer => Split {
                text: held,
                ..Split::default()
            },
        }
    }

    /// The next state, None where more text has to come first.
    fn advance(&mut self, split: &mut Split) -> Option<State> {
        match self.state {
            State::Start => match self.take_open()? {
                true => Some(State::Opened),
                false => Some(State::Answer),
            },
            // Some models open them once more.
            State::Opened => match self.take_open()? {
                true => Some(State::Opened),
                false => {
                    self.drop_space();
                    Some(State::Inside)
                }
            },
            State::Inside => self.inside(split),
            State::Closed => {
                self.drop_space();
                (!self.held.is_empty()).then_some(State::Answer)
            }
            State::Answer => {
                split.text += &std::mem::take(&mut self.held);
                None
            }
        }
    }

    /// Whether the tag that opens thoughts is next; it is taken then.
    fn take_open(&mut self) -> Option<bool> {
        let next = self.held.trim_start();
        if let Some(rest) = next.strip_prefix(&self.tags.open) {
            self.held = rest.to_owned();
            return Some(true);
        }
        (!self.tags.open.starts_with(next)).then_some(false)
    }

    fn inside(&mut self, split: &mut Split) -> Option<State> {
        if let Some((thought, rest)) = self.held.split_once(&self.tags.close) {
            split.reasoning += thought.trim_end();
            self.held = rest.to_owned();
            return Some(State::Closed);
        }
        let sure = self.held.len() - begun(&self.held, &self.tags.close);
        let sure = self.held[..sure].trim_end().len();
        split.reasoning.extend(self.held.drain(..sure));
        None
    }

    fn drop_space(&mut self) {
        let space = self.held.len() - self.held.trim_start().len();
        self.held.drain(..space);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn splitter(are_open: bool) -> ReasoningSplitter {
        let tags = ReasoningTags::new("<think>", "</think>");
        ReasoningSplitter::new(Thoughts { tags, are_open })
    }

    /// `thoughts|answer`
    fn run<'a>(is_open: bool, pieces: impl IntoIterator<Item = &'a str>) -> String {
        let mut splitter = splitter(is_open);
        let mut whole = Split::default();
        let splits: Vec<_> = pieces
            .into_iter()
            .map(|piece| splitter.push(piece))
            .collect();
        for split in splits.into_iter().chain([splitter.finish()]) {
            whole.reasoning += &split.reasoning;
            whole.text += &split.text;
        }
        format!("{}|{}", whole.reasoning, whole.text)
    }

    #[track_caller]
    fn check(is_open: bool, text: &str, expected: &str) {
        let borders: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        for &first in borders.iter().chain([&text.len()]) {
            for &second in borders.iter().filter(|&&second| second >= first) {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(run(is_open, pieces), expected, "{pieces:?}");
            }
        }
        let characters = text
            .char_indices()
            .map(|(at, c)| &text[at..at + c.len_utf8()]);
        assert_eq!(run(is_open, characters), expected);
    }

    #[test]
    fn thoughts_come_first() {
        let text = "<think>\nLet me\n\nsee </thin </think>\n\nYes. <think>";
        check(false, text, "Let me\n\nsee </thin|Yes. <think>");
        check(false, " \n<think>é</think>ü", "é|ü");
        check(false, "<think>\n\n</think>\n\nYes", "|Yes");
    }

    #[test]
    fn without_thoughts_the_text_is_untouched() {
        for text in ["", " Hi\n", "a <think>b</think>", "<thin", "  ", "</think>"] {
            check(false, text, &format!("|{text}"));
        }
    }

    #[test]
    fn thoughts_may_be_opened_by_the_prompt() {
        check(true, "\nhm\n</think>\n\nYes", "hm|Yes");
        check(true, "<think>\nhm</think>Yes", "hm|Yes");
        check(true, "hm", "hm|");
    }

    #[test]
    fn thoughts_that_are_cut_off_are_thoughts() {
        check(false, "<think>\nhm </thi", "hm </thi|");
        check(true, "", "|");
    }

    #[test]
    fn it_knows_when_it_is_inside() {
        let mut splitter = splitter(false);
        let is_reasoning = ["<thi", "nk>", "x", "</think", ">", "y"].map(|piece| {
            splitter.push(piece);
            splitter.is_reasoning()
        });
        assert_eq!(is_reasoning, [false, true, true, true, false, false]);
    }

    #[test]
    fn tags_are_recognised_by_what_templates_say() {
        let of = |source| ReasoningTags::of_template(source).map(|tags| tags.open);
        assert_eq!(of("content.split('</think>')").as_deref(), Some("<think>"));
        assert_eq!(of("'[/THINK]'").as_deref(), Some("[THINK]"));
        assert_eq!(of("{{ message.content }}"), None);
    }

    #[test]
    fn a_text_may_end_within_thoughts() {
        let tags = ReasoningTags::new("<think>", "</think>");
        assert!(tags.are_open_in("<think>a</think><think>b"));
        assert!(!tags.are_open_in("<think>a</think>"));
        assert!(!tags.are_open_in("a"));
    }
}
