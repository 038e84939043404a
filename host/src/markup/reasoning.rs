use serde::{Deserialize, Serialize};

use super::search::{begun, first_of};

/// The tags that a model writes around its reasoning, if it reasons before it answers. Serialized as the two tags, because the
/// frame follows from them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(String, String)", into = "(String, String)")]
pub struct ReasoningTags {
    /// The tag before reasoning, for example `<think>`.
    pub open: String,
    /// The tag after reasoning, for example `</think>`.
    pub close: String,
    /// Other texts around reasoning and answers.
    pub frame: Frame,
}

/// Other texts that a model writes around the parts of an answer. All of them may be empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The text between reasoning and what follows.
    pub turn: &'static str,
    /// The text before the answer.
    pub answer: &'static str,
    /// Texts that may stand in an answer and are not part of its text.
    pub silent: &'static [&'static str],
    /// Headers that may stand in an answer and are not part of its text.
    pub headers: &'static [Header],
    /// Whether reasoning may follow text.
    pub reasons_again: bool,
}

/// A header whose middle varies. The middle may have the control token `within`, and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub begin: &'static str,
    pub within: &'static str,
    pub end: &'static str,
}

/// The reasoning that an answer may begin with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reasoning {
    pub tags: ReasoningTags,
    /// The part of it that the prompt has already.
    pub in_prompt: InPrompt,
}

/// The part of an answer's reasoning that the prompt has already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum InPrompt {
    /// Nothing: the answer may begin with reasoning.
    #[default]
    Nothing,
    /// The opening tag: the answer begins within reasoning.
    Opened,
    /// Closed reasoning, which many templates write if they are not asked for reasoning.
    Closed,
}

/// Tags of known models. The chat templates of these models contain `sign`.
struct KnownTags {
    sign: &'static str,
    open: &'static str,
    close: &'static str,
    frame: Frame,
}

const fn known(open: &'static str, close: &'static str) -> KnownTags {
    const PLAIN: Frame = Frame {
        turn: "",
        answer: "",
        silent: &[],
        headers: &[],
        reasons_again: false,
    };
    KnownTags {
        sign: close,
        open,
        close,
        frame: PLAIN,
    }
}

const fn channel_header(begin: &'static str) -> Header {
    Header {
        begin,
        within: "<|constrain|>",
        end: "<|message|>",
    }
}

const KNOWN: [KnownTags; 8] = [
    // Channels, for example of gpt-oss.
    KnownTags {
        sign: "<|channel|>analysis",
        open: "<|channel|>analysis<|message|>",
        close: "<|end|>",
        frame: Frame {
            turn: "<|start|>assistant",
            answer: "<|channel|>final<|message|>",
            silent: &[
                "<|end|><|start|>assistant",
                "<|start|>assistant",
                "<|channel|>commentary<|message|>",
                "<|return|>",
            ],
            headers: &[
                channel_header("<|channel|>final"),
                channel_header("<|channel|>commentary to=assistant"),
            ],
            reasons_again: true,
        },
    },
    known("<think>", "</think>"),
    known("<thinking>", "</thinking>"),
    known("<seed:think>", "</seed:think>"),
    known("<thought>", "</thought>"),
    known("[THINK]", "[/THINK]"),
    // Cohere's models, which also write marks around answers.
    KnownTags {
        sign: "<|END_THINKING|>",
        open: "<|START_THINKING|>",
        close: "<|END_THINKING|>",
        frame: Frame {
            turn: "",
            answer: "<|START_RESPONSE|>",
            silent: &["<|START_RESPONSE|>", "<|END_RESPONSE|>"],
            headers: &[],
            reasons_again: false,
        },
    },
    // Gemma 4.
    known("<|channel>thought", "<channel|>"),
];

impl ReasoningTags {
    /// Tags with these texts. They get the frame of a known model that has the same tags.
    pub fn new(open: &str, close: &str) -> Self {
        let known = KNOWN
            .iter()
            .find(|known| known.open == open && known.close == close);
        Self {
            open: open.to_owned(),
            close: close.to_owned(),
            frame: known.map(|known| known.frame).unwrap_or_default(),
        }
    }

    /// The known tags that a chat template contains. None: the model does not reason, or its tags are unknown.
    pub fn of_template(source: &str) -> Option<Self> {
        let known = KNOWN.iter().find(|known| source.contains(known.sign));
        known.map(|known| Self::new(known.open, known.close))
    }

    /// The part of the reasoning that an answer has, if it begins with this text.
    pub fn in_begun(&self, text: &str) -> InPrompt {
        let (open, close) = (text.rfind(&self.open), text.rfind(&self.close));
        match close {
            _ if open > close => InPrompt::Opened,
            Some(_) => InPrompt::Closed,
            None => InPrompt::Nothing,
        }
    }

    /// All texts that a model writes around reasoning and answers.
    pub fn texts(&self) -> Vec<&str> {
        let mut texts = vec![self.open.as_str(), self.close.as_str()];
        for text in self.frame.texts() {
            texts.push(text);
        }
        texts
    }
}

impl From<(String, String)> for ReasoningTags {
    fn from((open, close): (String, String)) -> Self {
        Self::new(&open, &close)
    }
}

impl From<ReasoningTags> for (String, String) {
    fn from(tags: ReasoningTags) -> Self {
        (tags.open, tags.close)
    }
}

impl Header {
    /// Reads the header that a text begins with.
    fn read(&self, text: &str) -> Silent {
        let middle = &text[self.begin.len()..];
        match middle.find(self.end) {
            Some(length) if length <= LONGEST_MIDDLE && self.is_middle(&middle[..length]) => {
                Silent::Whole(self.begin.len() + length + self.end.len())
            }
            None if middle.len() < LONGEST_MIDDLE + self.end.len() => Silent::Begun,
            _ => Silent::No(self.begin.len()),
        }
    }

    fn is_middle(&self, text: &str) -> bool {
        !text.replace(self.within, "").contains("<|")
    }
}

impl Frame {
    /// All texts of the frame.
    pub fn texts(&self) -> impl Iterator<Item = &'static str> + Clone + use<> {
        let silent = self.silent.iter().copied();
        let headers = self.headers.iter();
        let headers = headers.flat_map(|header| [header.begin, header.within, header.end]);
        let texts = [self.turn, self.answer].into_iter();
        texts.chain(silent).chain(headers)
    }
}

/// A piece of an answer, separated into reasoning and text. Both may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    pub reasoning: String,
    pub text: String,
}

impl Split {
    /// An empty piece with room for what usually comes at once.
    pub fn with_room() -> Self {
        Self {
            reasoning: String::with_capacity(ROOM),
            text: String::with_capacity(ROOM),
        }
    }

    /// Empties the piece and keeps its memory.
    pub fn clear(&mut self) {
        self.reasoning.clear();
        self.text.clear();
    }
}

/// Bytes that buffers have from the start: more than what usually comes at once, or waits to be decided.
const ROOM: usize = 256;

/// Most bytes in the middle of a header. A longer text is no header.
const LONGEST_MIDDLE: usize = 64;

/// The recognized part of a text that the answer leaves out.
enum Silent {
    /// The beginning of a header. More text has to come first.
    Begun,
    /// The tag before reasoning.
    Reasoning,
    /// The whole text, of this length.
    Whole(usize),
    /// Only the beginning of a header, of this length. What follows makes it text.
    No(usize),
}

/// Separates reasoning and text in an answer that comes in pieces. White space around reasoning is dropped.
pub struct ReasoningSplitter {
    tags: ReasoningTags,
    state: SplitterState,
    /// Text that came and is not decided yet.
    held: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SplitterState {
    /// Nothing but white space came so far. Reasoning may begin here.
    Start,
    /// Reasoning was opened, in the answer or by the prompt, but none came so far.
    Opened,
    /// Within reasoning.
    Inside,
    /// Behind reasoning. Nothing but white space came since.
    Closed,
    /// Within the text of the answer.
    Answer,
}

impl ReasoningSplitter {
    /// A splitter at the beginning of an answer.
    pub fn new(reasoning: Reasoning) -> Self {
        Self {
            tags: reasoning.tags,
            state: match reasoning.in_prompt {
                InPrompt::Opened => SplitterState::Opened,
                // Some models reason again behind reasoning that the prompt closed.
                InPrompt::Nothing | InPrompt::Closed => SplitterState::Start,
            },
            held: String::with_capacity(ROOM),
        }
    }

    /// Whether reasoning comes next.
    pub fn is_reasoning(&self) -> bool {
        matches!(self.state, SplitterState::Opened | SplitterState::Inside)
    }

    /// Whether reasoning comes next, or may come later.
    pub fn may_reason(&self) -> bool {
        let is_over = matches!(self.state, SplitterState::Closed | SplitterState::Answer);
        !is_over || self.tags.frame.reasons_again
    }

    /// How many bytes at the end of reasoning may be the beginning of the closing tag.
    pub fn begun_close(&self) -> usize {
        match self.is_reasoning() {
            true => begun(&self.held, &self.tags.close),
            false => 0,
        }
    }

    /// Takes the next piece.
    pub fn push(&mut self, piece: &str) -> Split {
        let mut split = Split::default();
        self.push_into(piece, &mut split);
        split
    }

    /// Takes the next piece, and appends what it decides to `split`. Once the buffers have their size, this allocates nothing.
    pub fn push_into(&mut self, piece: &str, split: &mut Split) {
        self.held += piece;
        while let Some(state) = self.advance(split) {
            self.state = state;
        }
    }

    /// Bytes of text that came and are not decided yet.
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Ends the answer. Returns the text that was held back. If the answer was cut off, the beginning of a tag at its
    /// end is dropped.
    pub fn finish(&mut self, is_cut_off: bool) -> Split {
        let mut held = std::mem::take(&mut self.held);
        if is_cut_off {
            held.truncate(held.len() - self.begun_tag(&held));
        }
        match self.state {
            SplitterState::Opened | SplitterState::Inside => Split {
                reasoning: held.trim_end().to_owned(),
                ..Split::default()
            },
            SplitterState::Closed => Split::default(),
            SplitterState::Start | SplitterState::Answer => Split {
                text: held,
                ..Split::default()
            },
        }
    }

    /// The next state. None: more text has to come first.
    fn advance(&mut self, split: &mut Split) -> Option<SplitterState> {
        match self.state {
            SplitterState::Start => match self.take_open()? {
                true => Some(SplitterState::Opened),
                false => Some(SplitterState::Answer),
            },
            // Some models repeat a tag that the prompt has opened.
            SplitterState::Opened => match self.take_open()? {
                true => Some(SplitterState::Opened),
                false => {
                    self.drop_space();
                    Some(SplitterState::Inside)
                }
            },
            SplitterState::Inside => self.inside(split),
            SplitterState::Closed => {
                self.drop_space();
                (!self.held.is_empty()).then_some(SplitterState::Answer)
            }
            SplitterState::Answer => self.answer(split),
        }
    }

    /// How many bytes at the end of a text may be the beginning of a tag or of another text that is left out.
    fn begun_tag(&self, text: &str) -> usize {
        match self.state {
            SplitterState::Start => begun(text, &self.tags.open),
            SplitterState::Opened | SplitterState::Inside => begun(text, &self.tags.close),
            SplitterState::Closed | SplitterState::Answer => match self.first_silent(text) {
                Some((at, Silent::Begun)) => text.len() - at,
                _ => self.begun_silent(text),
            },
        }
    }

    /// Texts that are left out of the answer's text, or begin what is left out.
    fn silent(&self) -> impl Iterator<Item = &str> {
        let frame = &self.tags.frame;
        let again = frame.reasons_again.then_some(self.tags.open.as_str());
        let headers = frame.headers.iter().map(|header| header.begin);
        frame.silent.iter().copied().chain(headers).chain(again)
    }

    /// How many bytes at the end of a text may be the beginning of one that is left out.
    fn begun_silent(&self, text: &str) -> usize {
        let marks = self.silent().map(|mark| begun(text, mark));
        marks.max().unwrap_or(0)
    }

    /// The first text that may be left out, with its position.
    fn first_silent(&self, text: &str) -> Option<(usize, Silent)> {
        let (at, mark) = first_of(text, self.silent())?;
        let mut headers = self.tags.frame.headers.iter();
        let found = match headers.find(|header| header.begin == mark) {
            Some(header) => header.read(&text[at..]),
            None if mark == self.tags.open => Silent::Reasoning,
            None => Silent::Whole(mark.len()),
        };
        Some((at, found))
    }

    fn answer(&mut self, split: &mut Split) -> Option<SplitterState> {
        let Some((at, found)) = self.first_silent(&self.held) else {
            let sure = self.held.len() - self.begun_silent(&self.held);
            split.text.extend(self.held.drain(..sure));
            return None;
        };
        split.text.extend(self.held.drain(..at));
        match found {
            Silent::Begun => return None,
            // The tag stays, because the next state reads it.
            Silent::Reasoning => return Some(SplitterState::Opened),
            Silent::Whole(length) => drop(self.held.drain(..length)),
            Silent::No(length) => split.text.extend(self.held.drain(..length)),
        }
        Some(SplitterState::Answer)
    }

    /// Takes the opening tag if it comes next. Returns whether it did. None: more text has to come first.
    fn take_open(&mut self) -> Option<bool> {
        let next = self.held.trim_start();
        if let Some(rest) = next.strip_prefix(&self.tags.open) {
            self.keep_last(rest.len());
            return Some(true);
        }
        (!self.tags.open.starts_with(next)).then_some(false)
    }

    fn inside(&mut self, split: &mut Split) -> Option<SplitterState> {
        if let Some((reasoning, rest)) = self.held.split_once(&self.tags.close) {
            split.reasoning += reasoning.trim_end();
            self.keep_last(rest.len());
            return Some(SplitterState::Closed);
        }
        let sure = self.held.len() - begun(&self.held, &self.tags.close);
        let sure = self.held[..sure].trim_end().len();
        split.reasoning.extend(self.held.drain(..sure));
        None
    }

    fn drop_space(&mut self) {
        self.keep_last(self.held.trim_start().len());
    }

    /// Drops the held text but for its last bytes.
    fn keep_last(&mut self, bytes: usize) {
        self.held.drain(..self.held.len() - bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn splitter(in_prompt: InPrompt) -> ReasoningSplitter {
        let tags = ReasoningTags::new("<think>", "</think>");
        ReasoningSplitter::new(Reasoning { tags, in_prompt })
    }

    fn channels() -> ReasoningSplitter {
        let tags = ReasoningTags::of_template("<|channel|>analysis").unwrap();
        let in_prompt = InPrompt::Nothing;
        ReasoningSplitter::new(Reasoning { tags, in_prompt })
    }

    /// Returns `reasoning|text`.
    fn run<'a>(
        mut splitter: ReasoningSplitter,
        pieces: impl IntoIterator<Item = &'a str>,
    ) -> String {
        let mut whole = Split::default();
        let splits: Vec<_> = pieces
            .into_iter()
            .map(|piece| splitter.push(piece))
            .collect();
        for split in splits.into_iter().chain([splitter.finish(false)]) {
            whole.reasoning += &split.reasoning;
            whole.text += &split.text;
        }
        format!("{}|{}", whole.reasoning, whole.text)
    }

    #[track_caller]
    fn check(in_prompt: InPrompt, text: &str, expected: &str) {
        check_splitter(|| splitter(in_prompt), text, expected);
    }

    #[track_caller]
    fn check_channels(text: &str, expected: &str) {
        check_splitter(channels, text, expected);
    }

    #[track_caller]
    fn check_splitter(new: impl Fn() -> ReasoningSplitter, text: &str, expected: &str) {
        let borders: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        for &first in borders.iter().chain([&text.len()]) {
            for &second in borders.iter().filter(|&&second| second >= first) {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(run(new(), pieces), expected, "{pieces:?}");
            }
        }
        let characters = text
            .char_indices()
            .map(|(at, c)| &text[at..at + c.len_utf8()]);
        assert_eq!(run(new(), characters), expected);
    }

    #[test]
    fn reasoning_comes_first() {
        let text = "<think>\nLet me\n\nsee </thin </think>\n\nYes. <think>";
        check(InPrompt::Nothing, text, "Let me\n\nsee </thin|Yes. <think>");
        check(InPrompt::Nothing, " \n<think>é</think>ü", "é|ü");
        check(InPrompt::Closed, "<think>\n\n</think>\n\nYes", "|Yes");
    }

    #[test]
    fn without_reasoning_the_text_is_untouched() {
        for text in ["", " Hi\n", "a <think>b</think>", "<thin", "  ", "</think>"] {
            check(InPrompt::Nothing, text, &format!("|{text}"));
        }
    }

    #[test]
    fn reasoning_may_be_opened_by_the_prompt() {
        check(InPrompt::Opened, "\nhm\n</think>\n\nYes", "hm|Yes");
        check(InPrompt::Opened, "<think>\nhm</think>Yes", "hm|Yes");
        check(InPrompt::Opened, "hm", "hm|");
    }

    #[test]
    fn reasoning_that_is_cut_off_is_reasoning() {
        check(InPrompt::Nothing, "<think>\nhm </thi", "hm </thi|");
        check(InPrompt::Opened, "", "|");
    }

    #[test]
    fn headers_of_channels_are_left_out_however_they_vary() {
        let final_headers = ["", " <|constrain|>json", " json", " <|constrain|>JSON "]
            .map(|middle| format!("<|channel|>final{middle}<|message|>"));
        let to_assistant = ["", " <|constrain|>json"]
            .map(|middle| format!("<|channel|>commentary to=assistant{middle}<|message|>"));
        for header in final_headers.iter().chain(&to_assistant) {
            let text = format!("{header}Yes");
            check_channels(&text, "|Yes");
            let thought = "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant";
            check_channels(&format!("{thought}{text}"), "Hm|Yes");
        }
    }

    #[test]
    fn what_is_no_header_stays_text() {
        let long = format!("<|channel|>final{}<|message|>!", "x".repeat(65));
        let call = "<|channel|>commentary to=functions.f json<|message|>{}";
        let behind = "<|channel|>final<|channel|>commentary to=functions.f<|message|>{}";
        for text in [
            &long,
            call,
            behind,
            "<|channel|>final so",
            "a <|channel|>fin",
        ] {
            check_channels(text, &format!("|{text}"));
        }
    }

    #[test]
    fn a_header_that_is_cut_off_is_dropped() {
        for cut in [
            "<|channel|>fi",
            "<|channel|>final <|constr",
            "<|channel|>commentary to=assistant<",
        ] {
            let mut splitter = channels();
            let mut text = splitter.push("Yes ").text;
            text += &splitter.push(cut).text;
            text += &splitter.finish(true).text;
            assert_eq!(text, "Yes ", "{cut}");
        }
    }

    #[test]
    fn it_knows_when_it_is_inside() {
        let mut splitter = splitter(InPrompt::Nothing);
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
    fn a_begun_answer_may_have_reasoning() {
        let tags = ReasoningTags::new("<think>", "</think>");
        for (text, expected) in [
            ("<think>a</think><think>b", InPrompt::Opened),
            ("<think>a", InPrompt::Opened),
            ("<think>a</think>b", InPrompt::Closed),
            ("a</think>b", InPrompt::Closed),
            ("a", InPrompt::Nothing),
        ] {
            assert_eq!(tags.in_begun(text), expected, "{text}");
        }
    }
}
